"""Digests are equal from run to run, and change with whatever changes a measurement."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from shipworthy.contract import Contract, InputSpec
from shipworthy.data import Chunk, Dataset
from shipworthy.model import load_model
from shipworthy.select.identity import code_digest, data_digest, model_digest

_MODEL = """
import torch
from {helper} import factor

class Net(torch.nn.Module):
    def __init__(self):
        super().__init__()
        torch.manual_seed({seed})
        self.layer = torch.nn.Linear(2, 2)
        self.gain = {gain}

    def forward(self, x):
        return self.layer(x) * self.gain * factor() {change}

def build():
    return Net()
"""

_PROGRAM = """
import sys
from pathlib import Path
from shipworthy.contract import Contract, InputSpec
from shipworthy.model import load_model
from shipworthy.select.identity import model_digest
for folder in sys.argv[1:]:
    contract = Contract(name="n", model="identity_net:build", root=Path(folder),
        inputs={"x": InputSpec(dtype="float32", shape=("batch", 2))})
    print(model_digest(load_model(contract), contract))
"""


def _write(folder: Path, *, seed: int = 0, gain: float = 1.0, change: str = "", factor: int = 2) -> Path:
    folder.mkdir()
    (folder / "identity_net.py").write_text(
        _MODEL.format(helper="identity_factor", seed=seed, gain=gain, change=change)
    )
    (folder / "identity_factor.py").write_text(f"def factor():\n    return {factor}\n")
    return folder


def _digests(folders: list[Path]) -> list[str]:
    """In a process of its own, as a resumed build would be."""
    command = [sys.executable, "-c", _PROGRAM, *map(str, folders)]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout.split()


def test_a_model_is_the_same_in_every_process_until_something_changes(tmp_path: Path) -> None:
    folders = [
        _write(tmp_path / "base"),
        _write(tmp_path / "copy"),
        _write(tmp_path / "weights", seed=1),
        _write(tmp_path / "attribute", gain=2.0),
        _write(tmp_path / "forward", change="+ 1"),
        _write(tmp_path / "import", factor=3),
    ]
    first = _digests(folders)
    assert _digests(folders) == first
    assert first[0] == first[1], "the folder does not matter"
    assert len(set(first)) == 5


def test_a_class_without_a_file_is_told_by_its_code() -> None:
    pytest.importorskip("torch")
    contract = Contract(name="n", inputs={"x": InputSpec(dtype="float32", shape=("batch", 2))})

    def made(body: str) -> str:
        from shipworthy.model import from_module

        scope: dict[str, type] = {}
        exec(
            "import torch\nclass Cell(torch.nn.Module):\n    __module__ = '__main__'\n"
            f"    def forward(self, x):\n        return {body}\n",
            scope,
        )
        return model_digest(from_module(scope["Cell"]()), contract)

    assert made("x + 1") == made("x + 1")
    assert made("x + 1") != made("x + 2")
    assert made("(lambda y: y + 1)(x)") == made("(lambda y: y + 1)(x)"), "no address of an object gets in"


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_a_file_is_told_by_its_bytes(tmp_path: Path) -> None:
    import torch

    net = torch.nn.Linear(2, 2)
    path = tmp_path / "net.pt"
    torch.jit.save(torch.jit.trace(net, torch.zeros(1, 2)), path)
    contract = Contract(
        name="n", model="net.pt", root=tmp_path, inputs={"x": InputSpec(dtype="float32", shape=("batch", 2))}
    )
    first = model_digest(load_model(contract), contract)
    assert model_digest(load_model(contract), contract) == first
    torch.jit.save(torch.jit.trace(torch.nn.Linear(2, 2), torch.zeros(1, 2)), path)
    assert model_digest(load_model(contract), contract) != first


def test_data_are_told_by_values_targets_and_order() -> None:
    x, y = np.arange(6, dtype=np.float32).reshape(3, 2), np.array([0, 1, 0])
    base = data_digest(Dataset((Chunk({"x": x}, y),)))
    assert data_digest(Dataset((Chunk({"x": x.copy()}, y),))) == base
    assert data_digest(Dataset((Chunk({"x": np.asfortranarray(x)}, y),))) == base
    assert data_digest(Dataset((Chunk({"x": x[::-1]}, y),))) != base
    assert data_digest(Dataset((Chunk({"x": x}, 1 - y),))) != base
    assert data_digest(Dataset((Chunk({"x": x}),))) != base
    assert data_digest(None) is None


def test_the_code_that_measures_is_part_of_it() -> None:
    assert len(code_digest()) == 64
