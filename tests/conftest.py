"""Options and fixtures for all tests."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import settings

from shipworthy.contract import Contract

# Two test processes with two OpenMP threads each would spin against each other on two cores. Torch reads this once.
os.environ.setdefault("OMP_NUM_THREADS", "1")
# gRPC's library reads this once too; it writes a line whenever a process that has used it starts another one.
os.environ.setdefault("GRPC_ENABLE_FORK_SUPPORT", "false")

# Generated examples are the same in every run: a failure can be repeated, and a green run is no luck.
settings.register_profile("seeded", derandomize=True, deadline=None)
settings.load_profile("seeded")


pytest_plugins = ["without_torch"]


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--full", action="store_true", help="run long proofs in full, not a twentieth of them")


LONGEST = ("test_demo", "test_select_build", "test_select_resume", "test_examples", "exporters", "runtime", "cli")
"""Whole builds first, so that two workers end at about the same time."""


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    if not config.getoption("--full"):
        for item in items:
            if item.get_closest_marker("full") is not None:
                item.add_marker(pytest.mark.skip(reason="a quicker test shows the same; runs with --full"))

    def rank(item: pytest.Item) -> int:
        return next((place for place, part in enumerate(LONGEST) if part in str(item.path)), len(LONGEST))

    items.sort(key=rank)


@pytest.fixture(scope="session")
def effort(request: pytest.FixtureRequest) -> float:
    """Share of a long proof that is run: 1.0 with --full, else a twentieth."""
    return 1.0 if request.config.getoption("--full") else 0.05


NET = """
import torch
from torch import nn


class Net(nn.Module):
    def __init__(self, features=4, classes=3):
        super().__init__()
        self.body = nn.Linear(features, 8)
        self.drop = nn.Dropout(0.5)
        self.head = nn.Linear(8, classes)

    def forward(self, x):
        return self.head(self.drop(torch.relu(self.body(x))))


def build_model():
    torch.manual_seed(0)
    return Net()
"""


@pytest.fixture
def project(tmp_path: Path) -> Callable[..., Contract]:
    """Write `source` as train.py into a folder of its own, and give a contract that names its build_model."""

    def make(source: str = NET, folder: str = "project", **contract: Any) -> Contract:
        root = tmp_path / folder
        root.mkdir(exist_ok=True)
        (root / "train.py").write_text(source)
        settings: dict[str, Any] = {
            "name": "net",
            "model": "train:build_model",
            "inputs": {"x": {"dtype": "float32", "shape": ["batch", 4]}},
        }
        return Contract(**{**settings, **contract}).model_copy(update={"root": root})

    return make


@pytest.fixture
def net() -> str:
    return NET
