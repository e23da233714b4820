"""Bets on labels: fair by enumeration, bounds that hold while one looks, counts that add."""

from __future__ import annotations

import math

import numpy as np
import pytest
from drift_world import keeps
from hypothesis import given, settings
from hypothesis import strategies as st

from shipworthy.monitor.evidence import estimate, quality
from shipworthy.monitor.evidence.quality import CELLS, GRID, LOWER, UPPER, count, interval, log_below, logs_below

LOSSES = st.lists(st.one_of(st.sampled_from([0.0, 1.0]), st.floats(0, 1)), min_size=1, max_size=80)


@settings(max_examples=30)
@given(LOSSES)
def test_cells_hold_their_losses(losses: list[float]) -> None:
    for loss in losses:
        (cell,) = np.flatnonzero(count(loss))
        assert LOWER[cell] <= loss <= UPPER[cell]
        assert UPPER[cell] - LOWER[cell] < 0.0102
        assert (LOWER[cell] == UPPER[cell]) == (loss in (0, 1))
    total = count(losses)
    assert total.sum() == len(losses) and len(total) == CELLS
    assert quality.mean(total) == pytest.approx(np.mean(losses), abs=0.0051)


def test_right_and_wrong_are_exact() -> None:
    counts = count([0, 0, 0, 1])
    assert counts[0] == 3 and counts[100] == 1 and quality.mean(counts) == 0.25
    assert count(np.nan)[100] == 1 and quality.mean(count([])) is None
    with pytest.raises(AssertionError, match="in \\[0, 1\\]"):
        count([1.5])


@pytest.mark.parametrize("bound", [0.01, 0.05, 0.3, 0.9])
def test_a_label_at_the_boundary_is_a_fair_bet(bound: float) -> None:
    """Of the bets on more and of their mirror image, by enumeration over two losses and over three."""
    for chances, values in (([1 - bound, bound], [0.0, 1.0]), ([0.5, 0.5], [bound / 2, 1.5 * bound])):
        terms = np.log1p(GRID * (np.array(values)[:, None] - bound) / bound)
        np.testing.assert_allclose(np.array(chances) @ np.exp(terms), 1, atol=1e-12)
        assert np.isfinite(terms).all()


def test_evidence_of_known_labels() -> None:
    """90 right and 10 wrong, level .95: the mean of 1 - g to the 90 and 1 + 19 g to the 10."""
    counts = count([0] * 90 + [1] * 10)
    wealth = (1 - GRID) ** 90 * (1 + GRID * (1 - 0.05) / 0.05) ** 10
    assert log_below(counts, 0.95) == pytest.approx(math.log(wealth.mean()))
    assert log_below(counts * 0, 0.95) == pytest.approx(0)


def test_levels_at_the_ends() -> None:
    assert log_below(count([0] * 50), 1.0) == 0
    assert log_below(count([0] * 50 + [1]), 1.0) == math.inf
    assert log_below(count([1] * 50), 0.0) == 0
    assert interval(count([])) == (0, 1)


@pytest.mark.parametrize("level", [-0.5, 0.0, 0.3, 0.95, 1.0, 1.5])
def test_several_counts_at_once_say_what_each_says(level: float) -> None:
    random = np.random.default_rng(3)
    several = np.array([count(random.random(number).round(1)) for number in (0, 1, 40, 900)])
    each = [log_below(one, level) for one in several]
    assert logs_below(several[None], level)[0].tolist() == pytest.approx(each, rel=1e-12)


@settings(max_examples=8)
@given(LOSSES, LOSSES)
def test_counts_of_workers_add(first: list[float], second: list[float]) -> None:
    """Exactly what one worker has that saw all."""
    together, apart = count([*first, *second]), count(first) + count(second)
    np.testing.assert_array_equal(together, apart)
    assert interval(together) == interval(apart) and log_below(together, 0.9) == log_below(apart, 0.9)


