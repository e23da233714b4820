"""Training steps: the losses of the tasks, the user's own, and what is refused of them."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from test_training_loop import CLASSES, net, points
from torch import Tensor, nn

from shipworthy.compress.methods import Training
from shipworthy.compress.training import default_step, resolve_step, train, validator
from shipworthy.contract import Contract
from shipworthy.data import Chunk, Dataset
from shipworthy.errors import CompressError, ContractError, DataError, ModelError

pytestmark = pytest.mark.usefixtures("single_threaded")


def contract(kind: str, outputs: list[Any], meaning: str = "logits", dtype: str = "float32") -> Contract:
    return Contract.model_validate(
        {
            "name": "net",
            "inputs": {"x": {"dtype": "float32", "shape": ["batch", *outputs]}},
            "outputs": {"y": {"dtype": dtype, "shape": ["batch", *outputs], "kind": meaning}},
            "task": {"kind": kind},
        }
    )


class Echo(nn.Module):
    """Its input, with a weight of 1 that can be trained."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(()))

    def forward(self, x: Tensor) -> Tensor:
        return self.weight * x


def loss(stated: Contract, x: Any, targets: Any) -> float:
    found = default_step(stated)(Echo(), {"x": torch.tensor(x)}, torch.tensor(targets))
    found.backward()  # type: ignore[no-untyped-call]
    return found.item()


def test_classification_is_cross_entropy() -> None:
    scores = [[0.0, math.log(3.0)], [0.0, 0.0]]
    assert loss(contract("classification", [2]), scores, [1, 0]) == pytest.approx((-math.log(0.75) - math.log(0.5)) / 2)


def test_probabilities_have_their_logarithm_taken() -> None:
    stated = contract("classification", [2], "probabilities")
    assert loss(stated, [[0.25, 0.75]], [1]) == pytest.approx(-math.log(0.75))
    assert math.isfinite(loss(stated, [[1.0, 0.0]], [1]))


def test_one_score_is_that_of_class_one() -> None:
    assert loss(contract("classification", [1]), [[math.log(3.0)]], [1]) == pytest.approx(-math.log(0.75))


def test_a_class_for_each_position() -> None:
    stated = contract("classification", [3, 2])
    scores = np.zeros((4, 3, 2), np.float32)
    assert loss(stated, scores, np.ones((4, 3), np.int64)) == pytest.approx(math.log(2))


def test_multilabel_is_binary_cross_entropy() -> None:
    found = loss(contract("multilabel", [2]), [[math.log(3.0), 0.0]], [[1, 0]])
    assert found == pytest.approx((-math.log(0.75) - math.log(0.5)) / 2)
    assert loss(contract("multilabel", [2], "probabilities"), [[0.75, 0.5]], [[1, 0]]) == pytest.approx(found)


def test_regression_is_the_mean_squared_error_and_does_not_broadcast() -> None:
    stated = contract("regression", [1], "values")
    assert loss(stated, [[1.0], [3.0]], [2.0, 5.0]) == pytest.approx(2.5)


@pytest.mark.parametrize(
    ("kind", "shape", "targets"),
    [
        ("classification", [3], [0, 1, 2, 0]),
        ("classification", [3], [0.5, 1.5]),
        ("multilabel", [3], [[0, 1], [1, 0]]),
        ("regression", [1], [[1.0, 2.0], [1.0, 2.0]]),
    ],
)
def test_targets_that_do_not_fit_are_refused_with_their_shape(kind: str, shape: list[int], targets: Any) -> None:
    with pytest.raises(DataError, match=r"the training targets: expected .* got (int64|float32) \["):
        loss(contract(kind, shape), np.zeros((2, *shape), np.float32), targets)


def test_a_task_without_a_loss_asks_for_a_step() -> None:
    with pytest.raises(ContractError, match=r"search\.train_step: is needed: a task of the kind 'embedding'"):
        default_step(contract("embedding", [3], "values"))


def test_answers_that_are_integers_cannot_be_trained_on() -> None:
    stated = contract("classification", [], "values", dtype="int64")
    with pytest.raises(CompressError, match="is int64, which cannot be trained on; give a train_step"):
        default_step(stated)(nn.Sequential(Echo(), _Argmax()), {"x": torch.zeros(2, 3)}, torch.zeros(2))


