"""Graphs that behave badly, and a worker to run them in."""

from __future__ import annotations

import pickle
import textwrap
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest

from shipworthy.contract import Contract, InputSpec, OutputSpec
from shipworthy.data import write_cases
from shipworthy.measure import Caps, Worker
from shipworthy.runtime import Artifact

_MODULES = """
import ctypes, os, sys, threading, time
import torch


class Scale(torch.nn.Module):
    def forward(self, x):
        return x * 2


class Chatter(torch.nn.Module):
    def forward(self, x):
        print("words on standard output")
        os.write(1, b"and on the descriptor\\n")
        return x * 2


class Reader(torch.nn.Module):
    def forward(self, x):
        return x + len(sys.stdin.read())


class Segfault(torch.nn.Module):
    def forward(self, x):
        ctypes.string_at(0)
        return x


class Sleeper(torch.nn.Module):
    def forward(self, x):
        while True:
            time.sleep(1)


class Spinner(torch.nn.Module):
    def forward(self, x):
        os.fork()
        while True:
            pass


class Glutton(torch.nn.Module):
    def forward(self, x):
        held = []
        while True:
            held.append(bytearray(os.urandom(1 << 20) * 16))
            time.sleep(0.005)


class Breeder(torch.nn.Module):
    def forward(self, x):
        if os.fork() == 0:
            held = bytearray(os.urandom(1 << 20) * 400)
        while True:
            time.sleep(1)


class Quitter(torch.nn.Module):
    def forward(self, x):
        os._exit(7)


class Thrower(torch.nn.Module):
    def forward(self, x):
        raise ValueError("no such thing")
"""


@pytest.fixture(scope="session")
def bad_modules(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("bad_modules")
    (folder / "badly_behaved.py").write_text(textwrap.dedent(_MODULES))
    return folder


@pytest.fixture(scope="session")
def small_contract() -> Contract:
    return Contract(
        name="small",
        inputs={"x": InputSpec(dtype="float32", shape=("batch", 3))},
        outputs={"y": OutputSpec(dtype="float32", shape=("batch", 3))},
    )


@pytest.fixture
def feeds(tmp_path: Path) -> Path:
    cases = ((str(size), {"x": np.ones((size, 3), np.float32)}) for size in (1, 2, 4))
    return write_cases(tmp_path / "feeds.npz", cases)


@pytest.fixture
def pickled(
    bad_modules: Path, small_contract: Contract, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Callable[[str], Artifact]:
    """A live module as the engine `torch` opens it."""

    def make(name: str) -> Artifact:
        import cloudpickle

        monkeypatch.syspath_prepend(str(bad_modules))
        module = getattr(__import__("badly_behaved"), name)()
        folder = tmp_path / name
        folder.mkdir()
        (folder / "module.pkl").write_bytes(pickle.dumps([]) + cloudpickle.dumps(module))
        return Artifact("torch", "fp32", folder, small_contract.signature)

    return make


@pytest.fixture
def worker_for(tmp_path: Path, bad_modules: Path) -> Iterator[Callable[..., Worker]]:
    made: list[Worker] = []

    def make(subject: str, **caps: float) -> Worker:
        made.append(Worker(subject, tmp_path / f"{subject}.txt", caps=Caps(**caps), threads=1, paths=(bad_modules,)))
        return made[-1]

    yield make
    for worker in made:
        worker.kill()
