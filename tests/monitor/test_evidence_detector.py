"""The sequential detector: fair bets, one way to work them out and another, a state that goes on."""

from __future__ import annotations

import time

import numpy as np
import pytest
from drift_oracle import Oracle
from hypothesis import given, settings
from hypothesis import strategies as st

from shipworthy.errors import MonitorError
from shipworthy.monitor.evidence import Bins, Detector
from shipworthy.monitor.evidence.order import Order
from shipworthy.signals.signal import Signal


def signals(*kinds: str, scored: bool = True) -> list[Signal]:
    return [Signal(f"{kind}{at}", kind, "answers", kind, scored=scored) for at, kind in enumerate(kinds)]  # type: ignore[arg-type]


def gaps(samples: int) -> np.ndarray:
    """Of a reference of so many, [32]."""
    return Bins.of(np.random.default_rng(0).normal(size=(samples, 1)), signals("number")).counts[0]


def test_bins_are_gaps_between_order_statistics() -> None:
    reference = np.arange(99.0)[:, None]
    bins = Bins.of(reference, signals("number"))
    middle = [round((1 + 1.25 * i) / 32 * 100) for i in range(1, 24)]
    cuts = [0, 1, 2, 3, 4, *middle, 96, 97, 98, 99, 100]
    np.testing.assert_array_equal(bins.counts, [np.diff(cuts)])
    # A value between the reference's r-th and the next has rank r + 1 of 100: it belongs to the bin that covers it.
    values = np.arange(-0.5, 99)[:, None]
    placed = bins.place(values, np.random.default_rng(1))[:, 0]
    np.testing.assert_array_equal(np.bincount(placed, minlength=32), np.diff(cuts))
    assert (np.diff(placed) >= 0).all()


@pytest.mark.parametrize("samples", [32, 33, 63, 300, 4000])
def test_no_bin_is_empty_and_those_between_are_alike(samples: int) -> None:
    counts = gaps(samples)
    assert counts.sum() == samples + 1 and counts.min() >= 1
    assert np.ptp(counts[5:-5]) <= (2 if samples < 300 else 1)


def test_large_references_have_bins_far_out() -> None:
    np.testing.assert_allclose(gaps(4000)[:4] / 4001, [0.004, 0.004, 0.008, 0.01525], atol=2e-4)
    np.testing.assert_allclose(gaps(4000), gaps(4000)[::-1], atol=1)


def test_a_reference_below_32_is_refused() -> None:
    with pytest.raises(MonitorError, match="31 samples"):
        Bins.of(np.zeros((31, 1)), signals("number"))


def test_ties_are_spread_over_bins_by_their_gaps() -> None:
    """A class: the bins of new values have the probabilities of the gaps, on average over references."""
    random = np.random.default_rng(3)
    total = np.zeros(32)
    for seed in range(300):
        both = random.integers(3, size=(164, 1)).astype(float)
        both[random.random(164) < 0.2] = np.nan
        bins = Bins.of(both[:64], signals("class"), seed)
        total += np.bincount(bins.place(both[64:], random)[:, 0], minlength=32)
    expected = gaps(64) / 65 * total.sum()
    # Values of one round share a reference, so the counts vary more than independent ones would.
    assert (np.abs(total / expected - 1) < 0.25).all()


def test_missing_values_are_the_largest_and_infinite_ones_next() -> None:
    reference = np.array([3.0, np.nan, np.inf, 1.0, np.nan])
    order = Order(reference, np.random.default_rng(0))
    random = np.random.default_rng(1)
    assert order.rank(np.array([0.0, 2.0, 1e9, -np.inf]), random).tolist() == [0, 1, 2, 0]
    missing = np.concatenate([order.rank(np.full(1, np.nan), random) for _ in range(100)])
    assert set(missing.tolist()) == {3, 4, 5}
    assert set(order.rank(np.full(100, np.inf), random).tolist()) == {2, 3}


def test_only_scored_signals_are_bet_on() -> None:
    two = signals("number")[0], signals("class", scored=False)[0]
    bins = Bins.of(np.random.default_rng(0).normal(size=(50, 2)), two)
    assert bins.columns.tolist() == [0] and bins.counts.shape == (1, 32)
    none = Bins.of(np.zeros((50, 1)), two[1:])
    detector = Detector(none.counts, 100)
    assert detector.update(none.place(np.ones((7, 1)), np.random.default_rng(0))).tolist() == [0.0] * 7


@settings(max_examples=25)
@given(st.lists(st.integers(0, 31), max_size=60), st.sampled_from([32, 45, 300]))
def test_every_bet_is_fair(history: list[int], samples: int) -> None:
    """Whatever came before, the factors' expectation over the bin of the next sample is 1."""
    oracle = Oracle(gaps(samples))
    for place in history:
        oracle.add(place)
    chances = np.array(oracle.counts) / sum(oracle.counts)
    factors = np.array([oracle.factors(place) for place in range(32)])
    np.testing.assert_allclose(chances @ factors, 1, atol=1e-12)
    assert (factors > 0).all()


