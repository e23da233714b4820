"""The loop: what it trains on, what it keeps, and what it leaves as it was."""

from __future__ import annotations

import random
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

from shipworthy.compress.methods import Training
from shipworthy.compress.training import Loader, default_step, train, validator
from shipworthy.contract import Contract
from shipworthy.data import Chunk, Dataset, as_dataset
from shipworthy.errors import CompressError
from shipworthy.evidence import Epoch

pytestmark = pytest.mark.usefixtures("single_threaded")

CLASSES = Contract.model_validate(
    {
        "name": "points",
        "inputs": {"x": {"dtype": "float32", "shape": ["batch", 4]}},
        "outputs": {"logits": {"dtype": "float32", "shape": ["batch", 3], "kind": "logits"}},
        "task": {"kind": "classification"},
    }
)


def points(count: int = 61, seed: int = 0) -> Dataset:
    """Three clouds that a line can tell apart."""
    numbers = np.random.default_rng(seed)
    classes = np.arange(count) % 3
    x = numbers.standard_normal((count, 4)) + 3 * np.eye(4)[classes]
    return as_dataset({"x": x.astype(np.float32), "label": classes}, CLASSES)


def net(seed: int = 0) -> nn.Module:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return nn.Sequential(nn.Linear(4, 16), nn.BatchNorm1d(16), nn.ReLU(), nn.Dropout(0.2), nn.Linear(16, 3)).eval()


def bits(module: nn.Module) -> list[bytes]:
    return [value.numpy().tobytes() for value in module.state_dict().values()]


def trained(module: nn.Module, data: Any = None, **changed: Any) -> tuple[Epoch, ...]:
    settings = changed.pop("settings", Training(epochs=3, lr=1e-2))
    arguments = {"validate": None, "checkpoint": None, "told": lambda epoch: None, **changed}
    step = arguments.pop("step", None) or default_step(CLASSES)
    return train(module, step, data or points(), settings, **arguments)


def test_the_loss_falls_and_the_model_becomes_right() -> None:
    module, data = net(), points()
    validate = validator(CLASSES, points(90, seed=1))
    assert validate is not None
    before = validate(module)
    epochs = trained(module, data, settings=Training(epochs=20, lr=1e-2), validate=validate)
    assert epochs[-1].loss < epochs[0].loss / 2
    assert before < 0.8 < validate(module)
    assert [epoch.number for epoch in epochs] == list(range(1, len(epochs) + 1))


def test_layers_are_in_training_mode_in_a_step_and_in_evaluation_mode_afterwards() -> None:
    module, seen = net(), []

    def step(model: nn.Module, inputs: dict[str, Tensor], targets: Tensor) -> Tensor:
        seen.append({layer.training for layer in model.modules()})
        return nn.functional.cross_entropy(model(inputs["x"]), targets)

    trained(module, step=step)
    assert all(modes == {True} for modes in seen)
    assert not any(layer.training for layer in module.modules())
    assert all(parameter.grad is None for parameter in module.parameters())


def test_the_callers_random_states_are_as_before() -> None:
    torch.manual_seed(3)
    np.random.seed(3)
    random.seed(3)
    states = torch.get_rng_state(), np.random.get_state()[1].copy(), random.getstate()
    trained(net())
    assert torch.equal(states[0], torch.get_rng_state())
    assert (states[1] == np.random.get_state()[1]).all()
    assert states[2] == random.getstate()


def test_the_seed_alone_decides_the_bits() -> None:
    first, second, other = net(), net(), net()
    trained(first)
    torch.manual_seed(99)
    trained(second)
    trained(other, settings=Training(epochs=3, lr=1e-2, seed=1))
    assert bits(first) == bits(second) != bits(other)


