"""A tiny project on disk, trained on iris, and a short way to measure."""

from __future__ import annotations

import textwrap
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from shipworthy.contract import Contract, parse_contract
from shipworthy.measure import Caps, Course, SurveyTimes
from shipworthy.select import Effort

MODEL = """
import torch
from torch import nn


class Flower(nn.Module):
    def __init__(self):
        super().__init__()
        self.body = nn.Sequential(nn.Linear(4, 256), nn.ReLU(), nn.Linear(256, 256), nn.ReLU(), nn.Linear(256, 3))

    def forward(self, measurements):
        return self.body(measurements)


def build_model():
    torch.manual_seed(0)
    return Flower()
"""


@pytest.fixture(scope="session")
def quick() -> Effort:
    times = SurveyTimes(curve_s=0.02, point_s=0.01, warm_s=0.005)
    return Effort(caps=Caps(export_s=240, step_s=120), times=times, course=Course(rounds=5, slice_s=0.02))


@pytest.fixture(scope="session")
def iris(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with flower.py, its weights, validation.npz and holdout.npz."""
    import sys

    import torch
    from safetensors.torch import save_file
    from sklearn.datasets import load_iris

    folder = tmp_path_factory.mktemp("iris")
    (folder / "flower.py").write_text(textwrap.dedent(MODEL))
    features, targets = load_iris(return_X_y=True)
    order = np.random.default_rng(0).permutation(len(targets))
    x, y = features[order].astype(np.float32), targets[order].astype(np.int64)
    sys.path.insert(0, str(folder))
    try:
        import flower  # type: ignore[import-not-found]
    finally:
        sys.path.remove(str(folder))
    model = flower.build_model()
    optimizer = torch.optim.Adam(model.parameters(), 1e-2)
    for _ in range(60):
        optimizer.zero_grad()
        torch.nn.functional.cross_entropy(model(torch.from_numpy(x[:60])), torch.from_numpy(y[:60])).backward()
        optimizer.step()
    save_file(model.state_dict(), folder / "flower.safetensors")
    np.savez(folder / "validation.npz", measurements=x[60:105], label=y[60:105])
    np.savez(folder / "holdout.npz", measurements=x[105:], label=y[105:])
    return folder


@pytest.fixture(scope="session")
def iris_contract(iris: Path) -> Callable[..., Contract]:
    """The project's contract; keywords replace whole tables."""

    def make(**tables: Any) -> Contract:
        mapping: dict[str, Any] = {
            "name": "iris",
            "model": "flower:build_model",
            "weights": "flower.safetensors",
            "inputs": {"measurements": {"dtype": "float32", "shape": ["batch", 4]}},
            "task": {"kind": "classification", "labels": ["setosa", "versicolor", "virginica"]},
            "data": {"validation": "validation.npz", "holdout": "holdout.npz"},
            "limits": {"max_metric_drop": 0.05},
            "search": {"precisions": ["fp32"]},
            # One thread and one request at a time: here engines differ most, and a busy host disturbs least.
            "target": {"threads": 1, "objective": "latency"},
            **tables,
        }
        return parse_contract(mapping, root=iris)

    return make