class _Argmax(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x.argmax(-1)


STEP = """
from torch.nn import functional

calls = []

def step(model, inputs, targets):
    calls.append(len(targets))
    return functional.cross_entropy(model(inputs["x"]), targets)

def wrong(model, inputs, targets):
    return functional.cross_entropy(model(inputs["y"]), targets)

nothing = 3
"""


def test_the_step_that_the_contract_names_is_run(project: Callable[..., Contract]) -> None:
    import sys

    stated = project(STEP, folder="steps", search={"train_step": "train:step"})
    train(
        net(), resolve_step(stated), points(), Training(epochs=1), validate=None, checkpoint=None, told=lambda _: None
    )
    assert sum(sys.modules["train"].calls) == len(points())


def test_a_step_that_fails_is_blamed_by_its_own_line(project: Callable[..., Contract]) -> None:
    stated = project(STEP, folder="wrong", search={"train_step": "train:wrong"})
    with pytest.raises(CompressError, match=r"search.train_step = 'train:wrong': raises KeyError at train.py:11: 'y'"):
        resolve_step(stated)(net(), {"x": torch.zeros(2, 4)}, torch.zeros(2))


def test_a_name_that_is_no_step_is_refused(project: Callable[..., Contract]) -> None:
    with pytest.raises(ContractError, match="'train:nothing' is a int"):
        resolve_step(project(STEP, folder="nothing", search={"train_step": "train:nothing"}))
    with pytest.raises(ModelError, match="did you mean 'step'"):
        resolve_step(project(STEP, folder="missing", search={"train_step": "train:steep"}))


@pytest.mark.parametrize(
    ("given", "got"),
    [
        (lambda m, i, t: m(i["x"]).mean().item(), "got a float"),
        (lambda m, i, t: m(i["x"]), r"got a tensor of shape \[2, 3\]"),
        (lambda m, i, t: m(i["x"]).mean().detach(), "got a tensor without a gradient"),
        (lambda m, i, t: None, "got a NoneType"),
    ],
)
def test_a_result_that_is_no_loss_is_refused(given: Any, got: str) -> None:
    with pytest.raises(CompressError, match=f"expected a scalar loss that can be differentiated, {got}"):
        resolve_step(CLASSES, given)(net(), {"x": torch.zeros(2, 4)}, torch.zeros(2))


def test_a_loss_that_was_differentiated_already_is_refused() -> None:
    def step(model: nn.Module, inputs: dict[str, Tensor], targets: Tensor) -> Tensor:
        found = nn.functional.cross_entropy(model(inputs["x"]), targets)
        found.backward()  # type: ignore[no-untyped-call]
        return found

    with pytest.raises(CompressError, match=r"the training itself calls backward\(\)"):
        train(net(), step, points(), Training(epochs=1), validate=None, checkpoint=None, told=lambda _: None)


def test_what_is_no_function_is_refused() -> None:
    with pytest.raises(CompressError, match="train_step: is a int"):
        resolve_step(CLASSES, 3)  # type: ignore[arg-type]


def test_validation_gives_the_contracts_metric() -> None:
    data = points(30)
    validate = validator(CLASSES, data)
    assert validate is not None
    module = net()
    answers = module(torch.from_numpy(data.chunks[0].inputs["x"])).argmax(1).numpy()
    assert validate(module.train()) == pytest.approx((answers == data.chunks[0].targets).mean())
    assert not module.training


def test_validation_needs_data_with_targets_or_a_reference() -> None:
    unlabelled = Dataset((Chunk(points().chunks[0].inputs),))
    assert validator(CLASSES, None) is None
    assert validator(CLASSES, unlabelled) is None
    embedding = contract("embedding", [4], "values")
    data = Dataset((Chunk({"x": np.ones((3, 4), np.float32)}),))
    assert validator(embedding, data) is None
    against = validator(embedding, data, Echo())
    assert against is not None
    assert against(Echo()) == pytest.approx(1.0)


def test_a_metric_that_is_not_defined_is_an_error() -> None:
    stated = contract("regression", [1], "values")
    validate = validator(stated, Dataset((Chunk({"x": np.ones((3, 1), np.float32)}, np.ones(3)),)))
    assert validate is not None
    with pytest.raises(DataError, match="r2 is not defined on them"):
        validate(Echo())
