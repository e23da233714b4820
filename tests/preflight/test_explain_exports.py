"""What torch.export, TorchScript, ONNX and its runtime refuse, really refused, and what is said of it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import onnx
import onnxruntime
import pytest
import torch
from torch import nn

from shipworthy.preflight import explain

X = torch.zeros(2, 4)


class Branch(nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        if x.sum() > 0:
            return x + 1
        return x - 1


class Fixed(nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x.reshape(2, 4) * 2


class Spectrum(nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.linalg.svd(x)[1]


class Lambda(nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return sorted([x], key=lambda value: value.sum())[0]


def exported(module: nn.Module) -> Any:
    return torch.export.export(module, (X,), dynamic_shapes=({0: torch.export.Dim("batch")},))


def onnx_with(op: str, domain: str = "") -> onnx.ModelProto:
    value = onnx.helper.make_tensor_value_info
    ends = [value(name, onnx.TensorProto.FLOAT, [2]) for name in ("x", "y")]
    graph = onnx.helper.make_graph([onnx.helper.make_node(op, ["x"], ["y"], domain=domain)], "g", ends[:1], ends[1:])
    opsets = [onnx.helper.make_opsetid("", 18), onnx.helper.make_opsetid("mine", 1)]
    return onnx.helper.make_model(graph, opset_imports=opsets, ir_version=9)


def opened(model: onnx.ModelProto) -> None:
    onnxruntime.InferenceSession(model.SerializeToString())


@pytest.mark.parametrize(
    ("kind", "fail", "words"),
    [
        ("export", lambda: onnx.checker.check_model(onnx_with("Nope")), ["no operator Nope"]),
        ("export", lambda: opened(onnx_with("Nope")), ["no operator Nope"]),
        ("export", lambda: opened(onnx_with("Nope", "mine")), ["no operator mine:Nope"]),
        ("branch", lambda: exported(Branch()), ["values of a tensor", "if x.sum() > 0:", "torch.where"]),
        ("size", lambda: exported(Fixed()), ["calls dynamic (batch to 2)", "x.flatten(1)"]),
        (
            "export",
            lambda: torch.onnx.export(Spectrum(), (X,), dynamo=True, verbose=False),
            ["no operator for _linalg_svd"],
        ),
        ("export", lambda: torch.jit.script(Lambda()), ["TorchScript does not know", "Lambda"]),
    ],
    ids=["checker", "runtime", "own operator", "data-dependent", "specialised", "onnx", "script"],
)
@pytest.mark.filterwarnings("ignore")
def test_a_failed_export_is_explained(kind: str, fail: Callable[[], Any], words: list[str]) -> None:
    with pytest.raises(Exception) as caught:
        fail()
    got = explain(caught.value)
    text = f"{got.cause} | {got.remedy}"
    assert all(word in text for word in words), text
    assert got.kind == kind
