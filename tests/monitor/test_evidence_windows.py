"""The windowed test: exact p-values against a second library, and the correction over signals."""

from __future__ import annotations

import tracemalloc
from fractions import Fraction
from itertools import combinations
from math import lcm

import numpy as np
import pytest
from drift_world import keeps
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from shipworthy.monitor.evidence import WindowTest, WindowTests, kolmogorov, tables
from shipworthy.monitor.evidence.order import Order
from shipworthy.monitor.evidence.windows import holm
from shipworthy.signals.signal import Signal

NUMBER = Signal("x", "number", "inputs", "x")
CLASS = Signal("class", "class", "answers", "class", classes=("a", "b", "c"))
SHARE = Signal("missing", "share", "inputs", "missing")


@pytest.mark.parametrize(
    ("m", "n"), [(32, 500), (100, 500), (937, 500), (1000, 500), (500, 500), (7, 3), (3, 7), (1, 1)]
)
def test_kolmogorov_is_scipys(m: int, n: int) -> None:
    random = np.random.default_rng(m + n)
    for shift in (0.0, 0.1, 0.3, 1.0):
        reference, window = random.normal(size=m), random.normal(size=n) + shift
        expected = stats.ks_2samp(reference, window, method="exact")
        ranks = Order(reference, random).rank(window, random)
        distance = kolmogorov.lattice_distance(ranks, m)
        assert distance / lcm(m, n) == pytest.approx(expected.statistic, rel=1e-12)
        assert kolmogorov.exact(m, n, distance) == pytest.approx(expected.pvalue, rel=1e-8)


