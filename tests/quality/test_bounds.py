"""The bounds of a drop: known answers, and their coverage by simulation."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy.stats import binomtest

from shipworthy.quality.bounds import (
    accuracy_drop_upper,
    accuracy_samples_needed,
    binomial_lower,
    binomial_upper,
    f1_drop_upper,
    recall_drop_upper,
    samples_needed,
)
from shipworthy.quality.metrics import f1_macro


@pytest.mark.parametrize(
    ("successes", "trials", "confidence"), [(0, 10, 0.95), (3, 50, 0.975), (50, 50, 0.99), (7, 8, 0.9)]
)
def test_binomial_bounds_are_those_of_an_independent_implementation(
    successes: int, trials: int, confidence: float
) -> None:
    less = binomtest(successes, trials, alternative="less").proportion_ci(confidence, method="exact")
    greater = binomtest(successes, trials, alternative="greater").proportion_ci(confidence, method="exact")
    assert binomial_upper(successes, trials, confidence) == pytest.approx(less.high, abs=1e-9)
    assert binomial_lower(successes, trials, confidence) == pytest.approx(greater.low, abs=1e-9)


def test_no_disagreement_gives_the_closed_form() -> None:
    assert accuracy_drop_upper(0, 0, 1000, 0.95) == pytest.approx(1 - 0.025 ** (1 / 1000))


def test_wins_lower_the_bound_and_losses_raise_it() -> None:
    base = accuracy_drop_upper(5, 5, 1000, 0.95)
    assert accuracy_drop_upper(5, 15, 1000, 0.95) < base < accuracy_drop_upper(10, 5, 1000, 0.95)


@pytest.mark.parametrize(
    ("lost", "won", "samples", "limit"), [(0, 0, 300, 0.005), (2, 1, 500, 0.01), (10, 8, 1000, 0.004)]
)
def test_the_samples_needed_are_the_least_that_prove(lost: int, won: int, samples: int, limit: float) -> None:
    needed = accuracy_samples_needed(lost, won, samples, limit, 0.95)
    assert needed is not None
    lost_rate, won_rate = lost / samples, won / samples
    assert accuracy_drop_upper(lost_rate * needed, won_rate * needed, needed, 0.95) <= limit
    fewer = needed - 1
    assert accuracy_drop_upper(lost_rate * fewer, won_rate * fewer, fewer, 0.95) > limit


def test_a_drop_above_the_limit_needs_no_number() -> None:
    assert accuracy_samples_needed(10, 2, 1000, 0.005, 0.95) is None


@pytest.mark.long
@pytest.mark.parametrize(
    ("lost_rate", "won_rate", "samples"), [(0.01, 0.01, 300), (0.05, 0.02, 200), (0.002, 0.0, 500), (0.2, 0.25, 80)]
)
def test_the_exact_bound_covers_at_its_confidence(
    lost_rate: float, won_rate: float, samples: int, effort: float
) -> None:
    trials, confidence = int(40_000 * effort), 0.9
    random = np.random.default_rng(7)
    counts = random.multinomial(samples, [lost_rate, won_rate, 1 - lost_rate - won_rate], size=trials)
    seen: dict[tuple[int, int], float] = {}
    covered = 0
    for lost, won, _ in counts.tolist():
        if (lost, won) not in seen:
            seen[lost, won] = accuracy_drop_upper(lost, won, samples, confidence)
        covered += seen[lost, won] >= lost_rate - won_rate
    interval = binomtest(covered, trials).proportion_ci(0.999, method="exact")
    assert interval.high >= confidence, f"covered {covered} of {trials}"
    # It must not be empty words either: conservative, but with a reach that data shrinks.
    assert np.mean([seen[lost, won] for lost, won, _ in counts.tolist()]) < lost_rate - won_rate + 6 / math.sqrt(
        samples
    )


def test_the_recall_bound_of_like_classes_is_nearly_that_of_accuracy() -> None:
    none, each = np.zeros(5), np.full(5, 200.0)
    upper = recall_drop_upper(none, none, each, 0.95)
    assert accuracy_drop_upper(0, 0, 1000, 0.95) < upper < 1.3 * accuracy_drop_upper(0, 0, 1000, 0.95)


def test_a_rare_class_that_lost_nothing_keeps_the_recall_bound_wide() -> None:
    upper = recall_drop_upper(np.zeros(2), np.zeros(2), np.array([190.0, 10.0]), 0.95)
    assert upper > binomial_upper(0, 10, 0.95) / 2


@pytest.mark.parametrize("seed", range(4))
def test_the_f1_bound_is_above_every_drop_that_the_harm_allows(seed: int) -> None:
    """With so many samples that rates are known, no pair of answers may drop more than the bound says."""
    random = np.random.default_rng(seed)
    for _ in range(200):
        truth = random.integers(0, 3, 60)
        before, after = (np.where(random.random(60) < rate, random.integers(0, 3, 60), truth) for rate in (0.2, 0.3))
        wrong = (before != after) & (after != truth)
        lost = wrong & (before == truth)
        harmed = np.array([((lost & (truth == c)) | (wrong & (after == c))).sum() for c in range(3)], np.float64)
        frequency = np.bincount(truth, minlength=3) / 60
        upper = f1_drop_upper(harmed * 1e6, wrong.sum() * 1e6, frequency, 60e6, 0.95, 3.0)
        assert f1_macro(before, truth) - f1_macro(after, truth) <= upper + 1e-3


def test_the_samples_needed_are_found_by_doubling() -> None:
    assert samples_needed(lambda scale: 0.1 / scale, 100, 0.01) == 1000
    assert samples_needed(lambda _: 0.1, 100, 0.01) is None
