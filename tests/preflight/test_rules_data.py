"""Rules on batches, sizes, numbers and weights: one model that each speaks of, and one that it does not."""

from __future__ import annotations

import warnings
from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from shipworthy.evidence import Finding
from shipworthy.model import LoadedModel, from_module

Ask = Callable[..., list[Finding]]

TEXT = {"ids": {"dtype": "int64", "shape": ["batch", "tokens:1..12"]}}


def single(found: list[Finding], rule: str, severity: str) -> Finding:
    assert [(f.rule, f.severity) for f in found] == [(rule, severity)], found
    assert found[0].why and found[0].remedy and found[0].where
    return found[0]


class Then(nn.Module):
    """A layer and what is done with its result."""

    def __init__(self, compute: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.layer = nn.Linear(4, 4)
        self.compute = compute

    def forward(self, x: Tensor) -> Tensor:
        return self.compute(self.layer(x))


def test_a_softmax_over_the_batch(ask: Ask) -> None:
    finding = single(ask("batch-coupling", Then(lambda x: x.softmax(0))), "batch-coupling", "error")
    assert finding.where == "the model itself" and "output by" in finding.why
    assert ask("batch-coupling", Then(lambda x: x.softmax(1))) == []


def test_a_batch_norm_without_running_statistics_is_named(ask: Ask) -> None:
    norm = nn.BatchNorm1d(4, track_running_stats=False)
    finding = single(ask("batch-coupling", nn.Sequential(nn.Linear(4, 4), norm, nn.ReLU())), "batch-coupling", "error")
    assert finding.where == "1"
    assert ask("batch-coupling", nn.Sequential(nn.Linear(4, 4), nn.BatchNorm1d(4)).eval()) == []


def test_a_batch_that_is_always_one_cannot_couple(ask: Ask) -> None:
    one = {"x": {"dtype": "float32", "shape": ["batch:1..1", 4]}}
    assert ask("batch-coupling", Then(lambda x: x.softmax(0)), one) == []


def test_a_batch_size_written_into_the_model(ask: Ask) -> None:
    finding = single(ask("fixed-size", Then(lambda x: x.reshape(2, 4))), "fixed-size", "error")
    assert finding.where == "batch"
    assert "at batch = 1 (with 2 it runs): 4 values cannot be laid out as [2, 4]" in finding.why
    assert "test_rules_data.py:" in finding.why


def test_a_batch_that_is_folded_into_the_features(ask: Ask) -> None:
    finding = single(ask("fixed-size", Then(lambda x: x.reshape(-1, 2))), "fixed-size", "error")
    assert "where the first dimension should be the batch" in finding.why


def test_a_squeeze_that_drops_a_batch_of_one(ask: Ask) -> None:
    finding = single(ask("fixed-size", Then(lambda x: x.squeeze())), "fixed-size", "error")
    assert "at batch = 1 (with 2 it runs): output output is [4]" in finding.why


class Positions(nn.Module):
    """Knows eight positions, and the contract allows twelve."""

    def __init__(self, count: int) -> None:
        super().__init__()
        self.tokens = nn.Embedding(20, 4)
        self.places = nn.Embedding(count, 4)

    def forward(self, ids: Tensor) -> Tensor:
        return (self.tokens(ids) + self.places(torch.arange(ids.shape[1]))).mean(1)


def test_a_sequence_length_written_into_the_model(ask: Ask) -> None:
    finding = single(ask("fixed-size", Positions(8), TEXT), "fixed-size", "error")
    assert finding.where == "tokens" and "at tokens = 12 (with 6 it runs)" in finding.why
    assert ask("fixed-size", Positions(12), TEXT) == []


class Loops(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return torch.stack([row * 2 for row in x])


def test_a_size_that_only_the_export_would_fix(ask: Ask) -> None:
    finding = single(ask("fixed-size", Loops()), "fixed-size", "warning")
    assert finding.where == "batch" and "fix its graph to 2" in finding.why


def test_a_recurrent_layer_has_its_own_remedy(ask: Ask) -> None:
    steps = {"x": {"dtype": "float32", "shape": ["batch", "steps:1..9", 4]}}
    finding = single(ask("fixed-size", nn.GRU(4, 4, batch_first=True), steps), "fixed-size", "error")
    assert "output output_1 is [1, 2, 4], where the first dimension should be the batch, 2" in finding.why

    class Last(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.gru = nn.GRU(4, 4, batch_first=True)

        def forward(self, x: Tensor) -> Tensor:
            return self.gru(x)[0][:, -1]

    finding = single(ask("fixed-size", Last(), steps), "fixed-size", "note")
    assert "unrolls LSTM and GRU" in finding.remedy


class Bounded(nn.Module):
    """Has places for 64 steps, and cuts them to the length of its input."""

    def __init__(self) -> None:
        super().__init__()
        self.places = nn.Parameter(torch.zeros(1, 64, 4))

    def forward(self, x: Tensor) -> Tensor:
        return (x + self.places[:, : x.shape[1]]).mean(1)


def test_a_bound_that_the_contract_does_not_state(ask: Ask) -> None:
    free = {"x": {"dtype": "float32", "shape": ["batch", "steps", 4]}}
    finding = single(ask("fixed-size", Bounded(), free), "fixed-size", "warning")
    assert finding.where == "steps" and "max=64" in finding.why and "name:min..max" in finding.remedy
    assert ask("fixed-size", Bounded(), {"x": {"dtype": "float32", "shape": ["batch", "steps:1..64", 4]}}) == []


def test_a_weight_that_is_no_number(ask: Ask) -> None:
    model = nn.Sequential(nn.Linear(4, 4))
    with torch.no_grad():
        model[0].weight[0, :2] = float("nan")
    finding = single(ask("finite-weights", model), "non-finite", "error")
    assert finding.where == "0.weight" and "2 of 16" in finding.why
    assert single(ask("non-finite", model), "non-finite", "error").where == "0"


def test_the_first_nan_names_its_layer_and_line(ask: Ask) -> None:
    model = nn.Sequential(Then(lambda x: x), Then(lambda x: x.sqrt()), nn.ReLU())
    finding = single(ask("non-finite", model), "non-finite", "error")
    assert finding.where == "1"
    assert "first from aten.sqrt" in finding.why and "x.sqrt()" in finding.why


def test_a_division_by_a_norm_fails_on_zeros_only(ask: Ask) -> None:
    class Unit(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return x / x.norm(dim=1, keepdim=True)

    finding = single(ask("non-finite", Unit()), "non-finite", "warning")
    assert "on an input of zeros" in finding.why and "aten.div" in finding.why


def test_an_infinity_on_the_way_may_be_meant(ask: Ask) -> None:
    masked = Then(lambda x: x.masked_fill(torch.eye(4)[0].bool(), float("-inf")).softmax(-1))
    assert ask("non-finite", masked) == []


class Unused(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Linear(4, 4)
        self.auxiliary = nn.Linear(4, 250)

    def forward(self, x: Tensor) -> Tensor:
        return self.body(x)


def test_weights_that_nothing_uses(ask: Ask) -> None:
    finding = single(ask("unused-weights", Unused()), "unused-weights", "warning")
    assert finding.where == "auxiliary.weight" and "2 parameters (0.005 MB)" in finding.why


class Either(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.up = nn.Linear(4, 2)
        self.down = nn.Linear(4, 2)

    def forward(self, x: Tensor) -> Tensor:
        return self.up(x) if x.sum() > 0 else self.down(x)


def test_weights_of_both_branches_are_used(ask: Ask) -> None:
    assert ask("unused-weights", Either()) == []


@pytest.mark.filterwarnings("ignore")
def test_weights_behind_a_parametrization_are_used(ask: Ask) -> None:
    layer = torch.nn.utils.parametrizations.weight_norm(nn.Linear(4, 4))
    assert ask("unused-weights", nn.Sequential(layer)) == []


def test_shared_weights(ask: Ask) -> None:
    model = nn.Sequential(nn.Linear(4, 4), nn.Linear(4, 4))
    assert ask("shared-weights", model) == []
    model[1].weight = model[0].weight
    assert "0.weight and 1.weight share" in single(ask("shared-weights", model), "shared-weights", "note").why


def scripted(module: nn.Module) -> LoadedModel:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return from_module(torch.jit.script(module.eval()))


class Coupled(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x - x.mean(0)


class Noisy(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return torch.nn.functional.dropout(x, 0.5, True)


def test_rules_that_only_run_the_model_work_on_torchscript(ask: Ask) -> None:
    assert single(ask("batch-coupling", scripted(Coupled())), "batch-coupling", "error").where == "output"
    assert single(ask("randomness", scripted(Noisy())), "randomness", "error").where == "the model itself"
    assert ask("unused-weights", scripted(Unused()))[0].where == "auxiliary.weight"
    for rule in ("runs", "repeatable", "randomness", "batch-coupling", "fixed-size", "non-finite", "dtype"):
        assert ask(rule, scripted(nn.Sequential(nn.Linear(4, 2)))) == []
