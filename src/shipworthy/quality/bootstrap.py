"""Confidence bounds of a drop by resampling, for metrics whose samples are not simply right or wrong.

Such a bound is only as good as what the samples show: it says nothing where they are few, or where hardly any of them
differs between the two models. `too_little` tells these cases, in which nothing is proven."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np

from ..contract import Array

RESAMPLES = 2000
FEWEST = 30
"""Samples below which no resampling is trusted."""
FEWEST_CARRIERS = 10
"""Samples that have to carry the difference between the models, counted as (Σ|d|)² / Σd²."""
NEARLY_ZERO = 0.01
"""Differences below this share of the limit say nothing about rare large ones."""
_BLOCKS = 2000
_GROUPS = 100


def carriers(values: Array) -> float:
    """How many values carry the sum of their magnitudes: n where all are alike, 1 where one outweighs all others."""
    squares = float(np.square(values).sum())
    return float(np.abs(values).sum()) ** 2 / squares if squares else 0.0


def too_little(values: Array, samples: int, limit: float | None) -> str | None:
    """Why no bound follows from these differences of single samples (or groups of them); None where one does."""
    if samples < FEWEST:
        return f"{samples} samples are fewer than the {FEWEST} that a bootstrap needs"
    if not np.isfinite(values).all():
        return "the metric is not defined without some of the samples"
    least = max(NEARLY_ZERO * (limit or 0.0), 1e-9)
    if float(np.abs(values).max()) <= least:
        return "no sample's answers differ enough to tell how often larger differences occur"
    if carriers(values) < FEWEST_CARRIERS:
        return f"fewer than {FEWEST_CARRIERS} samples carry the difference"
    return None


def bootstrap_t_upper(values: Array, confidence: float, *, seed: int, resamples: int = RESAMPLES) -> float:
    """Upper bootstrap-t bound of the mean of independent values [n].

    Efron and Tibshirani, An Introduction to the Bootstrap (1993), section 12.5. Resamples are weights, so that each is
    a row of one matrix product; many values are averaged in blocks, drawn at random, first."""
    random = np.random.default_rng(seed)
    blocks = _in_blocks(values, random)
    count = len(blocks)
    mean, error = float(blocks.mean()), float(blocks.std(ddof=1)) / math.sqrt(count)
    centred = blocks - mean
    weights = random.multinomial(count, np.full(count, 1 / count), size=resamples) / count
    means = weights @ centred
    errors = np.sqrt(np.maximum(weights @ np.square(centred) - np.square(means), 0.0) / (count - 1))
    # A resample of one value only has no error of its own: it counts as the least favourable one.
    ratios = np.where(errors > 0, means / np.where(errors > 0, errors, 1.0), -np.inf)
    return mean - float(np.quantile(ratios, 1 - confidence, method="lower")) * error


def _in_blocks(values: Array, random: np.random.Generator) -> Array:
    if len(values) <= _BLOCKS:
        return values
    order = random.permutation(len(values))
    rest = len(values) % _BLOCKS
    # Blocks of one size: those that are left over join the mean by their own weight, as a shift of all blocks.
    blocks: Array = values[order[: len(values) - rest]].reshape(_BLOCKS, -1).mean(1)
    return np.asarray(blocks + (values.mean() - blocks.mean()))


def grouped_differences(drop: Callable[[Array], float], samples: int, seed: int) -> Array:
    """Jackknife pseudo-values of `drop(rows)` for up to 100 groups of rows that are left out in turn."""
    rows = np.random.default_rng(seed).permutation(samples)
    groups = np.array_split(rows, min(samples, _GROUPS))
    left = np.array([drop(np.setdiff1d(rows, group, assume_unique=True)) for group in groups])
    return np.asarray(len(groups) * drop(np.arange(samples)) - (len(groups) - 1) * left)


def bca_upper(
    drop: Callable[[Array], float],
    differences: Array,
    samples: int,
    confidence: float,
    *,
    seed: int,
    resamples: int = RESAMPLES,
) -> float:
    """Upper BCa bootstrap bound of `drop(rows)`; infinite where too many resamples leave the metric undefined (NaN).

    Efron and Tibshirani (1993), section 14.3, with the acceleration from `differences`, jackknife pseudo-values."""
    from scipy.stats import norm  # type: ignore[import-untyped]

    random = np.random.default_rng(seed)
    drops = np.array([drop(random.integers(0, samples, samples)) for _ in range(resamples)])
    drops = np.where(np.isnan(drops), np.inf, drops)
    seen = drop(np.arange(samples))
    below = (float((drops < seen).sum()) + float((drops == seen).sum()) / 2) / resamples
    if not 0 < below < 1:
        return math.inf
    centred = differences - differences.mean()
    acceleration = float((centred**3).sum()) / (6 * float((centred**2).sum()) ** 1.5)
    bias = float(norm.ppf(below))
    reach = bias + float(norm.ppf(confidence))
    if acceleration * reach >= 1:
        return math.inf
    level = float(norm.cdf(bias + reach / (1 - acceleration * reach)))
    return float(np.quantile(drops, level, method="higher"))


def bootstrap_samples_needed(drop: float, upper: float, samples: int, limit: float) -> int | None:
    """How many samples would bring the bound within `limit`: its distance shrinks with the root of their number."""
    if drop >= limit or not math.isfinite(upper):
        return None
    return max(samples, math.ceil(samples * ((upper - drop) / (limit - drop)) ** 2))
