"""Confidence bounds of a drop: exact for paired right/wrong answers, by bootstrap for any other metric."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np

from ..contract import Array

RESAMPLES = 2000
MOST_SAMPLES = 10**9


def binomial_upper(successes: float, trials: float, confidence: float) -> float:
    """One-sided upper Clopper–Pearson bound of a probability.

    Clopper and Pearson, Biometrika 26 (1934): the beta quantile at `confidence` with parameters k + 1, n − k.
    Counts need not be whole, so that a bound can be foreseen from rates."""
    from scipy.stats import beta  # type: ignore[import-untyped]

    if successes >= trials:
        return 1.0
    return float(beta.ppf(confidence, successes + 1, trials - successes))


def binomial_lower(successes: float, trials: float, confidence: float) -> float:
    """One-sided lower Clopper–Pearson bound of a probability: the beta quantile at 1 − confidence with k, n − k + 1."""
    from scipy.stats import beta

    if successes <= 0:
        return 0.0
    return float(beta.ppf(1 - confidence, successes, trials - successes + 1))


def accuracy_drop_upper(lost: float, won: float, samples: float, confidence: float) -> float:
    """Upper bound of the drop of accuracy between two models that answered the same samples.

    `lost`: the candidate is wrong where the baseline is right; `won`: the reverse. The drop is P(lost) − P(won);
    its bound is the upper bound of the first minus the lower bound of the second, each at half of the error,
    so that it holds at `confidence` for every sample size (Bonferroni)."""
    side = 1 - (1 - confidence) / 2
    return binomial_upper(lost, samples, side) - binomial_lower(won, samples, side)


def accuracy_samples_needed(lost: float, won: float, samples: int, limit: float, confidence: float) -> int | None:
    """The least number of samples whose bound is within `limit` if the observed rates stay; None where none is."""
    lost_rate, won_rate = lost / samples, won / samples
    if lost_rate - won_rate >= limit:
        return None

    def proves(count: int) -> bool:
        return accuracy_drop_upper(lost_rate * count, won_rate * count, count, confidence) <= limit

    high = 1
    while not proves(high):
        high *= 2
        if high > MOST_SAMPLES:
            return None
    low = high // 2
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if proves(middle) else (middle, high)
    return high


def bootstrap_drop_upper(
    drop: Callable[[Array], float], samples: int, confidence: float, *, seed: int, resamples: int = RESAMPLES
) -> float:
    """Upper percentile bootstrap bound of `drop(rows)`, the drop on the rows that are given by index.

    Efron and Tibshirani, An Introduction to the Bootstrap (1993), chapter 13. Paired: both models are scored on the
    same rows. Resamples on which the metric is undefined (NaN) are left out."""
    random = np.random.default_rng(seed)
    drops = np.fromiter(
        (drop(random.integers(0, samples, samples)) for _ in range(resamples)), dtype=np.float64, count=resamples
    )
    drops = drops[np.isfinite(drops)]
    return float(np.quantile(drops, confidence, method="higher")) if len(drops) else math.inf


def bootstrap_samples_needed(drop: float, upper: float, samples: int, limit: float) -> int | None:
    """How many samples would bring the bound within `limit`: its distance shrinks with the root of their number."""
    if drop >= limit or not math.isfinite(upper):
        return None
    return max(samples, math.ceil(samples * ((upper - drop) / (limit - drop)) ** 2))