def test_every_sample_is_seen_once_in_an_epoch_and_shapes_do_not_mix() -> None:
    chunks = [
        Chunk({"x": np.full((n, width), width, np.float32) + np.arange(n, dtype=np.float32)[:, None]})
        for n, width in ((17, 2), (4, 3))
    ]
    seen: list[Tensor] = []

    def step(model: nn.Module, inputs: dict[str, Tensor], targets: Tensor) -> Tensor:
        seen.append(inputs["x"])
        assert targets.shape == (len(inputs["x"]), 0)
        return model(inputs["x"].sum(1, keepdim=True)).mean()

    trained(nn.Linear(1, 1), Dataset(tuple(chunks)), step=step, settings=Training(epochs=2, batch=8))
    assert all(len(batch) > 1 for batch in seen)
    first = seen[: len(seen) // 2]
    rows = sorted(tuple(row.tolist()) for batch in first for row in batch)
    assert rows == sorted(tuple(row.tolist()) for chunk in chunks for row in chunk.inputs["x"])
    assert [batch.tolist() for batch in first] != [batch.tolist() for batch in seen[len(seen) // 2 :]]


def test_patience_ends_it_and_the_best_weights_come_back() -> None:
    module, answers, kept = net(), iter([0.1, 0.5, 0.9, 0.2, 0.3, 0.4]), []

    def validate(model: nn.Module) -> float:
        kept.append(bits(model))
        return next(answers)

    epochs = trained(module, settings=Training(epochs=50, patience=3, lr=1e-2), validate=validate)
    assert [epoch.validation for epoch in epochs] == [0.5, 0.9, 0.2, 0.3, 0.4]
    assert bits(module) == kept[2]


def test_of_equal_answers_the_least_loss_is_kept() -> None:
    module, kept, losses = net(), [], iter([4.0, 2.0, 3.0])

    def step(model: nn.Module, inputs: dict[str, Tensor], targets: Tensor) -> Tensor:
        return 0 * model(inputs["x"]).sum() + next(losses)

    def validate(model: nn.Module) -> float:
        kept.append(len(kept))
        with torch.no_grad():
            model[0].weight.fill_(float(len(kept)))
        return 0.5

    trained(module, step=step, settings=Training(epochs=3, batch=100, patience=None, lr=1e-9), validate=validate)
    assert module[0].weight.eq(3.0).all(), "the second epoch has the least loss; the start was seen before it"


def test_training_that_only_harms_leaves_the_weights_of_the_start() -> None:
    module, answers = net(), iter([0.9, 0.1, 0.2])
    before = bits(module)
    trained(module, settings=Training(epochs=2), validate=lambda _: next(answers))
    assert bits(module) == before


def test_a_given_optimiser_and_scheduler_are_used() -> None:
    made: list[Any] = []

    def optimizer(parameters: Any) -> torch.optim.Optimizer:
        made.append(torch.optim.SGD(parameters, lr=0.5))
        return made[-1]

    def scheduler(chosen: torch.optim.Optimizer) -> torch.optim.lr_scheduler.LRScheduler:
        return torch.optim.lr_scheduler.StepLR(chosen, 1, gamma=0.1)

    trained(net(), optimizer=optimizer, scheduler=scheduler)
    assert made[0].param_groups[0]["lr"] == pytest.approx(0.5e-3)


def test_a_plateau_scheduler_hears_of_the_loss() -> None:
    rates = []

    def scheduler(chosen: torch.optim.Optimizer) -> Any:
        rates.append(chosen)
        return torch.optim.lr_scheduler.ReduceLROnPlateau(chosen, patience=0, threshold=1e9, threshold_mode="abs")

    trained(net(), scheduler=scheduler)
    assert rates[0].param_groups[0]["lr"] < 1e-2


@pytest.mark.parametrize("which", ["optimizer", "scheduler"])
def test_what_is_neither_optimiser_nor_scheduler_is_refused(which: str) -> None:
    with pytest.raises(CompressError, match=f"{which}: gives a float"):
        trained(net(), **{which: lambda _: 0.1})


def test_a_data_loader_is_iterated_as_it_is() -> None:
    chunk = points().chunks[0]
    assert chunk.targets is not None
    pairs = TensorDataset(torch.from_numpy(chunk.inputs["x"]), torch.from_numpy(chunk.targets))
    sizes = []

    def step(model: nn.Module, inputs: dict[str, Tensor], targets: Tensor) -> Tensor:
        sizes.append(len(targets))
        return nn.functional.cross_entropy(model(inputs["x"]), targets)

    trained(net(), Loader(DataLoader(pairs, batch_size=16), CLASSES), step=step, settings=Training(epochs=1))
    assert sizes == [16, 16, 16, 13]


def test_a_loader_that_fails_is_blamed_by_its_own_line() -> None:
    def broken() -> Iterator[Any]:
        yield {"x": np.zeros((2, 4), np.float32), "label": np.array([0, 1])}
        raise OSError("the disk is gone")

    class Batches:
        def __iter__(self) -> Iterator[Any]:
            return broken()

    with pytest.raises(
        CompressError, match=r"data.train: raises OSError at test_training_loop.py:\d+: the disk is gone"
    ):
        trained(net(), Loader(Batches(), CLASSES))


def test_a_generator_that_is_spent_is_refused() -> None:
    batches = iter([{"x": np.zeros((2, 4), np.float32), "label": np.array([0, 1])}])
    with pytest.raises(CompressError, match="a generator serves one epoch"):
        trained(net(), Loader(batches, CLASSES))


def test_a_loss_that_is_not_finite_names_the_epoch_and_a_remedy() -> None:
    calls = iter(range(100))

    def step(model: nn.Module, inputs: dict[str, Tensor], targets: Tensor) -> Tensor:
        loss = model(inputs["x"]).sum()
        return loss * float("nan") if next(calls) == 3 else loss

    module = net()
    with pytest.raises(CompressError, match=r"the loss is nan in epoch 2, .*; lower the learning rate, to 0\.00"):
        trained(module, step=step)
    assert all(torch.isfinite(parameter).all() for parameter in module.parameters())


def test_a_model_whose_weights_are_all_frozen_is_trained_and_frozen_again() -> None:
    module = net().requires_grad_(False)
    before = bits(module)
    trained(module)
    assert bits(module) != before
    assert not any(parameter.requires_grad for parameter in module.parameters())


def test_weights_that_the_user_froze_stay() -> None:
    module = net()
    module[0].requires_grad_(False)
    before = module[0].weight.detach().clone()
    trained(module)
    assert torch.equal(module[0].weight, before)


def test_a_model_without_weights_is_refused() -> None:
    with pytest.raises(CompressError, match="no parameters that can be trained"):
        trained(nn.ReLU())


@pytest.mark.parametrize(
    ("settings", "why"),
    [({"epochs": -1}, "epochs"), ({"lr": 0}, "lr"), ({"batch": 0}, "batch"), ({"patience": 0}, "patience")],
)
def test_settings_that_cannot_be_are_refused(settings: dict[str, Any], why: str) -> None:
    with pytest.raises(CompressError, match=why):
        Training(**settings)


def test_regression_targets_take_the_precision_of_the_weights() -> None:
    seen: list[Tensor] = []

    def step(model: nn.Module, inputs: dict[str, Tensor], targets: Tensor) -> Tensor:
        seen.append(targets)
        return nn.functional.mse_loss(model(inputs["x"])[:, 0], targets)

    chunk = Chunk({"x": np.ones((4, 4), np.float32)}, np.ones(4))
    trained(net(), Dataset((chunk,)), step=step)
    assert {targets.dtype for targets in seen} == {torch.float32}