@settings(max_examples=20)
@given(LOSSES)
def test_counting_is_the_safe_way(losses: list[float]) -> None:
    """Evidence by cells is at most evidence of the losses themselves, and bounds are no closer."""
    for bound in (0.05, 0.4):
        exact = np.log1p(GRID * (np.array(losses)[:, None] - bound) / bound).sum(axis=0)
        assert log_below(count(losses), 1 - bound) <= np.logaddexp.reduce(exact) - np.log(len(GRID)) + 1e-9
    low, high = interval(count(losses))
    assert 0 <= low <= np.mean(losses) + 1e-9 and np.mean(losses) - 1e-9 <= high <= 1


def test_the_interval_is_where_the_bets_end() -> None:
    counts = count([0] * 900 + [1] * 100)
    low, high = interval(counts, 0.05)
    assert log_below(counts, 1 - low) == pytest.approx(math.log(40), abs=1e-6)
    assert 0.06 < low < 0.1 < high < 0.15
    mirrored = interval(counts[::-1], 0.05)
    assert mirrored == pytest.approx((1 - high, 1 - low))


def test_the_interval_goes_on_shrinking() -> None:
    """With the labels of months too: the width falls about as the root of their number."""
    widths = []
    for labels in (10**3, 10**5, 10**7):
        low, high = interval(count([0] * 19 + [1]) * (labels // 20))
        assert low < 0.05 < high
        widths.append(high - low)
    assert widths[0] < 0.06 and widths[1] < 0.007 and widths[2] < 0.001


LOSS = {
    "rare errors": (0.02, lambda random, shape: (random.random(shape) < 0.02).astype(float)),
    "many errors": (0.4, lambda random, shape: (random.random(shape) < 0.4).astype(float)),
    "graded": (1 / 6, lambda random, shape: random.beta(0.5, 2.5, shape)),
}


@pytest.mark.long
@pytest.mark.parametrize("kind", LOSS)
def test_the_interval_holds_at_all_times_at_once(kind: str, effort: float) -> None:
    """Looked at after every label: by Ville's inequality at the true mean, which is out as soon as a bet refutes it."""
    mean, draw = LOSS[kind]
    streams, labels = (2_000, 5_000) if effort == 1 else (1_000, 250)
    random = np.random.default_rng([*kind.encode()])
    out, below = np.zeros(streams, bool), np.zeros(streams, bool)
    part = 100
    for begin in range(0, streams, part):
        values = draw(random, (part, labels))
        cells = quality.cells_of(values)
        above, under = mixed(LOWER[cells], mean), mixed(1 - UPPER[cells], 1 - mean)
        out[begin : begin + part] = (np.maximum(above, under) >= math.log(2 / 0.05)).any(axis=1)
        below[begin : begin + part] = (above >= math.log(1 / quality.ALARM)).any(axis=1)
    print(f"{kind}: {out.sum()} intervals and {below.sum()} alarms of {streams}")
    keeps(int(out.sum()), streams, 0.05)
    keeps(int(below.sum()), streams, quality.ALARM)


def mixed(values: np.ndarray, bound: float) -> np.ndarray:
    """Log wealth after every label, [streams, labels]."""
    wealth = np.stack([np.cumsum(np.log1p(g * (values - bound) / bound), axis=1) for g in GRID])
    return np.asarray(np.logaddexp.reduce(wealth, axis=0) - np.log(len(GRID)))


def test_a_loss_of_quality_is_seen_within_hundreds_of_labels() -> None:
    """Accepted at .95, now .88: the median of labels that prove it at .01."""
    random = np.random.default_rng(7)
    wealth = mixed((random.random((40, 2_000)) < 0.12).astype(float), 0.05)
    proven = np.argmax(wealth >= math.log(100), axis=1)
    assert 50 < np.median(proven) < 300


def test_average_thresholded_confidence() -> None:
    assert estimate.atc([0.9, 0.5, 0.7, np.nan], 0.6) == 0.5
    assert estimate.atc([0.6], 0.6) == 0
    assert estimate.atc([], 0.6) is None
