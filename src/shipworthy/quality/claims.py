"""What is claimed of a drop, and the bound that proves it or does not: which one is valid for which metric."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from ..contract import Array, Arrays
from ..errors import DataError
from .bootstrap import (
    FEWEST,
    FEWEST_CARRIERS,
    RESAMPLES,
    bca_upper,
    bootstrap_samples_needed,
    bootstrap_t_upper,
    carriers,
    grouped_differences,
    too_little,
)
from .bounds import (
    accuracy_drop_upper,
    accuracy_samples_needed,
    binomial_upper,
    f1_drop_upper,
    recall_drop_upper,
    samples_needed,
)
from .metrics import ANSWERS, BuiltIn, Metric, fit_targets
from .terms import pseudo_values


@dataclass(frozen=True, slots=True)
class Claim:
    """What is to be shown of the drop: the limit, the confidence, and among how many finalists it is shared."""

    limit: float | None = None
    confidence: float | None = None
    """None where no proof is asked for."""
    finalists: int = 1

    @property
    def level(self) -> float | None:
        """1 − (1 − c)/K: each of K finalists is proven at this, so that all together hold at c (Bonferroni)."""
        return None if self.confidence is None else 1 - (1 - self.confidence) / self.finalists


@dataclass(frozen=True, slots=True)
class Bound:
    """The upper bound of a drop; None where the samples prove nothing, and then `method` says why."""

    upper: float | None
    method: str
    needed: int | None = None


@dataclass(frozen=True, slots=True)
class _Pair:
    """Both models' answers to the same samples, and what they are asked to show."""

    before: Array
    after: Array
    targets: Array
    drop: float
    limit: float
    level: float
    seed: int

    @property
    def samples(self) -> int:
        return len(self.targets)


def bound_of(
    metric: Metric, base: Arrays, other: Arrays, targets: Array, drop: float, claim: Claim, seed: int
) -> Bound:
    """The bound of the drop at the claim's level. `base` and `other` are what the metric reads of the outputs."""
    assert claim.level is not None, "a bound is only for a claim with a confidence"
    limit = math.inf if claim.limit is None else claim.limit
    built_in = metric.built_in
    if built_in is None:
        return _own(metric, base, other, targets, drop, limit, claim.level, seed)
    before, after = base[ANSWERS], other[ANSWERS]
    truth = fit_targets(built_in.answer, before, targets)
    pair = _Pair(before, after, truth, drop, limit, claim.level, seed)
    # Positions of one sample are not independent: only one answer per sample is counted.
    single = before.ndim == 1
    if metric.name == "accuracy" and single:
        return _accuracy(pair)
    if metric.name == "balanced_accuracy" and single:
        return _balanced(pair)
    if built_in.answer == "labels" or (metric.name == "f1_macro" and single):
        return _f1(pair, built_in)
    return _resampled(pair, built_in)


def _accuracy(pair: _Pair) -> Bound:
    right, kept = pair.before == pair.targets, pair.after == pair.targets
    lost, won = int((right & ~kept).sum()), int((kept & ~right).sum())
    upper = accuracy_drop_upper(lost, won, pair.samples, pair.level)
    needed = None
    if upper > pair.limit:
        needed = accuracy_samples_needed(lost, won, pair.samples, pair.limit, pair.level)
    return Bound(upper, f"exact paired Clopper–Pearson ({lost} lost, {won} won)", needed)


def _balanced(pair: _Pair) -> Bound:
    right, kept = pair.before == pair.targets, pair.after == pair.targets
    classes, index = np.unique(pair.targets, return_inverse=True)
    lost, won, total = (
        np.bincount(index[where], minlength=len(classes)).astype(np.float64)
        for where in (right & ~kept, kept & ~right, np.ones_like(right))
    )

    def upper(scale: float) -> float:
        return recall_drop_upper(lost * scale, won * scale, total * scale, pair.level)

    method = f"exact paired Clopper–Pearson per class ({lost.sum():.0f} lost, {won.sum():.0f} won)"
    needed = None
    if upper(1) > pair.limit > pair.drop:
        needed = samples_needed(upper, pair.samples, pair.limit)
    return Bound(upper(1), method, needed)


def _f1(pair: _Pair, built_in: BuiltIn) -> Bound:
    """Where hardly an answer differs, resamples say nothing; the exact bound of what may be harmed does."""
    harmed, rows, frequency, weight = _harm(pair)

    def exact(scale: float) -> float:
        return f1_drop_upper(harmed * scale, rows * scale, frequency, pair.samples * scale, pair.level, weight)

    resampled = _resampled(pair, built_in)
    upper = max(exact(1), -math.inf if resampled.upper is None else resampled.upper)
    method = f"exact bound of the harmed answers ({rows} of {pair.samples})"
    if resampled.upper is not None:
        method += f", and {resampled.method}; the larger"
    needed = None
    if upper > pair.limit > pair.drop:
        counted = samples_needed(exact, pair.samples, pair.limit)
        needed = None if counted is None else max(counted, resampled.needed or 0)
    return Bound(upper, method, needed)


