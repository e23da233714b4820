"""Shipworthy's detectors: bets on each sample, and the tests of windows of 500 and 2,000."""

from __future__ import annotations

from functools import lru_cache

import numpy as np

from shipworthy.monitor.evidence.bins import Bins
from shipworthy.monitor.evidence.detector import Detector
from shipworthy.monitor.evidence.windows import WindowTests

from .paths import Paths, each_sample, each_window
from .streams import CAP, Scene
from .subjects import Array
from .windows import LEAST

WINDOW = 500
RUN_LENGTH = 1e6
"""The default: samples until a false alarm, on average, at least."""
WINDOW_RATE = 0.001
_ENOUGH = 4.0
"""-log10 of a corrected p-value that alarms at every setting."""
_TOGETHER = 50
"""Streams; some megabytes for each are held meanwhile."""


def sequential(scene: Scene) -> Paths:
    """log10 of the run length at which each sample would raise the alarm."""
    return each_sample(_sequential(scene))


def windowed(scene: Scene) -> Paths:
    """-log10 of the smallest p-value of each window, corrected for the number of signals."""
    return each_window(_windowed(scene), WINDOW)


def both(scene: Scene) -> Paths:
    """As they run beside each other: whichever is nearer to its alarm, with both thresholds moved together. At
    log10 RUN_LENGTH both are at their defaults."""
    found = _sequential(scene).copy()
    ends = WINDOW * np.arange(1, CAP // WINDOW + 1) - 1
    beside = _windowed(scene) + np.log10(RUN_LENGTH * WINDOW_RATE)
    found[:, ends] = np.maximum(found[:, ends], beside)
    return each_sample(found)


@lru_cache(maxsize=1)
def _sequential(scene: Scene) -> Array:
    parts = [_bets(scene, range(at, min(at + _TOGETHER, len(scene)))) for at in range(0, len(scene), _TOGETHER)]
    return np.concatenate(parts)


def _bets(scene: Scene, which: range) -> Array:
    scores, signals = scene.table.scores, scene.table.signals
    placed, counts = [], []
    for stream in which:
        seed = int(scene.seeds[stream])
        bins = Bins.of(scores[scene.references[stream]], signals, seed=seed)
        placed.append(bins.place(scores[scene.streams[stream]], np.random.default_rng([1, seed])))
        counts.append(bins.counts)
    detector = Detector(np.stack(counts), run_length=1)
    return np.log10(detector.update(np.stack(placed))).astype(np.float32)


@lru_cache(maxsize=1)
def _windowed(scene: Scene) -> Array:
    """A stream is left after a window that reaches all thresholds there may be."""
    scores, signals = scene.table.scores, scene.table.signals
    found = np.zeros((len(scene), CAP // WINDOW))
    for stream, (reference, drawn) in enumerate(zip(scene.references, scene.streams, strict=True)):
        seed = int(scene.seeds[stream])
        tests = WindowTests(scores[reference], signals, window=WINDOW, rate=WINDOW_RATE, seed=seed)
        values = scores[drawn]
        for place in range(len(values) // WINDOW):
            begun, end = place * WINDOW // tests.span * tests.span, (place + 1) * WINDOW
            smallest = min(float(each.corrected.min()) for each in tests.test(values[begun:end]))
            found[stream, place] = -np.log10(max(smallest, LEAST))
            if found[stream, place] >= _ENOUGH:
                break
    return found
