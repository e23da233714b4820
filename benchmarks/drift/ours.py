"""Shipworthy's detectors: bets on each sample, and the test of a window of 500."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from shipworthy.monitor.evidence.bins import Bins
from shipworthy.monitor.evidence.detector import Detector
from shipworthy.monitor.evidence.windows import WindowTest

from .paths import Paths, each_sample, each_window
from .streams import CAP, Scene
from .subjects import Array
from .windows import LEAST

WINDOW = 500
RUN_LENGTH = 1e6
"""The default: samples until a false alarm, on average, at least."""
WINDOW_RATE = 0.001
_TOGETHER = 50
"""Streams; some megabytes for each are held meanwhile."""


def sequential(scene: Scene) -> Paths:
    """log10 of the run length at which each sample would raise the alarm."""
    parts = [_bets(scene, range(at, min(at + _TOGETHER, len(scene)))) for at in range(0, len(scene), _TOGETHER)]
    return each_sample(np.concatenate(parts))


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


def windowed(scene: Scene, thresholds: Sequence[float] = ()) -> Paths:
    """-log10 of the smallest p-value of each window, corrected for the number of signals. With `thresholds` a stream is
    left after the window that reaches all of them."""
    scores, signals = scene.table.scores, scene.table.signals
    enough = max(thresholds, default=np.inf)
    found = np.zeros((len(scene), CAP // WINDOW))
    for stream, (reference, drawn) in enumerate(zip(scene.references, scene.streams, strict=True)):
        seed = int(scene.seeds[stream])
        test = WindowTest(scores[reference], signals, window=WINDOW, rate=WINDOW_RATE, seed=seed)
        for place, window in enumerate(scores[drawn].reshape(-1, WINDOW, len(signals))):
            found[stream, place] = -np.log10(max(float(test.test(window).corrected.min()), LEAST))
            if found[stream, place] >= enough:
                break
    return each_window(found, WINDOW)
