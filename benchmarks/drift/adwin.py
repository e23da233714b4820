"""river's ADWIN, which runs as it is, in the environment where river is."""

from __future__ import annotations

import subprocess
import tempfile
from pathlib import Path

import numpy as np

from .paths import Paths, each_sample
from .streams import CAP, Scene
from .subjects import Array

OWN = 0.002
GRID = tuple(OWN * 2.0**step for step in range(4, -17, -1))
"""Of its delta, the own one among them."""
APPS = Path(__file__).parent / "apps"
ENVIRONMENTS = Path(__file__).parents[1] / ".envs"


def level(delta: float) -> float:
    return float(-np.log10(delta))


def paths(scene: Scene) -> Paths:
    """The strictest level of the grid that has alarmed by each sample; 0 where none has."""
    alarms = first_alarms(scene.table.watched[scene.streams], GRID)
    statistic = np.zeros(scene.streams.shape, np.float32)
    at = np.arange(1, CAP + 1)
    for delta, found in zip(GRID, alarms.T, strict=True):
        statistic = np.where(at >= found[:, None], np.float32(level(delta)), statistic)
    return each_sample(statistic)


def first_alarms(values: Array, deltas: tuple[float, ...]) -> Array:
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
