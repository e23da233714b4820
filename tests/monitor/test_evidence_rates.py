"""Alarms without drift, looked at after every sample; and what breaks the promise."""

from __future__ import annotations

import numpy as np
import pytest
from drift_oracle import TILTS
from drift_world import keeps

from shipworthy.monitor.evidence import Bins, Detector
from shipworthy.signals.signal import Signal

STREAMS, SAMPLES, RUN_LENGTH = 500, 10_000, 1e5
STATED = SAMPLES / RUN_LENGTH
HALF_LIVES = (100, 400)
"""Of the histograms of the control: with the tilts, they are bets enough."""
SIGNALS = (
    Signal("a", "number", "inputs", "a"),
    Signal("b", "number", "inputs", "b"),
    Signal("c", "number", "inputs", "c"),
    Signal("class", "class", "answers", "class"),
)


def rows(random: np.random.Generator, count: int) -> np.ndarray:
    """Two columns that are almost the same, one with ties and missing values, and a class that depends on the first."""
    values = random.normal(size=(count, 4))
    values[:, 1] = values[:, 0] + 0.01 * values[:, 1]
    values[:, 2] = np.where(random.random(count) < 0.05, np.nan, np.round(values[:, 2]))
    values[:, 3] = np.digitize(values[:, 0], [-1, 0, 1.5])
    return values


def alarmed(streams: int, samples: int, reference: int, seed: int, threshold_for: float, nodes: int = 1) -> int:
    """Streams that raise an alarm: each with a reference of its own, and where there are nodes, one on each of them."""
    randoms = [np.random.default_rng([seed, stream]) for stream in range(streams)]
    bins = [Bins.of(rows(random, reference), SIGNALS, at) for at, random in enumerate(randoms)]
    counts = np.stack([np.stack([each.counts] * nodes) for each in bins])
    detector = Detector(counts, threshold_for, nodes)
    fired = np.zeros((streams, nodes), bool)
    for begin in range(0, samples, 1_000):
        block = min(1_000, samples - begin)
        placed = [
            [each.place(rows(random, block), random) for _ in range(nodes)]
            for each, random in zip(bins, randoms, strict=True)
        ]
        fired |= (detector.update(np.array(placed)) >= 1).any(axis=-1)
    return int(fired.any(axis=1).sum())


@pytest.mark.long
@pytest.mark.parametrize("reference", [32, 100, 1000])
def test_alarms_without_drift_are_as_rare_as_stated(reference: int, effort: float) -> None:
    streams, samples = (STREAMS, SAMPLES) if effort == 1 else (40, 1_000)
    false = alarmed(streams, samples, reference, 1, samples / STATED)
    print(f"reference of {reference}: {false} of {streams}")
    keeps(false, streams, STATED)


@pytest.mark.long
def test_nodes_share_the_promise(effort: float) -> None:
    """Three nodes, each with a detector of its own against the same reference: that any of them raises a false alarm
    within N samples each is as rare as stated."""
    streams, samples = (STREAMS, SAMPLES) if effort == 1 else (25, 600)
    false = alarmed(streams, samples, 300, 2, samples / STATED, nodes=3)
    print(f"three nodes: {false} of {streams}")
    keeps(false, streams, STATED)


@pytest.mark.full
def test_alarms_at_the_usual_run_length() -> None:
    false = alarmed(STREAMS, SAMPLES, 1000, 3, 1e6)
    keeps(false, STREAMS, SAMPLES / 1e6)


@pytest.mark.parametrize(("reference", "samples"), [(100, 1_500), (1_000, 6_000)])
def test_without_updating_the_counts_the_promise_breaks(reference: int, samples: int) -> None:
    """A negative control: ranks against a reference that stays as it was are not exchangeable, and a bet finds it."""
    streams = 20
    cuts = np.round(np.arange(33) * (reference + 1) / 32).astype(int)
    random = np.random.default_rng(4)
    edges = np.sort(random.random((streams, reference)), axis=1)[:, cuts[1:-1] - 1]
    q = np.diff(cuts) / (reference + 1)
    mid = np.cumsum(q) - q / 2
    tilts = 1 + np.multiply.outer(mid - 0.5, np.array(TILTS))
    wealth, recent = np.zeros((streams, 8)), np.zeros((2, streams, 32))
    fade = 0.5 ** (1 / np.array(HALF_LIVES))[:, None, None]
    fired, each = np.zeros(streams, bool), np.arange(streams)
    for value in random.random((samples, streams)):
        place = (edges < value[:, None]).sum(axis=1)
        shares = (50 * q[place] + recent[:, each, place]) / (50 + recent.sum(axis=2)) / q[place]
        wealth = np.minimum((wealth + 1) * np.concatenate([tilts[place], shares.T], axis=1), 1e200)
        recent *= fade
        recent[:, each, place] += 1
        fired |= wealth[:, :6].mean(axis=1) / 2 + wealth[:, 6:].mean(axis=1) / 2 >= RUN_LENGTH
    assert fired.mean() > 0.5 > 5 * samples / RUN_LENGTH


def test_neighbours_that_are_alike_break_the_promise() -> None:
    """Each row comes five times in a row: that is no exchangeable stream, and one in so many has to be taken."""
    random = np.random.default_rng(5)
    streams, samples = 8, 3_000
    bins = [Bins.of(rows(random, 1000), SIGNALS, at) for at in range(streams)]
    fired = np.zeros(2, int)
    for each in bins:
        drawn = np.repeat(rows(random, samples // 5), 5, axis=0)
        for place, stream in enumerate((drawn, drawn[::5])):
            evidence = Detector(each.counts, 1e5).update(each.place(stream, random))
            fired[place] += bool((evidence >= 1).any())
    assert fired[0] >= 6
    keeps(int(fired[1]), streams, samples / 5 / 1e5)
