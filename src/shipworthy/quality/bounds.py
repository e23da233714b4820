"""Exact confidence bounds of a drop, from counts of the samples that one model answers better than the other."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from ..contract import Array

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


def recall_drop_upper(lost: Array, won: Array, samples: Array, confidence: float) -> float:
    """Upper bound of the drop of the mean recall, from the counts of each class ([classes], all classes occur).

    The lesser of two bounds, each at half of the error. One bounds the drop of every class by itself, the error shared
    by the classes. The other bounds the rates of all samples together and weighs them by the class that counts most,
    for what is lost (least, for what is won); it is the tighter one where the classes are of like size.
    Both are given the sizes of the classes. A sum of Bernoulli variables of unlike rates has lighter tails than the
    binomial of their mean (Hoeffding, Ann. Math. Stat. 27, 1956), so the second bound holds, too."""
    half = 1 - (1 - confidence) / 2
    share = 1 - (1 - half) / len(samples)
    by_class = [accuracy_drop_upper(*counts, share) for counts in zip(lost, won, samples, strict=True)]
    side, total = 1 - (1 - half) / 2, float(samples.sum())
    weights = total / (len(samples) * samples)
    losses = weights.max() * binomial_upper(float(lost.sum()), total, side)
    together = losses - weights.min() * binomial_lower(float(won.sum()), total, side)
    return min(float(np.mean(by_class)), float(together), 1.0)


def f1_drop_upper(
    harmed: Array, rows: float, frequency: Array, samples: float, confidence: float, weight: float
) -> float:
    """Upper bound of the drop of the mean F1 of classes or labels, from how many samples the candidate harms.

    `harmed` [classes]: samples on which the candidate leaves the baseline for a wrong answer and so takes a true
    positive from this class or gives it a false positive; `rows`: samples that harm any class; `frequency` [classes]:
    share of the samples that are of the class, taken as given. With F = 2·tp / s, s = predicted + actual, l true
    positives lost and i false positives gained, all as rates, the drop of one class is at most
    (F·i + (2 − F)·l) / (s − l + i) ≤ 2·(i + l) / frequency. The sum over the classes, per harmed row, is at most
    `weight` / the least frequency. The lesser of both bounds, each at half of the error, the first shared by the
    classes. A class that does not occur can lose all of its F1."""
    half = 1 - (1 - confidence) / 2
    share = 1 - (1 - half) / len(harmed)
    rates = np.array([binomial_upper(float(count), samples, share) for count in harmed])
    safe = np.where(frequency > 0, frequency, 1.0)
    by_class = np.where(frequency > 0, np.minimum(2 * rates / safe, 1.0), 1.0)
    if not frequency.all():
        return float(by_class.mean())
    together = weight * binomial_upper(rows, samples, half) / (len(harmed) * frequency.min())
    return min(float(by_class.mean()), float(together))


def samples_needed(upper: Callable[[float], float], samples: int, limit: float) -> int | None:
    """The least number of samples at which `upper(scale)` is within `limit`; None where none is.

    `upper` gives the bound if there were `scale` times as many samples of the same rates."""

    def proves(count: int) -> bool:
        return upper(count / samples) <= limit

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


def accuracy_samples_needed(lost: float, won: float, samples: int, limit: float, confidence: float) -> int | None:
    """The least number of samples whose bound is within `limit` if the observed rates stay; None where none is."""
    if lost - won >= limit * samples:
        return None
    return samples_needed(
        lambda scale: accuracy_drop_upper(lost * scale, won * scale, samples * scale, confidence), samples, limit
    )
