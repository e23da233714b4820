"""No drift: 200 streams of 100,000 scored requests, with real signals of real data. Alarms are no more often than
stated, for both detectors. References and streams are drawn from one pool, so that there is no drift indeed."""

from __future__ import annotations

import numpy as np
import pytest
from drift_world import REFERENCE, WORLDS, World, keeps

from shipworthy.monitor.evidence import Bins, Detector, WindowTests
from shipworthy.monitor.evidence.windows import TOGETHER

STREAMS = 200
SAMPLES = 100_000
WINDOW, RATE = 500, 0.001
STATED = 0.1
"""At the default run length of a million: P(alarm within 100,000) is at most a tenth."""
WORLD = pytest.mark.parametrize("name", WORLDS)


def drawn(world: World, name: str, streams: range) -> list[tuple[np.ndarray, np.random.Generator]]:
    """A reference for each stream, and what draws its rows."""
    randoms = [np.random.default_rng([list(WORLDS).index(name), stream]) for stream in streams]
    pool = world.pool
    return [(pool[random.integers(len(pool), size=REFERENCE)], random) for random in randoms]


def alarmed(name: str, streams: range, samples: int) -> np.ndarray:
    """Whether the sequential detector raises an alarm, [streams]."""
    world = WORLDS[name]()
    pool, begun = world.pool, drawn(world, name, streams)
    bins = [Bins.of(rows, world.signals, stream) for stream, (rows, _) in zip(streams, begun, strict=True)]
    detector = Detector(np.stack([each.counts for each in bins]), samples / STATED)
    fired, block = np.zeros(len(streams), bool), 1_000
    for _ in range(0, samples, block):
        placed = [
            each.place(pool[random.integers(len(pool), size=block)], random)
            for each, (_, random) in zip(bins, begun, strict=True)
        ]
        fired |= (detector.update(np.stack(placed)) >= 1).any(axis=-1)
    return fired


def false_windows(name: str, streams: range, windows: int) -> np.ndarray:
    """Windows that raise an alarm, [streams]."""
    world = WORLDS[name]()
    pool, alarms = world.pool, np.zeros(len(streams), int)
    for place, (rows, random) in enumerate(drawn(world, name, streams)):
        tests = WindowTests(rows, world.signals, WINDOW, RATE, seed=streams[place])
        for _ in range(0, windows, TOGETHER):
            values = pool[random.integers(len(pool), size=tests.span)]
            for end in range(WINDOW, tests.span + 1, WINDOW):
                alarms[place] += any(found.rejected.any() for found in tests.test(values[:end]))
    return alarms


@WORLD
@pytest.mark.long
@pytest.mark.timeout(1800)
def test_the_sequential_detector_keeps_its_promise(name: str, effort: float) -> None:
    streams, samples = (STREAMS, SAMPLES) if effort == 1 else (20, 1_000)
    fired = alarmed(name, range(streams), samples)
    print(f"{name}: {fired.sum()} of {streams} streams")
    keeps(int(fired.sum()), streams, STATED)


@WORLD
@pytest.mark.long
@pytest.mark.timeout(1800)
def test_the_windows_keep_their_rate(name: str, effort: float) -> None:
    streams, windows = (STREAMS, SAMPLES // WINDOW) if effort == 1 else (8, TOGETHER)
    alarms = false_windows(name, range(streams), windows)
    print(f"{name}: {alarms.sum()} of {streams * windows} windows")
    # Windows of one stream share its reference: what is independent are the streams.
    error = max(alarms.std(ddof=1), np.sqrt(windows * RATE)) / np.sqrt(streams) / windows
    assert alarms.mean() / windows <= RATE + 3 * error
