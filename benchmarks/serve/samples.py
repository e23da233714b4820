"""What the models are fed: flowers as they were measured, and pictures like photographs."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

CONTRACTS = Path(__file__).parent / "contracts"

Tensor = npt.NDArray[np.generic]


def flowers() -> tuple[npt.NDArray[np.float32], npt.NDArray[np.int64]]:
    """The 150 records of scikit-learn's iris set [n, 4], shuffled, and their kinds."""
    from sklearn.datasets import load_iris

    found = load_iris()
    order = np.random.default_rng(0).permutation(len(found.target))
    return found.data[order].astype(np.float32), found.target[order].astype(np.int64)


def pixels(count: int, seed: int = 0) -> npt.NDArray[np.uint8]:
    """Pictures [count, 3, 224, 224] of 0..255, which after normalisation are those of benchmarks/optimize."""
    from ..optimize.samples import pictures

    module = nets()
    mean, deviation = (np.array(three, np.float32).reshape(1, 3, 1, 1) for three in (module.MEAN, module.DEVIATION))
    pictured = np.asarray(pictures(count, seed)["image"], np.float32)
    return (255 * (mean + deviation * pictured)).round().clip(0, 255).astype(np.uint8)


def normalised(count: int) -> npt.NDArray[np.float32]:
    from ..optimize.samples import pictures

    return np.asarray(pictures(count, seed=1)["image"], np.float32)


def nets() -> Any:
    """The module contracts/serving_nets.py."""
    sys.path.insert(0, str(CONTRACTS))
    try:
        return importlib.import_module("serving_nets")
    finally:
        sys.path.remove(str(CONTRACTS))


FEEDS: dict[str, Callable[[int], Tensor]] = {
    "iris": lambda count: flowers()[0][:count],
    "resnet50-float32": normalised,
    "resnet50-uint8": lambda count: pixels(count, seed=1),
}
"""So many samples [n, ...] of each model, the same in every run."""
