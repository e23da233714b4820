"""One small model with everything that a profile shows, profiled once."""

from __future__ import annotations

from pathlib import Path

import pytest

from shipworthy.contract import Contract, read_contract
from shipworthy.profiling import ProfileReport, profile

NET = """
import torch
from torch import nn
from torch.profiler import record_function


class Pair(nn.Module):
    def __init__(self):
        super().__init__()
        self.a, self.b = nn.Linear(16, 16), nn.Linear(16, 16)
        self.b.weight = self.a.weight

    def forward(self, x):
        return self.b(torch.tanh(self.a(x)))


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(3, 8, 3, padding=1)
        self.norm = nn.BatchNorm2d(8)
        self.head = nn.Linear(8, 16)
        self.pair = Pair()
        self.spare = nn.Linear(4, 4)

    def forward(self, x):
        with record_function("my features"):
            x = self.norm(self.conv(x)).mean((2, 3))
        with record_function("my <pairs>"):
            for _ in range(2):
                x = self.pair(self.head(x)[:, :8].repeat(1, 2))[:, :8]
        return x


def build_model():
    torch.manual_seed(0)
    return Net()


class Broken(Net):
    def forward(self, x):
        return self.head(self.conv(x))


def onnx_like():
    raise RuntimeError("no weights here")
"""

CONTRACT = """
name = "small"
model = "net:build_model"
[inputs.x]
dtype = "float32"
shape = ["batch:1..64", 3, 6, 6]
[target]
threads = 1
"""

BATCH, STEPS = 4, 5


@pytest.fixture(scope="session")
def small(tmp_path_factory: pytest.TempPathFactory) -> Contract:
    root = tmp_path_factory.mktemp("small")
    (root / "net.py").write_text(NET, encoding="utf-8")
    (root / "shipworthy.toml").write_text(CONTRACT, encoding="utf-8")
    return read_contract(root / "shipworthy.toml")


@pytest.fixture(scope="session")
def trace(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("trace") / "trace.json"


@pytest.fixture(scope="session")
def report(small: Contract, trace: Path) -> ProfileReport:
    return profile(small, batch=BATCH, steps=STEPS, trace=trace, seconds=0.1)