def _harm(pair: _Pair) -> tuple[Array, int, Array, float]:
    """Per class the samples that the candidate harms, how many in all, how frequent the classes are, the weight."""
    wrong = (pair.before != pair.after) & (pair.after != pair.targets)
    if wrong.dtype == bool and pair.targets.dtype == bool:
        cells, truth = wrong.reshape(pair.samples, -1), pair.targets.reshape(pair.samples, -1)
        return cells.sum(0).astype(np.float64), int(cells.any(1).sum()), truth.mean(0), 2.0 * truth.shape[1]
    classes, sizes = np.unique(pair.targets, return_counts=True)
    lost = wrong & (pair.before == pair.targets)
    harmed = [int(((lost & (pair.targets == c)) | (wrong & (pair.after == c))).sum()) for c in classes]
    return np.array(harmed, np.float64), int(wrong.sum()), sizes / pair.samples, 3.0


def _resampled(pair: _Pair, built_in: BuiltIn) -> Bound:
    # A shift that models share changes no drop, and keeps squares of the targets small.
    values = pair.targets.mean(0) if built_in.answer == "value" else None
    before, after, targets = (
        array if values is None else array - values for array in (pair.before, pair.after, pair.targets)
    )
    differences = pseudo_values(built_in.terms, before, after, targets)
    why = too_little(differences, pair.samples, _finite(pair.limit))
    if why is not None:
        return _rare(pair, differences, built_in.reach) or _unproven(why, pair, differences)
    upper = bootstrap_t_upper(differences, pair.level, seed=pair.seed)
    if not math.isfinite(upper):
        return Bound(None, "the bootstrap gives no bound: too many resamples are without a spread")
    needed = bootstrap_samples_needed(pair.drop, upper, pair.samples, pair.limit) if upper > pair.limit else None
    return Bound(upper, f"paired bootstrap-t, {RESAMPLES} resamples", needed)


def _rare(pair: _Pair, differences: Array, reach: float | None) -> Bound | None:
    """Where one sample can drop by `reach` at most: half of the limit for all samples, all of it for those that lose
    more than that, as many as there may be. Valid for any number of samples, also where none differs."""
    if reach is None or not 0 < pair.limit < math.inf:
        return None
    step = pair.limit / 2
    more = int((differences > step).sum())

    def upper(scale: float) -> float:
        return step + reach * binomial_upper(more * scale, pair.samples * scale, pair.level)

    method = f"exact bound of the share of samples that drop by more than {step:.4g} ({more} of {pair.samples})"
    needed = None
    if upper(1) > pair.limit and reach * more < step * pair.samples:
        needed = samples_needed(upper, pair.samples, pair.limit)
    return Bound(upper(1), method, needed)


def _unproven(why: str, pair: _Pair, differences: Array) -> Bound:
    """How many samples would be enough is known only where some of these carry a difference."""
    carry = carriers(differences) if np.isfinite(differences).all() else 0.0
    nothing = not carry or float(np.abs(differences).max()) <= 1e-9 or pair.drop >= pair.limit
    if nothing or (pair.samples >= FEWEST and carry >= FEWEST_CARRIERS):
        return Bound(None, why)
    spread = float(differences.std()) * 1.645
    by_spread = math.ceil((spread / (pair.limit - pair.drop)) ** 2)
    return Bound(None, why, max(FEWEST, math.ceil(pair.samples * FEWEST_CARRIERS / carry), by_spread))


def _own(
    metric: Metric, base: Arrays, other: Arrays, targets: Array, drop: float, limit: float, level: float, seed: int
) -> Bound:
    """A metric of the user's own may be any function of the samples: it is called on resamples of them."""

    def drop_on(rows: Array) -> float:
        first, second = ({name: array[rows] for name, array in answers.items()} for answers in (base, other))
        try:
            return metric.score(first, targets[rows]) - metric.score(second, targets[rows])
        except DataError:
            # It works on all samples; a resample may lack what it needs, and then has no drop.
            return math.nan

    pair = _Pair(targets, targets, targets, drop, limit, level, seed)
    if pair.samples < FEWEST:
        return Bound(None, f"{pair.samples} samples are fewer than the {FEWEST} that a bootstrap needs")
    differences = grouped_differences(drop_on, pair.samples, seed)
    why = too_little(differences, pair.samples, _finite(limit))
    if why is not None:
        return _unproven(why, pair, differences)
    upper = bca_upper(drop_on, differences, pair.samples, level, seed=seed)
    if not math.isfinite(upper):
        return Bound(None, "the bootstrap gives no bound: the metric is not defined on too many resamples")
    needed = bootstrap_samples_needed(drop, upper, pair.samples, limit) if upper > limit else None
    return Bound(upper, f"paired BCa bootstrap, {RESAMPLES} resamples", needed)


def _finite(limit: float) -> float | None:
    return limit if math.isfinite(limit) else None
