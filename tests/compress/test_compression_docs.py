"""The Python lines of docs/compression.md, run as they stand there."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest
import torch
from quantize_subjects import trained_digits
from torch import nn

_DOCS = Path(__file__).parent.parent.parent / "docs" / "compression.md"
_CONTRACT = """
name = "digits"
model = "net:Net"

[inputs.x]
dtype = "float32"
shape = ["batch", 1, 8, 8]

[task]
kind = "classification"

[data]
train = "train.npz"
calibration = "train.npz"
validation = "validation.npz"
metric = "accuracy"

[limits]
max_metric_drop = 0.05
"""


class _Student(nn.Sequential):
    def __init__(self) -> None:
        super().__init__(nn.Conv2d(1, 8, 3), nn.ReLU(), nn.Flatten(), nn.Linear(8 * 36, 10))


@pytest.mark.full
@pytest.mark.usefixtures("single_threaded")
def test_the_lines_of_the_docs_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    net, fitted, held = trained_digits(epochs=3)
    (tmp_path / "shipworthy.toml").write_text(_CONTRACT)
    for name, data, rows in (("train", fitted, 256), ("validation", held, 200)):
        chunk = data.chunks[0]
        assert chunk.targets is not None
        np.savez(tmp_path / f"{name}.npz", x=chunk.inputs["x"][:rows], label=chunk.targets[:rows])
    monkeypatch.chdir(tmp_path)
    names = {"torch": torch, "model": net, "Student": _Student}
    blocks = re.findall(r"```python\n(.*?)```", _DOCS.read_text(encoding="utf-8"), re.DOTALL)
    for block in blocks:
        exec(compile(block, _DOCS.name, "exec"), names)
    assert names["smaller"].report.macs_after < names["smaller"].report.macs_before
    assert names["student"].report.parameters_after < names["student"].report.parameters_before
    assert any(op.precision == "int8" for op in names["graph"].report.operations)
    loss = names["step"](net, {"x": torch.zeros(2, 1, 8, 8)}, torch.zeros(2, dtype=torch.long))
    assert loss.requires_grad and loss.ndim == 0
