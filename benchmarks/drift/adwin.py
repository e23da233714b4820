"""river's ADWIN, which runs as it is, in the environment where river is."""

from __future__ import annotations

import subprocess
import tempfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from .paths import Paths, each_sample
from .streams import CAP, Scene
from .subjects import Array

OWN = 0.002
GRID = (0.999, 0.5, 0.2, 0.1, 0.05, 0.02, 0.01, OWN, 5e-4, 1e-4, 1e-5)
"""Of its delta; the first is the largest that there is."""
APPS = Path(__file__).parent / "apps"
ENVIRONMENTS = Path(__file__).parents[1] / ".envs"


def level(delta: float) -> float:
    return float(np.float32(-np.log10(delta)))


def paths(scene: Scene, thresholds: Sequence[float] = ()) -> Paths:
    """The strictest level of the grid that has alarmed by each sample; 0 where none has. With `thresholds` only of
    those levels, which is sooner done."""
    deltas = sorted({_delta(threshold) for threshold in thresholds} or GRID, reverse=True)
    alarms = first_alarms(scene.table.watched[scene.streams], deltas)
    statistic = np.zeros(scene.streams.shape, np.float32)
    at = np.arange(1, CAP + 1)
    for delta, found in zip(deltas, alarms.T, strict=True):
        statistic[at >= found[:, None]] = level(delta)
    return each_sample(statistic)


def _delta(threshold: float) -> float:
    """The mildest of the grid that reaches a threshold; the strictest where none does."""
    return max((delta for delta in GRID if level(delta) >= threshold), default=GRID[-1])


def first_alarms(values: Array, deltas: Sequence[float]) -> Array:
    """The sample at which each stream first alarms, CAP + 1 where none does: [streams, deltas]."""
    with tempfile.TemporaryDirectory() as folder:
        given, found = Path(folder, "given.npz"), Path(folder, "found.npy")
        np.savez(given, values=values, deltas=np.array(deltas), cap=CAP)
        words = [str(python("river")), str(APPS / "river_app.py"), "adwin", str(given), str(found)]
        subprocess.run(words, check=True)
        return np.asarray(np.load(found))


def python(environment: str) -> Path:
    """Of a peer's own environment, which `make bench-drift` builds."""
    return ENVIRONMENTS / environment / "bin" / "python"