def drifting(random: np.random.Generator, shape: tuple[int, ...]) -> np.ndarray:
    """Bins that gather at one side from a third on."""
    bins = random.integers(32, size=shape)
    later = bins[..., shape[-2] // 3 :, :]
    later[...] = np.where(random.random(later.shape) < 0.3, 31 - later // 8, later)
    return bins.astype(np.int8)


@pytest.mark.parametrize("cuts", [[], [1, 2, 3, 50, 51, 400], [250, 500]])
def test_blocks_and_single_samples_agree(cuts: list[int]) -> None:
    bins = drifting(np.random.default_rng(4), (700, 3))
    counts = np.stack([gaps(samples) for samples in (40, 40, 40)])
    oracles = [Oracle(row) for row in counts]
    expected = np.array([[oracle.add(int(place)) for oracle, place in zip(oracles, row, strict=True)] for row in bins])
    detector = Detector(counts, 1e3, nodes=2)
    evidence = np.concatenate([detector.update(part) for part in np.array_split(bins, cuts)])
    np.testing.assert_allclose(evidence, expected.max(axis=1) / (3 * 1e3 * 2), rtol=1e-9)
    np.testing.assert_allclose(detector.by_signal, expected[-1] / (3 * 1e3 * 2), rtol=1e-9)
    leading = expected[-1].argmax()
    assert int(detector.began) == oracles[leading].ages[int(np.argmax(oracles[leading].weighted))]
    assert detector.samples == 700


def test_streams_side_by_side_are_streams_by_themselves() -> None:
    bins = drifting(np.random.default_rng(5), (2, 3, 300, 2))
    counts = np.broadcast_to(gaps(100), (2, 3, 2, 32))
    together = Detector(counts, 1e4)
    evidence = together.update(bins)
    assert evidence.shape == (2, 3, 300) and together.by_signal.shape == (2, 3, 2) and together.began.shape == (2, 3)
    for at in np.ndindex(2, 3):
        alone = Detector(counts[at], 1e4)
        np.testing.assert_allclose(alone.update(bins[at]), evidence[at], rtol=1e-12)
        assert alone.began == together.began[at]


def test_a_state_goes_on_where_it_was() -> None:
    bins = drifting(np.random.default_rng(6), (600, 2))
    counts = np.stack([gaps(50)] * 2)
    whole, first, second = (Detector(counts, 1e3) for _ in range(3))
    expected = whole.update(bins)
    first.update(bins[:333])
    state = first.state()
    assert sum(array.nbytes for array in state.values()) < 4_500
    first.update(bins[333:])
    second.restore(state)
    np.testing.assert_allclose(second.update(bins[333:]), expected[333:], rtol=1e-12)
    assert second.began == whole.began and second.samples == 600


def test_a_state_of_another_shape_is_not_taken() -> None:
    with pytest.raises(AssertionError, match="counts"):
        Detector(np.stack([gaps(50)] * 2), 1e3).restore(Detector(gaps(50)[None], 1e3).state())


def test_reset_begins_anew() -> None:
    bins = drifting(np.random.default_rng(7), (500, 1))
    detector = Detector(gaps(100)[None], 100)
    expected = detector.update(bins)
    assert expected[-1] >= 1
    detector.reset()
    assert detector.samples == 0 and detector.by_signal.tolist() == [0.0]
    np.testing.assert_array_equal(detector.update(bins), expected)


def test_wealth_stays_finite() -> None:
    """All samples beyond the reference for as long as one likes, and back."""
    detector = Detector(gaps(4_000)[None], 1e6)
    evidence = detector.update(np.full((10_000, 1), 31, np.int8))
    assert evidence.max() == pytest.approx(1e200 / 1e6 * (0.2 / 2 + 0.3 + 0.5 / 2), rel=0.1)
    assert np.isfinite(detector.update(np.zeros((10_000, 1), np.int8))).all()


def test_the_leading_bet_tells_when_the_change_began() -> None:
    """Within a few dozen samples of the truth, of a change by one deviation."""
    random = np.random.default_rng(8)
    counts = gaps(1000)
    edges = np.sort(random.normal(size=1000))
    late = []
    for _ in range(9):
        values = random.normal(size=(3_000, 1))
        values[2_500:] += 1
        bins = Bins.of(edges[:, None], signals("number")).place(values, random)
        detector = Detector(counts[None], 1e6)
        evidence = detector.update(bins[:2_700])
        assert evidence[2_499] < 1 <= evidence[-1]
        late.append(2_700 - int(detector.began) - 2_500)
    print(late)
    assert abs(np.median(late)) <= 20


def test_a_sample_costs_microseconds() -> None:
    detector = Detector(np.stack([gaps(1000)] * 6), 1e6)
    bins = np.random.default_rng(9).integers(32, size=(250, 6), dtype=np.int8)
    seconds = []
    for _ in range(20):
        start = time.thread_time()
        detector.update(bins)
        seconds.append(time.thread_time() - start)
    # The rest of the machine is left out by the smallest; slow machines get some room.
    assert min(seconds) / 250 < 20e-6
