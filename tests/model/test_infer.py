"""What running a model at two sizes says of its outputs."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from shipworthy.contract import Contract
from shipworthy.data import probes
from shipworthy.errors import ContractError, ModelError
from shipworthy.model import from_module, infer_outputs


class Computes(nn.Module):
    """A module of one function."""

    def __init__(self, compute: Any) -> None:
        super().__init__()
        self.compute = compute

    def forward(self, *args: Tensor) -> Any:
        return self.compute(*args)


def contract(shape: list[Any], **more: Any) -> Contract:
    return Contract(**{"name": "m", "inputs": {"x": {"dtype": "float32", "shape": shape}}, **more})


def found(compute: Any, given: Contract, small: tuple[int, ...], large: tuple[int, ...]) -> dict[str, str]:
    rng = np.random.default_rng(0)
    feeds = [{"x": rng.standard_normal(shape).astype(np.float32)} for shape in (small, large)]
    filled = infer_outputs(from_module(Computes(compute)), given, *feeds)
    return {name: f"{spec.show()} {spec.kind}" for name, spec in filled.outputs.items()}


def test_classification_with_one_output_gives_logits_or_probabilities() -> None:
    given = contract(["batch", 4], task={"kind": "classification"})
    assert found(lambda x: x * 2, given, (2, 4), (3, 4)) == {"logits": "float32 [batch, 4] logits"}
    assert found(lambda x: x.softmax(-1), given, (2, 4), (3, 4)) == {
        "probabilities": "float32 [batch, 4] probabilities"
    }


def test_multilabel_probabilities_need_not_sum_to_one() -> None:
    given = contract(["batch", 4], task={"kind": "multilabel"})
    assert found(lambda x: x.sigmoid(), given, (2, 4), (3, 4)) == {"probabilities": "float32 [batch, 4] probabilities"}


def test_the_output_with_one_score_per_label_is_the_scored_one() -> None:
    given = contract(["batch", 4], task={"kind": "classification", "labels": ["a", "b", "c", "d"]})
    got = found(lambda x: {"hidden": x[:, :2], "scores": x, "best": x.argmax(-1)}, given, (2, 4), (3, 4))
    assert got == {
        "hidden": "float32 [batch, 2] values",
        "scores": "float32 [batch, 4] logits",
        "best": "int64 [batch] values",
    }


def test_dynamic_dimensions_get_the_name_of_the_input_they_follow() -> None:
    given = contract(["batch", "tokens:1..9", 4])
    got = found(lambda x: (x, x.transpose(0, 1), x.mean(1), x[:, 1:]), given, (2, 5, 4), (3, 7, 4))
    assert got == {
        "output_0": "float32 [batch, tokens:1..9, 4] values",
        "output_1": "float32 [tokens:1..9, batch, 4] values",
        "output_2": "float32 [batch, 4] values",
        "output_3": "float32 [batch, output_3_1, 4] values",
    }


def test_a_rank_that_changes_is_refused() -> None:
    with pytest.raises(ModelError, match=r"squeeze\(\) drops a batch of one"):
        found(lambda x: x.squeeze(0), contract(["batch", 4]), (1, 4), (3, 4))


def test_an_output_that_no_package_holds_is_refused() -> None:
    with pytest.raises(ModelError, match="complex64"):
        found(lambda x: torch.complex(x, x), contract(["batch", 4]), (2, 4), (3, 4))


def test_stated_outputs_are_kept_and_compared() -> None:
    stated = {"y": {"dtype": "float32", "shape": ["batch", 4], "kind": "logits"}}
    assert found(lambda x: x, contract(["batch", 4], outputs=stated), (2, 4), (3, 4)) == {
        "y": "float32 [batch, 4] logits"
    }
    with pytest.raises(ContractError, match=r"outputs\.y: expected float32 \[batch, 4\], got float32 \[2, 2\]"):
        found(lambda x: x[:, :2], contract(["batch", 4], outputs=stated), (2, 4), (3, 4))
    with pytest.raises(ModelError, match=r"has 2 outputs \(output_0, output_1\); the contract has y"):
        found(lambda x: (x, x), contract(["batch", 4], outputs=stated), (2, 4), (3, 4))


@pytest.mark.parametrize(
    ("shape", "compute", "expected"),
    [
        (["batch:4..", 6], lambda x: x[:, :3], "float32 [batch, 3]"),
        (["batch:2..8", "tokens:1..9"], lambda x: x[:, :1] * torch.ones(5), "float32 [batch, 5]"),
        (["batch:1..1", 6], lambda x: x[:, :3], "float32 [batch, 3]"),
        (["batch", 3, "height", "width"], lambda x: x[:, :2], "float32 [batch, 2, height, width]"),
        (["batch", "width", "height"], lambda x: x.transpose(1, 2), "float32 [batch, height, width]"),
    ],
    ids=["least batch", "bounded batch", "batch of one", "two free sizes", "two free sizes, swapped"],
)
def test_each_axis_is_named_by_the_input_that_it_follows(shape: list[Any], compute: Any, expected: str) -> None:
    given = contract(shape)
    filled = infer_outputs(from_module(Computes(compute)), given, *probes(given, None))
    assert filled.outputs["output"].show() == expected
