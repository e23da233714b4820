"""Dynamic dimensions: what cannot be as free as the contract says is refused in the contract's words."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from export_models import FixedLength, Linear, Positions
from export_subject import Make, rules
from torch import Tensor, nn

from shipworthy.errors import ExportError
from shipworthy.exporters.job import Job, cases_of
from shipworthy.exporters.noise import collected
from shipworthy.exporters.program import to_program

STEPS = ["batch", "steps", 3]


class Recurrent(nn.Module):
    def __init__(self, kind: type[nn.Module]) -> None:
        super().__init__()
        self.cell, self.head = kind(3, 8, batch_first=True), nn.Linear(8, 2)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.cell(x)[0][:, -1])


class CountedRows(nn.Module):
    """int() of a size is a number for a trace, which then holds for one batch size only."""

    def forward(self, x: Tensor) -> Tensor:
        return x + torch.ones(int(x.size(0)), 4)


def test_a_bound_that_the_model_has_is_suggested(subject: Make) -> None:
    with pytest.raises(ExportError, match="dimension 'steps'") as caught:
        subject(Positions(), {"x": STEPS}, steps=(2, 6, 20)).export("aoti")
    assert 'write "steps:1..32" in the contract' in str(caught.value)


def test_with_the_bound_it_exports(subject: Make) -> None:
    tried = subject(Positions(), {"x": ["batch", "steps:1..32", 3]}, steps=(1, 6, 32))
    tried.assert_like_eager(tried.export("onnxruntime"))


def test_a_size_that_the_code_fixes_is_named(subject: Make) -> None:
    outputs = {"output": {"dtype": "float32", "shape": ["batch", 2]}}
    with pytest.raises(ExportError, match="dimension 'width'") as caught:
        subject(FixedLength(), {"x": ["batch", "width"]}, width=(6,), outputs=outputs).export("aoti")
    assert '"width" becomes 6' in str(caught.value)


@pytest.mark.parametrize("engine", ["torchscript", "onnxruntime", "openvino"])
def test_a_batch_of_one_as_the_only_probe_fixes_nothing(engine: str, subject: Make) -> None:
    tried = subject(Linear(), {"x": ["batch", 4]})
    single = {"x": tried.probes[0]["x"][:1]}
    exported = type(tried)(tried.model, tried.contract, (single,), tried.directory).export(engine)
    tried.assert_like_eager(exported, {"x": np.ones((7, 4), "float32")})


@pytest.mark.full
@pytest.mark.parametrize("kind", [nn.LSTM, nn.GRU])
def test_recurrent_layers_export_with_a_free_length(kind: type[nn.Module], subject: Make, tmp_path: Path) -> None:
    tried = subject(Recurrent(kind), {"x": STEPS}, steps=(1, 6, 20))
    cases = cases_of(tried.model, tried.contract.signature, tried.probes)
    for _ in range(2):
        with collected():
            program = to_program(Job(tried.model, tried.contract, "aoti", "fp32", tmp_path, cases)).module()
        for steps in (1, 4, 33):
            x = torch.randn(3, steps, 3)
            torch.testing.assert_close(program(x), tried.model.module(x), rtol=1e-4, atol=1e-4)  # type: ignore[misc]


@pytest.mark.full
def test_a_size_that_becomes_a_number_is_wrong_in_a_trace_only(subject: Make) -> None:
    tried = subject(CountedRows(), {"x": ["batch", 4]})
    exported = tried.export("torchscript")
    assert exported.route == "script"
    assert rules(exported) == ["trace-froze-branch"]
    assert "fails where eager does not" in exported.findings[0].why
    for engine in ("onnxruntime", "openvino"):
        tried.assert_like_eager(tried.export(engine), {"x": np.ones((9, 4), "float32")})
