"""The bounds of a drop: known answers, and their coverage by simulation."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy.stats import binomtest

from shipworthy.measure.bounds import (
    accuracy_drop_upper,
    accuracy_samples_needed,
    binomial_lower,
    binomial_upper,
    bootstrap_drop_upper,
    bootstrap_samples_needed,
)


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


@pytest.mark.long
def test_the_bootstrap_bound_covers_nearly_at_its_confidence(effort: float) -> None:
    """The percentile bootstrap is first-order: within 3 points of its confidence at 200 samples."""
    trials, samples, confidence = int(2000 * effort), 200, 0.95
    random = np.random.default_rng(8)
    covered = 0
    for trial in range(trials):
        differences = random.gamma(2.0, 1.0, samples) - 2.0
        upper = bootstrap_drop_upper(
            lambda rows, values=differences: float(values[rows].mean()), samples, confidence, seed=trial, resamples=400
        )
        covered += upper >= 0.0
    interval = binomtest(covered, trials).proportion_ci(0.999, method="exact")
    assert interval.high >= confidence - 0.03
    assert interval.low <= confidence + 0.03


def test_the_bootstrap_is_seeded_and_paired() -> None:
    random = np.random.default_rng(1)
    eager = random.normal(0, 10, 100)
    candidate = eager - 0.1

    def drop(rows: np.ndarray) -> float:
        return float(eager[rows].mean() - candidate[rows].mean())

    first = bootstrap_drop_upper(drop, 100, 0.95, seed=3, resamples=200)
    assert first == bootstrap_drop_upper(drop, 100, 0.95, seed=3, resamples=200)
    assert first == pytest.approx(0.1), "what both models share cancels"


def test_an_undefined_metric_has_no_bound() -> None:
    assert bootstrap_drop_upper(lambda _: math.nan, 10, 0.95, seed=0, resamples=10) == math.inf


def test_bootstrap_samples_grow_with_the_square() -> None:
    assert bootstrap_samples_needed(drop=0.0, upper=0.02, samples=100, limit=0.01) == 400
    assert bootstrap_samples_needed(drop=0.02, upper=0.04, samples=100, limit=0.01) is None
