"""A small model that is watched: three classes of points in the plane, which are far enough apart."""

from __future__ import annotations

from functools import cache

import numpy as np

from shipworthy.contract import Array, Contract, InputSpec, OutputSpec, TaskSpec
from shipworthy.contract.spec import Limits
from shipworthy.monitor import Monitor, MonitorOptions
from shipworthy.signals import Reference, fit, make_reference

CENTRES = np.array([[0.0, 2.0], [2.0, -1.0], [-2.0, -1.0]], np.float32)


def contract() -> Contract:
    return Contract(
        name="points",
        inputs={"point": InputSpec(dtype="float32", shape=("batch", 2))},
        outputs={"logits": OutputSpec(dtype="float32", shape=("batch", 3), kind="logits")},
        task=TaskSpec(kind="classification", labels=("north", "east", "west")),
        limits=Limits(p99_ms=20.0),
    )


def draw(rows: int, random: np.random.Generator, *, shift: float = 0.0) -> tuple[Array, Array, Array]:
    """Points [rows, 2], the model's logits [rows, 3], and true classes [rows]; `shift` moves the points."""
    classes = random.integers(0, 3, rows)
    points = (CENTRES[classes] + random.normal(size=(rows, 2))).astype(np.float32)
    points += np.float32(shift)
    logits = (points @ CENTRES.T).astype(np.float32)
    return points, logits, classes


@cache
def reference(samples: int = 1000, seed: int = 1) -> Reference:
    random = np.random.default_rng(seed)
    points, logits, _ = draw(1000, random)
    constants = fit(contract(), [({"point": points}, {"logits": logits})])
    points, logits, classes = draw(samples, random)
    return make_reference(contract(), constants, [({"point": points}, {"logits": logits}, classes)])


def monitor(*, samples: int = 1000, seed: int = 1, node: str = "a", **options: float) -> Monitor:
    chosen = MonitorOptions(**options)  # type: ignore[arg-type]
    return Monitor((contract(), reference(samples, seed)), options=chosen, version="3", variant="v", node=node)


def feed(
    watched: Monitor, rows: int, random: np.random.Generator, *, shift: float = 0.0, at: float = 1e9, block: int = 100
) -> list[str]:
    """Rows one second apart for each block; ids of the alarms."""
    found = []
    for start in range(0, rows, block):
        points, logits, _ = draw(min(block, rows - start), random, shift=shift)
        alarms = watched.update({"point": points}, {"logits": logits}, at + start / block, 0.002)
        found += [alarm.id for alarm in alarms]
    return found
