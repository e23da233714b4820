"""Rules on running, modes, repeating and gradients: each with a model that it speaks of, and one that it does not."""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from shipworthy.evidence import Finding
from shipworthy.model.post import WithPost

Ask = Callable[..., list[Finding]]


class Computes(nn.Module):
    """A layer and a function behind it."""

    def __init__(self, compute: Callable[[Tensor], Any] = torch.relu) -> None:
        super().__init__()
        self.layer = nn.Linear(4, 4)
        self.compute = compute

    def forward(self, x: Tensor) -> Any:
        return self.compute(self.layer(x))


def single(found: list[Finding], rule: str, severity: str) -> Finding:
    assert [(f.rule, f.severity) for f in found] == [(rule, severity)], found
    assert found[0].why and found[0].remedy and found[0].where
    return found[0]


def test_a_model_that_runs(ask: Ask) -> None:
    assert ask("runs", Computes()) == []


def test_a_model_that_fails_is_explained(ask: Ask) -> None:
    finding = single(ask("runs", nn.Sequential(nn.Linear(5, 2))), "runs", "error")
    assert "takes 5 features and was given 4" in finding.why
    assert finding.where == "0 (Linear(in_features=5, out_features=2, bias=True))"


def test_numbers_of_the_wrong_kind_are_a_dtype_finding(ask: Ask) -> None:
    numbers = {"x": {"dtype": "int64", "shape": ["batch", 4]}}
    doubles = {"x": {"dtype": "float64", "shape": ["batch", 4]}}
    assert "int64 and float32" in single(ask("runs", Computes(), numbers), "dtype", "error").why
    assert "float64 and float32" in single(ask("runs", Computes(), doubles), "dtype", "error").why
    assert "got float32" in single(ask("runs", nn.Sequential(nn.Embedding(9, 2))), "dtype", "error").why
    assert ask("runs", nn.Sequential(nn.Embedding(9, 2)), numbers) == []


class Pair(nn.Module):
    def forward(self, ids: Tensor, mask: Tensor) -> Tensor:
        return ids * mask


def test_inputs_in_another_order_than_forward_takes_them(ask: Ask) -> None:
    spec = {"dtype": "float32", "shape": ["batch", 4]}
    finding = single(ask("input-order", Pair(), {"mask": spec, "ids": spec}), "input-order", "error")
    assert "lists mask, ids; forward, which gets them in order, takes ids, mask" in finding.why
    assert ask("input-order", Pair(), {"ids": spec, "mask": spec}) == []
    assert ask("input-order", Pair(), {"left": spec, "right": spec}) == []


def test_the_order_is_looked_for_behind_post_too(ask: Ask) -> None:
    spec = {"dtype": "float32", "shape": ["batch", 4]}
    model = WithPost(Pair(), nn.ReLU())
    single(ask("input-order", model, {"mask": spec, "ids": spec}), "input-order", "error")


def test_a_live_model_in_training_mode(ask: Ask) -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(4, 4), nn.BatchNorm1d(4))
    finding = single(ask("train-mode", model), "train-mode", "warning")
    assert finding.where == "1" and "its answers there differ: output by" in finding.why
    assert ask("train-mode", model.eval()) == []
    assert ask("train-mode", nn.Sequential(nn.Linear(4, 4)).train()) == []


class Stubborn(nn.Dropout):
    def train(self, mode: bool = True) -> Stubborn:
        self.training = True
        return self


def test_a_layer_that_stays_in_training_mode(ask: Ask) -> None:
    found = ask("train-mode", nn.Sequential(nn.Linear(4, 4), Stubborn()))
    assert (found[0].severity, found[0].where) == ("error", "1")


def test_a_dropout_that_forgets_the_mode(ask: Ask) -> None:
    model = Computes(lambda x: F.dropout(x, 0.5))
    assert "two runs of the same input" in single(ask("repeatable", model), "repeatable", "error").why
    finding = single(ask("randomness", model), "randomness", "error")
    assert "test_rules_running.py" in finding.why and "F.dropout(x, 0.5)" in finding.why


def test_a_dropout_that_follows_the_mode(ask: Ask) -> None:
    model = nn.Sequential(nn.Linear(4, 4), nn.Dropout(0.5), nn.LSTM(4, 4, 2, dropout=0.5))
    assert ask("repeatable", model.eval()) == []
    assert ask("randomness", model.eval()) == []


def test_random_numbers_name_their_layer(ask: Ask) -> None:
    finding = single(
        ask("randomness", nn.Sequential(nn.Linear(4, 4), Computes(torch.rand_like))), "randomness", "error"
    )
    assert finding.where == "1" and "rand" in finding.why


def test_random_numbers_of_python_and_numpy(ask: Ask) -> None:
    finding = single(ask("randomness", Computes(lambda x: x + random.random())), "randomness", "error")
    assert "draws from random;" in finding.why
    assert (
        "draws from numpy;"
        in single(ask("randomness", Computes(lambda x: x + float(np.random.rand()))), "randomness", "error").why
    )


class Grows(nn.Module):
    """Remembers how often it was called."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(4, 4)
        self.calls = 0

    def forward(self, x: Tensor) -> Tensor:
        self.calls += 1
        return self.layer(x) + self.calls


def test_a_memory_of_earlier_calls(ask: Ask) -> None:
    single(ask("repeatable", Grows()), "repeatable", "error")
    finding = single(ask("side-effects", Grows()), "side-effects", "warning")
    assert finding.where == "calls" and "an attribute" in finding.why


def test_gradients_are_measured(ask: Ask) -> None:
    model = nn.Sequential(nn.Linear(4, 1000), nn.ReLU(), nn.Linear(1000, 2))
    finding = single(ask("gradients", model), "gradients", "note")
    # The ReLU keeps its result, [2, 1000] of float32, which the last layer keeps too: once.
    assert "keeps 8.00 kB of activations for a batch of 2" in finding.why


def test_frozen_weights_record_nothing(ask: Ask) -> None:
    assert ask("gradients", nn.Sequential(nn.Linear(4, 8), nn.ReLU()).requires_grad_(False)) == []


class Forced(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(4, 4)

    def forward(self, x: Tensor) -> Tensor:
        with torch.enable_grad():
            return self.layer(x).exp()


def test_gradients_that_forward_switches_on(ask: Ask) -> None:
    finding = single(ask("gradients", Forced()), "gradients", "warning")
    assert "under no_grad it still keeps 32 B" in finding.why
