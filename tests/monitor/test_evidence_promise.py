"""No drift: 200 streams of 100,000 scored requests, with real signals of real data. Alarms are no more often than
stated, for both detectors. References and streams are drawn from one pool, so that there is no drift indeed."""

from __future__ import annotations

import numpy as np
import pytest
from drift_world import REFERENCE, WORLDS, World, keeps

from shipworthy.monitor.evidence import Bins, Detector, WindowTest

STREAMS = 200
SAMPLES = 100_000
WINDOW, RATE = 500, 0.001
STATED = 0.1
"""At the default run length of a million: P(alarm within 100,000) is at most a tenth."""
WORLD = pytest.mark.parametrize("name", WORLDS)


def references(world: World, name: str, streams: int) -> tuple[list[np.ndarray], list[np.random.Generator]]:
    """A reference for each stream, and what draws its rows."""
    randoms = [np.random.default_rng([list(WORLDS).index(name), seed]) for seed in range(streams)]
    pool = world.pool
    return [pool[random.integers(len(pool), size=REFERENCE)] for random in randoms], randoms


@WORLD
@pytest.mark.long
@pytest.mark.timeout(1200)
def test_the_sequential_detector_keeps_its_promise(name: str, effort: float) -> None:
    world = WORLDS[name]()
    streams, samples = (STREAMS, SAMPLES) if effort == 1 else (30, 1_000)
    rows, randoms = references(world, name, streams)
    bins = [Bins.of(reference, world.signals, seed) for seed, reference in enumerate(rows)]
    detector = Detector(np.stack([each.counts for each in bins]), samples / STATED)
    pool, alarmed, block = world.pool, np.zeros(streams, bool), 1_000
    for _ in range(0, samples, block):
        drawn = [pool[random.integers(len(pool), size=block)] for random in randoms]
        placed = [each.place(values, random) for each, values, random in zip(bins, drawn, randoms, strict=True)]
        alarmed |= (detector.update(np.stack(placed)) >= 1).any(axis=-1)
    print(f"{name}: {alarmed.sum()} of {streams} streams, {len(bins[0].columns)} signals")
    keeps(int(alarmed.sum()), streams, STATED)


@WORLD
@pytest.mark.long
@pytest.mark.timeout(1200)
def test_the_windows_keep_their_rate(name: str, effort: float) -> None:
    world = WORLDS[name]()
    streams, windows = (STREAMS, SAMPLES // WINDOW) if effort == 1 else (10, 5)
    rows, randoms = references(world, name, streams)
    pool, alarms = world.pool, np.zeros(streams, int)
    for stream, (reference, random) in enumerate(zip(rows, randoms, strict=True)):
        test = WindowTest(reference, world.signals, WINDOW, RATE, seed=stream)
        for _ in range(windows):
            alarms[stream] += test.test(pool[random.integers(len(pool), size=WINDOW)]).rejected.any()
    print(f"{name}: {alarms.sum()} of {streams * windows} windows, {len(world.signals)} signals, {alarms.std():.2f}")
    # Windows of one stream share its reference: what is independent are the streams.
    error = max(alarms.std(ddof=1), np.sqrt(windows * RATE)) / np.sqrt(streams) / windows
    assert alarms.mean() / windows <= RATE + 3 * error
