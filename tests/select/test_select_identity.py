"""Digests are equal from run to run, and change with whatever changes a measurement."""

from __future__ import annotations

import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from shipworthy.contract import Contract, InputSpec
from shipworthy.data import Chunk, Dataset
from shipworthy.model import load_model
from shipworthy.select.fingerprint import Fingerprint, fingerprint, imported_digest
from shipworthy.select.identity import code_digest, data_digest, outputs_digest, toolchain

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
from shipworthy.select.fingerprint import fingerprint
for folder in sys.argv[1:]:
    contract = Contract(name="n", model="identity_net:build", root=Path(folder),
        inputs={"x": InputSpec(dtype="float32", shape=("batch", 2))})
    print(fingerprint(load_model(contract), contract).digest)
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


@pytest.mark.full
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
        return fingerprint(from_module(scope["Cell"]()), contract).digest

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
    first = fingerprint(load_model(contract), contract).digest
    assert fingerprint(load_model(contract), contract).digest == first
    torch.jit.save(torch.jit.trace(torch.nn.Linear(2, 2), torch.zeros(1, 2)), path)
    assert fingerprint(load_model(contract), contract).digest != first


def test_data_are_told_by_values_targets_and_order() -> None:
    x, y = np.arange(6, dtype=np.float32).reshape(3, 2), np.array([0, 1, 0])
    base = data_digest(Dataset((Chunk({"x": x}, y),)))
    assert data_digest(Dataset((Chunk({"x": x.copy()}, y),))) == base
    assert data_digest(Dataset((Chunk({"x": np.asfortranarray(x)}, y),))) == base
    assert data_digest(Dataset((Chunk({"x": x[::-1]}, y),))) != base
    assert data_digest(Dataset((Chunk({"x": x}, 1 - y),))) != base
    assert data_digest(Dataset((Chunk({"x": x}),))) != base
    assert data_digest(None) is None


