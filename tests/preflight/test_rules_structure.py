"""Rules on formats, devices, branches, side effects and support: a model that each speaks of, one that it does not."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from shipworthy.evidence import Finding

Ask = Callable[..., list[Finding]]


def single(found: list[Finding], rule: str, severity: str) -> Finding:
    assert [(f.rule, f.severity) for f in found] == [(rule, severity)], found
    assert found[0].why and found[0].remedy and found[0].where
    return found[0]


def mlp() -> nn.Sequential:
    return nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 2))


@pytest.mark.parametrize(
    "rule",
    [
        "dtype",
        "device",
        "branches",
        "side-effects",
        "batch-coupling",
        "fixed-size",
        "finite-weights",
        "non-finite",
        "unused-weights",
        "shared-weights",
        "exportable",
        "custom-autograd",
        "unsupported",
    ],
)
def test_nothing_is_said_of_a_good_model(ask: Ask, rule: str) -> None:
    assert ask(rule, mlp()) == []


def test_weights_of_float64(ask: Ask) -> None:
    doubles = {"x": {"dtype": "float64", "shape": ["batch", 4]}}
    assert "weights are float64" in single(ask("dtype", mlp().double(), doubles), "dtype", "warning").why


def test_weights_of_two_formats(ask: Ask) -> None:
    class Mixed(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.a = nn.Linear(4, 4)
            self.b = nn.Linear(4, 4).bfloat16()

        def forward(self, x: Tensor) -> Tensor:
            return self.b(self.a(x).bfloat16()).float()

    finding = single(ask("dtype", Mixed()), "dtype", "warning")
    assert "float32 (as a.weight), bfloat16 (as b.weight)" in finding.why


class Scale(nn.Module):
    def __init__(self, by: Any) -> None:
        super().__init__()
        self.register_buffer("by", torch.as_tensor(by))

    def forward(self, x: Tensor) -> Tensor:
        return x * self.by


def test_a_float64_constant_that_slipped_in(ask: Ask) -> None:
    finding = single(ask("dtype", nn.Sequential(nn.Linear(4, 4), Scale(np.ones(4)))), "dtype", "warning")
    assert finding.where == "1" and "return x * self.by" in finding.why
    assert ask("dtype", nn.Sequential(nn.Linear(4, 4), Scale(np.ones(4, np.float32)))) == []


class Hidden(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.mean = torch.ones(4)

    def forward(self, x: Tensor) -> Tensor:
        return x - self.mean


def test_a_tensor_that_does_not_move_with_the_model(ask: Ask) -> None:
    finding = single(ask("device", nn.Sequential(Hidden())), "device", "warning")
    assert finding.where == "0.mean" and "register_buffer('mean'" in finding.remedy
    assert ask("device", nn.Sequential(Scale(2.0), nn.LSTM(4, 4))) == []


class OnCuda(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        if x.shape[0] > 99:
            return x.to("cuda:0")
        return x


def test_a_device_written_into_forward(ask: Ask) -> None:
    finding = single(ask("device", nn.Sequential(OnCuda())), "device", "warning")
    assert 'return x.to("cuda:0")' in finding.why and "test_rules_structure.py:" in finding.why


class Gate(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.up = nn.Linear(4, 2)
        self.down = nn.Linear(4, 2)

    def forward(self, x: Tensor) -> Tensor:
        if x.sum() > 0:
            return self.up(x)
        return self.down(x)


class Chosen(Gate):
    def forward(self, x: Tensor) -> Tensor:
        return torch.where((x.sum(1) > 0)[:, None], self.up(x), self.down(x))


class Length(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x[:, : int(x.abs().max().item()) % 3 + 1].sum(1)


def test_a_branch_on_data(ask: Ask) -> None:
    torch.manual_seed(0)
    finding = single(ask("branches", nn.Sequential(Gate())), "branches", "warning")
    assert "test_rules_structure.py:" in finding.where and "if x.sum() > 0:" in finding.where
    assert "torch.export cannot follow" in finding.why
    assert "a trace of one input is wrong for another of the same shape: output by" in finding.why
    single(ask("branches", Length()), "branches", "warning")


def test_a_choice_by_where_and_a_branch_on_size_are_no_branch_on_data(ask: Ask) -> None:
    assert ask("branches", Chosen()) == []
    assert ask("branches", OnCuda()) == []


CALLS: list[int] = []


def remember(x: Tensor) -> None:
    CALLS.append(len(x))


class Effects(nn.Module):
    def __init__(self, what: str) -> None:
        super().__init__()
        self.what = what
        self.seen: dict[str, int] = {}
        self.register_buffer("count", torch.zeros(()))

    def forward(self, x: Tensor) -> Tensor:
        if self.what == "buffer":
            self.count += 1
        if self.what == "dict":
            self.seen[f"batch {len(x)}"] = self.seen.get(f"batch {len(x)}", 0) + 1
        if self.what == "global":
            remember(x)
        if self.what == "input":
            x += 1
        if self.what == "print":
            print("shape", x.shape)
        return x * 2


@pytest.mark.parametrize(
    ("what", "where", "severity"),
    [
        ("buffer", "0.count", "warning"),
        ("dict", "0.seen", "warning"),
        ("global", "test_rules_structure.CALLS", "warning"),
        ("input", "x", "warning"),
        ("print", "forward", "note"),
    ],
)
def test_what_forward_changes_is_named(ask: Ask, what: str, where: str, severity: str) -> None:
    CALLS.clear()
    assert single(ask("side-effects", nn.Sequential(Effects(what))), "side-effects", severity).where == where


def test_nothing_changed_is_nothing_said(ask: Ask) -> None:
    assert ask("side-effects", nn.Sequential(Effects("nothing"), nn.BatchNorm1d(4))) == []


class Square(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        ctx.save_for_backward(x)
        return x * x

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> Tensor:
        return 2 * ctx.saved_tensors[0] * grad


class Squares(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return Square.apply(x)


def test_an_autograd_function_names_its_layer(ask: Ask) -> None:
    finding = single(ask("custom-autograd", nn.Sequential(nn.Linear(4, 4), Squares())), "unsupported", "warning")
    assert finding.where == "1" and finding.why.startswith("Square is an autograd function")


@torch.library.custom_op("shipworthy_tests::twice", mutates_args=())
def twice(x: Tensor) -> Tensor:
    return x * 2


@twice.register_fake
def _(x: Tensor) -> Tensor:
    return torch.empty_like(x)


class Twice(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return torch.ops.shipworthy_tests.twice(x)


class Spectrum(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return torch.linalg.svd(x[:, None] * x[:, :, None])[1]


def test_an_operator_of_ones_own_names_its_layer(ask: Ask) -> None:
    finding = single(ask("unsupported", nn.Sequential(nn.Linear(4, 4), Twice())), "unsupported", "error")
    assert finding.where == "1" and "shipworthy_tests.twice is an operator of your own" in finding.why


def test_an_operator_that_onnx_lacks_names_its_layer(ask: Ask) -> None:
    finding = single(ask("unsupported", nn.Sequential(nn.Linear(4, 4), Spectrum())), "unsupported", "warning")
    assert finding.where == "1" and "aten._linalg_svd" in finding.why


def test_layers_that_engines_know_are_supported(ask: Ask) -> None:
    image = {"x": {"dtype": "float32", "shape": ["batch", 3, 8, 8]}}
    layers = nn.Sequential(
        nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.GELU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Softmax(-1)
    )
    assert ask("unsupported", layers.eval(), image) == []
    tokens = {"x": {"dtype": "float32", "shape": ["batch", "tokens:1..16", 8]}}
    assert ask("unsupported", nn.TransformerEncoderLayer(8, 2, 16, batch_first=True).eval(), tokens) == []


class Untraceable(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return torch.from_numpy(np.sqrt(np.abs(x.detach().numpy())))


def test_what_torch_export_refuses_is_told(ask: Ask) -> None:
    finding = single(ask("exportable", nn.Sequential(Untraceable())), "exportable", "warning")
    assert "torch.export makes no graph of it" in finding.why
    assert "np.sqrt" in finding.where or "test_rules_structure.py" in finding.where


def test_a_branch_is_not_told_twice(ask: Ask) -> None:
    assert ask("exportable", Gate()) == []
