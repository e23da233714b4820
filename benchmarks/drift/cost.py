"""What each detector costs: time for each sample and what it holds, of the libraries as they are."""

from __future__ import annotations

import json
import os
import pickle
import statistics
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import numpy as np
from scipy import stats  # type: ignore[import-untyped]

from shipworthy.monitor.evidence.bins import Bins
from shipworthy.monitor.evidence.detector import Detector
from shipworthy.monitor.evidence.windows import WindowTests

from . import ours, windows
from .adwin import APPS, python
from .cells import NONE
from .results import Cost
from .streams import Scene, Table, draw, tabulate
from .subjects import SUBJECTS, Array

LIBRARIES = ("evidently", "frouros", "river")
BLOCK = 250
"""Samples that ours is given at a time, as a server gives them."""
Measured = dict[str, tuple[float, float]]
"""By detector: microseconds a sample, and kilobytes."""


def measure(data: str, rounds: int) -> dict[str, Cost]:
    """The medians of interleaved rounds."""
    table = tabulate(SUBJECTS[data](), None)
    scene = draw(table, NONE, 0.0, range(1))
    found: dict[str, list[tuple[float, float]]] = {}
    with tempfile.TemporaryDirectory() as folder:
        given = Path(folder, "given.npz")
        np.savez(given, **_given(table, scene))
        for _ in range(rounds):
            for measured in (_ours(table, scene), _plain(table, scene), *(_library(each, given) for each in LIBRARIES)):
                for name, pair in measured.items():
                    found.setdefault(name, []).append(pair)
    return {name: Cost(pairs[0][1], statistics.median(us for us, _ in pairs)) for name, pairs in found.items()}


def _given(table: Table, scene: Scene) -> dict[str, Any]:
    reference, stream = scene.references[0], scene.streams[0]
    columns = table.scores[:, list(table.columns)]
    kinds = [table.signals[at].kind for at in table.columns]
    return {
        "reference_columns": columns[reference],
        "columns": columns[stream],
        "classes": np.array([at for at, kind in enumerate(kinds) if kind == "class"], int),
        "reference_inputs": table.inputs[reference],
        "inputs": table.inputs[stream],
        "reference_watched": table.watched[reference],
        "watched": table.watched[stream],
        "sigma": windows.Kernel(table.inputs, table.pool).sigma,
    }


def _library(name: str, given: Path) -> Measured:
    words = [str(python(name)), str(APPS / f"{name}_app.py"), "cost", str(given)]
    # As ours: one thread.
    one = {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
    ended = subprocess.run(words, check=True, capture_output=True, text=True, env={**os.environ, **one})
    return {detector: (us, kb) for detector, (us, kb) in json.loads(ended.stdout.splitlines()[-1]).items()}


def _ours(table: Table, scene: Scene) -> Measured:
    reference, stream = table.scores[scene.references[0]], table.scores[scene.streams[0]]
    bins = Bins.of(reference, table.signals)
    detector = Detector(bins.counts, ours.RUN_LENGTH)
    random = np.random.default_rng(1)
    blocks = stream.reshape(-1, BLOCK, stream.shape[1])
    bets = _timed(lambda block: detector.update(bins.place(block, random)), blocks, BLOCK)
    windows = WindowTests(reference, table.signals, window=ours.WINDOW, rate=ours.WINDOW_RATE)
    ends = range(ours.WINDOW, windows.span + 1, ours.WINDOW)
    whole = stream[: len(stream) // windows.span * windows.span].reshape(-1, windows.span, stream.shape[1])
    tests = _timed(lambda rows: [windows.test(rows[:end]) for end in ends], whole, windows.span)
    held = [_kilobytes((bins, detector)), _kilobytes((windows, whole[0].copy()))]
    return {
        "Shipworthy, sequential": (bets, held[0]),
        f"Shipworthy, windows of {ours.WINDOW}": (tests, held[1]),
        "Shipworthy, both": (bets + tests, sum(held)),
    }


def _plain(table: Table, scene: Scene) -> Measured:
    """Rules that no library has: a few lines of NumPy and SciPy."""
    found: Measured = {}
    reference, stream = scene.references[0], scene.streams[0]
    columns = table.scores[:, list(table.columns)]
    edges = np.quantile(columns[reference], np.arange(1, 10) / 10, axis=0)
    shares = [_decile_shares(column, edge) for column, edge in zip(columns[reference].T, edges.T, strict=True)]

    def psi(window: Array) -> float:
        found = [_decile_shares(column, edge) for column, edge in zip(window.T, edges.T, strict=True)]
        return max(float(((a - b) * np.log(a / b)).sum()) for a, b in zip(found, shares, strict=True))

    outputs = table.probabilities
    for size in (200, 500):
        whole = columns[stream].reshape(-1, size, columns.shape[1])
        found[f"PSI, {size}"] = (_timed(psi, whole, size), _kilobytes((edges, shares, whole[0].copy())))
        watched = table.watched[stream].reshape(-1, size)
        spent = _timed(lambda window: abs(window.mean() - 0.5), watched, size)
        found[f"mean confidence, {size}"] = (spent, _kilobytes((0.5, watched[0].copy())))
        answers = outputs[stream].reshape(-1, size, outputs.shape[1])
        tested = _timed(lambda window: _smallest_p(outputs[reference], window), answers, size)
        found[f"BBSD, {size}"] = (tested, _kilobytes((outputs[reference], answers[0].copy())))
    return found


def _smallest_p(reference: Array, window: Array) -> float:
    pairs = zip(reference.T, window.T, strict=True)
    return min(float(stats.ks_2samp(one, other).pvalue) for one, other in pairs)


def _decile_shares(column: Array, edges: Array) -> Array:
    counts = np.bincount(np.searchsorted(edges, column), minlength=10)
    return np.asarray(np.maximum(counts / len(column), 1e-4))


def _timed(call: Callable[[Array], object], parts: Iterable[Array], samples: int) -> float:
    """Microseconds a sample, the median over the parts; the first one only warms."""
    spent = []
    for part in parts:
        began = time.perf_counter()
        call(part)
        spent.append((time.perf_counter() - began) / samples * 1e6)
    return statistics.median(spent[1:])


def _kilobytes(held: object) -> float:
    return len(pickle.dumps(held)) / 1e3