@given(st.integers(1, 5), st.integers(1, 5))
def test_kolmogorov_counts_paths(m: int, n: int) -> None:
    """Against all orders of two small samples, one by one, for every distance that there is."""
    distances = []
    for places in combinations(range(m + n), m):
        steps = np.array([place in places for place in range(m + n)])
        distances.append(int(np.abs(np.cumsum(np.where(steps, lcm(m, n) // m, -(lcm(m, n) // n)))).max()))
    for distance in range(lcm(m, n) + 2):
        share = Fraction(sum(found >= distance for found in distances), len(distances))
        assert kolmogorov.exact(m, n, distance) == pytest.approx(float(share), abs=1e-12)


def test_the_limit_for_large_samples_is_on_the_safe_side() -> None:
    for m, n in ((32, 500), (250, 500), (1000, 500)):
        for scaled in (0.5, 0.8, 1.2, 1.6, 2.2):
            distance = int(np.ceil(scaled * np.sqrt((m + n) / m / n) * lcm(m, n)))
            limit, exact = kolmogorov.p_value(m, n, distance, 1e-30), kolmogorov.exact(m, n, distance)
            assert exact <= limit <= 2 * exact
            assert kolmogorov.p_value(m, n, distance) == exact
    assert kolmogorov.asymptotic(1.5) == pytest.approx(stats.kstwobign.sf(1.5), rel=1e-12)
    assert kolmogorov.asymptotic(0.1) == 1


@settings(max_examples=30)
@given(st.integers(1, 40), st.integers(1, 40), st.data())
def test_hypergeometric_is_fishers_exact_test(m: int, n: int, data: st.DataObject) -> None:
    before, now = data.draw(st.integers(0, m)), data.draw(st.integers(0, n))
    expected = stats.fisher_exact([[before, m - before], [now, n - now]]).pvalue
    assert tables.hypergeometric((before, m), (now, n)) == pytest.approx(expected, rel=1e-6)


def test_hypergeometric_of_a_known_table() -> None:
    """Fisher's tea: 3 of 4 cups named rightly, p = 34/70."""
    assert tables.hypergeometric((3, 4), (1, 4)) == pytest.approx(34 / 70)
    assert tables.hypergeometric((0, 1000), (60, 500)) < 1e-25


def test_rare_classes_count_together() -> None:
    reference, window = np.array([500, 2, 300, 1, 0, 3]), np.array([250, 9, 150, 1, 0, 0])
    before, now = tables.grouped(reference, window)
    assert before.tolist() == [500, 300, 6] and now.tolist() == [250, 150, 10]
    # So few that they are counted with the least of the others.
    before, now = tables.grouped(np.array([500, 300, 2]), np.array([250, 150, 1]))
    assert before.tolist() == [500, 302] and now.tolist() == [250, 151]
    assert tables.grouped(np.array([7, 0]), np.array([3, 0]))[0].tolist() == [7]


def test_chi_square_by_resampling_is_near_the_limit() -> None:
    random = np.random.default_rng(0)
    for window in ([155, 150, 195], [190, 140, 170], [175, 150, 175]):
        before, now = np.array([300, 310, 390]), np.array(window)
        expected = stats.chi2_contingency([before, now], correction=False).pvalue
        found = np.median([tables.chi_square(before, now, random, 1e-3) for _ in range(25)])
        assert found == pytest.approx(expected, rel=0.2)


def test_chi_square_is_as_small_as_it_must_be() -> None:
    """Holm's correction asks for a p-value of the rate over the number of signals."""
    p = tables.chi_square(np.array([500, 500]), np.array([450, 50]), np.random.default_rng(0), 1e-4)
    assert 0 < p <= 1e-4 / 4
    assert tables.chi_square(np.array([100, 0]), np.array([50, 0]), np.random.default_rng(0), 1e-4) == 1


def test_many_resamples_take_little_memory() -> None:
    """As many as a rate of one false window in 25,000 asks for, in pieces; what is drawn is the same."""
    together = np.full(10, 300)
    one, other = np.random.default_rng(3), np.random.default_rng(3)
    whole = tables._distance(one.multivariate_hypergeometric(together, 900, 60_000, method="marginals"), together)
    far = float(np.quantile(whole, 0.99))
    tracemalloc.start()
    try:
        found = tables._as_far(together, 900, 60_000, far, other)
        most = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    np.testing.assert_array_equal(found, np.flatnonzero(whole >= far))
    assert one.bit_generator.state == other.bit_generator.state
    assert most < 6 * 8 * tables._PIECE


def test_holm_by_hand() -> None:
    """.01 * 4, .02 * 3, .03 * 2, .9; a smaller one is never corrected to more than a larger one."""
    np.testing.assert_allclose(holm(np.array([0.9, 0.02, 0.01, 0.03])), [0.9, 0.06, 0.04, 0.06])
    assert holm(np.array([0.6, 0.7])).tolist() == [1.0, 1.0]
    assert holm(np.array([])).tolist() == []


def reference(random: np.random.Generator, rows: int) -> np.ndarray:
    columns = random.normal(size=rows), random.integers(3, size=rows), random.random(rows) < 0.02
    return np.stack(columns, axis=1).astype(float)


def test_a_window_says_which_signals_moved() -> None:
    random = np.random.default_rng(1)
    test = WindowTest(reference(random, 1000), (NUMBER, CLASS, SHARE))
    same = test.test(reference(random, 500))
    assert not same.rejected.any() and (same.distance < 0.1).all()
    for column, change in ((0, lambda x: x + 0.5), (1, lambda x: np.where(x > 1, 0.0, x)), (2, lambda x: x * 0 + 1)):
        values = reference(random, 500)
        values[:, column] = change(values[:, column])
        result = test.test(values)
        assert result.rejected.tolist() == [place == column for place in range(3)]
        assert result.corrected[column] <= 0.001 and result.distance[column] > 0.15


def test_every_fourth_window_is_tested_with_the_three_before_it() -> None:
    """A shift by a seventh of a deviation: 500 rows rarely show it, 2,000 do."""
    random = np.random.default_rng(4)
    tests = WindowTests(random.normal(size=(2000, 1)), (NUMBER,), 500, 0.001, seed=1)
    values = random.normal(0.15, size=(2000, 1))
    found = [tests.test(values[:end]) for end in range(500, 2001, 500)]
    assert [[each.rows for each in results] for results in found] == [[500], [500], [500], [500, 2000]]
    assert not any(results[0].rejected.any() for results in found) and found[3][1].rejected.all()
    for each in found[3]:
        np.testing.assert_allclose(each.corrected, np.minimum(2 * each.p, 1))
        assert (each.rejected == (each.corrected <= 0.001)).all()


def test_missing_values_are_seen_in_every_kind() -> None:
    random = np.random.default_rng(2)
    test = WindowTest(reference(random, 1000), (NUMBER, CLASS, SHARE))
    values = reference(random, 500)
    values[random.random(500) < 0.2] = np.nan
    assert test.test(values).rejected.all()


def test_a_class_that_never_was_is_seen() -> None:
    random = np.random.default_rng(3)
    unnamed = Signal("class", "class", "answers", "class")
    values = np.where(random.random(500) < 0.05, 7.0, random.integers(3, size=500))[:, None]
    for signal in (CLASS, unnamed):
        assert WindowTest(reference(random, 1000)[:, 1:2], (signal,)).test(values).rejected.all()


def test_a_window_repeats_with_its_seed() -> None:
    random = np.random.default_rng(4)
    rows, values = reference(random, 300), reference(random, 500)
    first, second = (WindowTest(rows, (NUMBER, CLASS, SHARE), seed=5).test(values) for _ in range(2))
    np.testing.assert_array_equal(first.p, second.p)


KINDS = {
    "continuous": (NUMBER, lambda random, rows: random.normal(size=rows)),
    "tied": (NUMBER, lambda random, rows: random.poisson(2, size=rows).astype(float)),
    "half missing": (
        NUMBER,
        lambda random, rows: np.where(random.random(rows) < 0.5, np.nan, random.normal(size=rows)),
    ),
    "classes": (CLASS, lambda random, rows: random.choice(3, size=rows, p=[0.9, 0.095, 0.005]).astype(float)),
    "share": (SHARE, lambda random, rows: (random.random(rows) < 0.05).astype(float)),
}


@pytest.mark.long
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("samples", [32, 300, 1000])
def test_p_values_keep_their_level(kind: str, samples: int, effort: float) -> None:
    """A new reference with each window, so that each is independent: p <= a at most as often as a."""
    signal, draw = KINDS[kind]
    runs = round(6_000 * effort)
    random = np.random.default_rng([samples, *kind.encode()])
    p = np.empty(runs)
    for run in range(runs):
        test = WindowTest(draw(random, samples)[:, None], (signal,), 100, 0.01, seed=run)
        p[run] = test.test(draw(random, 100)[:, None]).p[0]
    for level in (0.001, 0.01, 0.05, 0.2):
        keeps(int((p <= level).sum()), runs, level)
    if signal is NUMBER and samples > 32:
        assert (p <= 0.2).mean() >= 0.12, "it is not only safe but exact"


@pytest.mark.long
@pytest.mark.parametrize("samples", [32, 1000])
def test_the_rate_of_a_window_holds_over_signals_that_depend(samples: int, effort: float) -> None:
    """Six signals of which four are one and the same; at a rate of .001 and, to see more of them, of .05."""
    runs = round(4_000 * effort)
    signals = [NUMBER] * 4 + [CLASS, SHARE]
    random = np.random.default_rng(samples)
    alarms = np.zeros(2)
    for run in range(runs):
        both = random.normal(size=(samples + 100, 6))
        both[:, 1:4] = both[:, :1]
        both[:, 4] = np.digitize(both[:, 0], [-1, 1])
        both[:, 5] = both[:, 5] > 1
        result = WindowTest(both[:samples], signals, 100, 0.05, seed=run).test(both[samples:])
        alarms += [(result.corrected <= rate).any() for rate in (0.001, 0.05)]
    for rate, count in zip((0.001, 0.05), alarms, strict=True):
        keeps(int(count), runs, rate)