def _net(activation: Any = None, buffer: float = 1.0, **attributes: Any) -> Any:
    import torch

    class Net(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            torch.manual_seed(0)
            self.layer = torch.nn.Linear(2, 2)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.activation(self.layer(x)) * self.scale  # type: ignore[no-any-return, operator]

    net = Net()
    net.register_buffer("scale", torch.tensor([buffer]), persistent=False)
    net.activation = activation or torch.nn.functional.relu
    for name, value in attributes.items():
        setattr(net, name, value)
    return net


def _adds(amount: float) -> Callable[[Any], Any]:
    return lambda x: x + amount


def _print(model: Any) -> Fingerprint:
    from shipworthy.model import from_module

    contract = Contract(name="n", inputs={"x": InputSpec(dtype="float32", shape=("batch", 2))})
    return fingerprint(from_module(model), contract)


def _recurrent() -> Any:
    import torch

    torch.manual_seed(0)
    return torch.nn.LSTM(2, 2)


def _variants() -> dict[str, Callable[[], Any]]:
    import torch
    from torch.nn import functional

    return {
        "base": _net,
        "another function": lambda: _net(functional.gelu),
        "a closure": lambda: _net(_adds(1)),
        "another closure": lambda: _net(_adds(2)),
        "a default": lambda: _net(lambda x, by=1: x * by),
        "another default": lambda: _net(lambda x, by=2: x * by),
        "a buffer that is not persistent": lambda: _net(buffer=2.0),
        "a tensor": lambda: _net(extra=torch.ones(2)),
        "another tensor": lambda: _net(extra=torch.zeros(2)),
        "another dtype": lambda: _net(extra=torch.zeros(2, dtype=torch.float64)),
        "an array": lambda: _net(extra=np.ones(2)),
        "another array": lambda: _net(extra=np.zeros(2)),
        "a dict": lambda: _net(extra={"a": {"b": 1}}),
        "another dict": lambda: _net(extra={"a": {"b": 2}}),
        "a set": lambda: _net(extra={"a", "b"}),
        "another set": lambda: _net(extra={"a", "c"}),
        "a recurrent layer": lambda: _net(extra=_recurrent()),
        "a private attribute": lambda: _net(_extra=1),
        "an object": lambda: _net(extra=Chunk({"x": np.ones(1)})),
        "another object": lambda: _net(extra=Chunk({"x": np.zeros(1)})),
    }


def test_whatever_a_live_module_holds_is_part_of_it() -> None:
    pytest.importorskip("torch")
    made = {name: _print(make()) for name, make in _variants().items()}
    assert not [name for name, found in made.items() if found.unstable]
    assert made == {name: _print(make()) for name, make in _variants().items()}
    digests = [found.digest for found in made.values()]
    assert len(set(digests)) == len(digests)


def test_what_cannot_be_told_is_always_new() -> None:
    pytest.importorskip("torch")
    contract = Contract(name="n", inputs={"x": InputSpec(dtype="float32", shape=("batch", 2))})
    from shipworthy.model import LoadedModel

    model = LoadedModel("module", _net(lock=threading.Lock()))
    first, second = fingerprint(model, contract), fingerprint(model, contract)
    assert first.digest != second.digest
    assert first.unstable == ("model.lock",)


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_graphs_with_equal_weights_are_told_apart() -> None:
    import torch
    from torch.nn import functional

    def traced(activation: Any, constant: float = 1.0) -> Fingerprint:
        held = torch.tensor([constant, 0.0])
        model = torch.jit.trace(_net(lambda x: activation(x) + held), torch.zeros(2, 2))
        return _print(model)

    def exported(activation: Any, buffer: float = 1.0) -> Fingerprint:
        return _print(torch.export.export(_net(activation, buffer), (torch.zeros(2, 2),)))

    for make in (traced, exported):
        assert make(functional.relu) == make(functional.relu)
        assert not make(functional.relu).unstable
        found = {make(functional.relu).digest, make(functional.gelu).digest, make(functional.relu, 2.0).digest}
        assert len(found) == 3


def test_a_script_is_told_by_its_attributes() -> None:
    import torch

    def scripted(gain: float) -> str:
        class Gain(torch.nn.Module):
            def __init__(self) -> None:
                super().__init__()
                self.gain = gain

            def forward(self, x: torch.Tensor) -> torch.Tensor:
                return x * self.gain

        return _print(torch.jit.script(Gain())).digest

    assert scripted(1.0) == scripted(1.0)
    assert scripted(1.0) != scripted(2.0)


def test_a_metric_is_told_by_its_file_and_what_it_imports(tmp_path: Path) -> None:
    from shipworthy.usercode import resolve

    def told(name: str, factor: int, helper: int) -> str:
        folder = tmp_path / name
        folder.mkdir()
        (folder / "own_metric.py").write_text(
            f"from own_help import more\n\ndef score(outputs, targets):\n    return {factor} * more()\n"
        )
        (folder / "own_help.py").write_text(f"def more():\n    return {helper}\n")
        resolve("own_metric:score", folder)
        return imported_digest("own_metric:score", folder).digest

    assert told("a", 2, 2) == told("b", 2, 2)
    assert len({told("c", 2, 2), told("d", 3, 2), told("e", 2, 3)}) == 3


def test_answers_are_told_by_their_values_but_not_by_their_last_bits() -> None:
    x = np.random.default_rng(0).normal(size=(4, 3)).astype(np.float32)
    base = outputs_digest([{"y": x}])
    assert outputs_digest([{"y": x * np.float32(1 + 1e-7)}]) == base
    assert outputs_digest([{"y": x * 2}]) != base
    assert outputs_digest([{"y": x[::-1]}]) != base
    assert outputs_digest([{"z": x}]) != base


def test_only_what_calls_a_compiler_depends_on_it() -> None:
    assert toolchain("onnxruntime") is None
    assert len(toolchain("aoti") or ()) in (1, 2)


def test_the_code_that_decides_is_part_of_it() -> None:
    assert len(code_digest()) == 64
