"""The detectors that are compared, one row each."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache

import numpy as np

from . import adwin, online, ours, windows
from .paths import Paths, each_sample, each_window
from .streams import Scene, Table
from .subjects import Array


@dataclass(frozen=True)
class Detector:
    name: str
    paths: Callable[[Scene], Paths]
    own: Mapping[str, float] = field(default_factory=dict)
    """Its own settings: what they add to its name, and their threshold."""
    ours: bool = False
    library: str = ""
    """Whose it is, where a library has it."""
    classification: bool = False
    """Whether it is for classification only."""
    own_rate: float | None = None
    """Of its own setting, where its threshold depends on the data: so many undrifted windows exceed it."""
    some: Callable[[Scene, Sequence[float]], Paths] | None = None
    """The same for some thresholds only, where that is sooner done."""


def _surprise(p: Array) -> Array:
    return np.asarray(-np.log10(np.maximum(p, windows.LEAST)))


@lru_cache(maxsize=4)
def _column_p(scene: Scene, window: int) -> Array:
    """Of each column as Evidently tests it: [streams, windows, columns]. Two detectors use the same."""
    table = scene.table
    found = []
    for at in table.columns:
        values = table.scores[:, at]
        if table.signals[at].kind == "class":
            found.append(windows.class_p(scene, values, window))
        else:
            found.append(windows.ks_p(windows.ks_distances(scene, values, window), window))
    return np.stack(found, axis=-1)


def _any_column(window: int) -> Callable[[Scene], Paths]:
    return lambda scene: each_window(_surprise(_column_p(scene, window).min(axis=-1)), window)


def _half_of_columns(window: int) -> Callable[[Scene], Paths]:
    def paths(scene: Scene) -> Paths:
        p = np.sort(_column_p(scene, window), axis=-1)
        return each_window(_surprise(p[..., _half(p.shape[-1]) - 1]), window)

    return paths


def _half(columns: int) -> int:
    """How many columns are half of them, at least."""
    return -(-columns // 2)


def _distances(window: int) -> Callable[[Scene], Paths]:
    """What half of the columns reach, at least, of Evidently's distances."""

    def paths(scene: Scene) -> Paths:
        table, found = scene.table, []
        for at in table.columns:
            distance = windows.jensen_shannon if table.signals[at].kind == "class" else windows.wasserstein
            found.append(distance(scene, table.scores[:, at], window))
        ordered = np.sort(np.stack(found, axis=-1), axis=-1)[..., ::-1]
        return each_window(ordered[..., _half(ordered.shape[-1]) - 1], window)

    return paths


def _psi(window: int) -> Callable[[Scene], Paths]:
    def paths(scene: Scene) -> Paths:
        table = scene.table
        found = [
            windows.psi(scene, table.scores[:, at], window, classes=table.signals[at].kind == "class")
            for at in table.columns
        ]
        return each_window(np.max(found, axis=0), window)

    return paths


def _mean_confidence(window: int) -> Callable[[Scene], Paths]:
    return lambda scene: each_window(windows.means(scene, scene.table.watched, window), window)


def _black_box(window: int) -> Callable[[Scene], Paths]:
    """The smallest p-value of the outputs, corrected for their number."""

    def paths(scene: Scene) -> Paths:
        outputs = scene.table.probabilities.T
        p = [windows.ks_p(windows.ks_distances(scene, values, window), window) for values in outputs]
        return each_window(_surprise(np.min(p, axis=0) * len(outputs)), window)

    return paths


@lru_cache(maxsize=1)
def _kernel(table: Table) -> windows.Kernel:
    return windows.Kernel(table.inputs, table.pool)


def _discrepancy(window: int) -> Callable[[Scene], Paths]:
    return lambda scene: each_window(_kernel(scene.table).distances(scene, window), window)


def _watched(statistic: Callable[[Array], Array]) -> Callable[[Scene], Paths]:
    return lambda scene: each_sample(statistic(scene.table.watched[scene.streams]))


def _sliding(scene: Scene) -> Paths:
    return each_sample(online.sliding_ks(*windows.reference_shares(scene, scene.table.watched)))


def _p(limit: float) -> float:
    return float(-np.log10(limit))


DETECTORS: Sequence[Detector] = (
    Detector("Shipworthy, sequential", ours.sequential, {"": float(np.log10(ours.RUN_LENGTH))}, ours=True),
    Detector("Shipworthy, windows of 500", ours.windowed, {"": _p(ours.WINDOW_RATE)}, ours=True),
    Detector("Shipworthy, both", ours.both, {"": float(np.log10(ours.RUN_LENGTH))}, ours=True),
    *(
        Detector(f"Evidently, half of the columns, {n}", _half_of_columns(n), {"": _p(0.05)}, library="evidently")
        for n in (100, 500)
    ),
    *(Detector(f"Evidently, any column, {n}", _any_column(n), {"": _p(0.05)}, library="evidently") for n in (100, 500)),
    Detector("Evidently, distances, 500", _distances(500), {"": 0.1}, library="evidently"),
    *(Detector(f"PSI, {n}", _psi(n), {" > .1": 0.1, " > .2": 0.2}) for n in (200, 500)),
    *(Detector(f"mean confidence, {n}", _mean_confidence(n), {" > .1": 0.1}, classification=True) for n in (200, 500)),
    *(Detector(f"BBSD, {n}", _black_box(n), {"": _p(0.05)}) for n in (200, 500)),
    *(Detector(f"frouros MMD, {n}", _discrepancy(n), library="frouros", own_rate=0.01) for n in (200, 500)),
    Detector("frouros incremental KS, 100", _sliding, {" p < .01": _p(0.01)}, library="frouros"),
    Detector("river ADWIN", adwin.paths, {"": adwin.level(adwin.OWN)}, library="river", some=adwin.paths),
    Detector("river Page-Hinkley", _watched(online.page_hinkley), {"": online.PAGE_HINKLEY}, library="river"),
    Detector("river KSWIN", _watched(online.kswin), {"": _p(online.KSWIN_ALPHA)}, library="river"),
)
