"""A candidate's metric beside eager's on the same samples, with the bound of its drop."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

import numpy as np

from ..contract import Array, Arrays
from ..errors import DataError
from ..evidence import MetricEvidence
from .bounds import (
    RESAMPLES,
    accuracy_drop_upper,
    accuracy_samples_needed,
    bootstrap_drop_upper,
    bootstrap_samples_needed,
)
from .metrics import ANSWERS, Metric, recalls

USUAL_CONFIDENCE = 0.95
"""Of a bound that is reported where the contract asks for no proof."""


@dataclass(frozen=True, slots=True)
class Claim:
    """What is to be shown of the drop: the limit, the confidence, and among how many finalists it is shared."""

    limit: float | None = None
    confidence: float | None = None
    finalists: int = 1

    @property
    def level(self) -> float:
        """1 − (1 − c)/K: each of K finalists is proven at this, so that all together hold at c (Bonferroni)."""
        return 1 - (1 - (self.confidence or USUAL_CONFIDENCE)) / self.finalists


def compare(
    metric: Metric,
    split: Literal["validation", "holdout"],
    targets: Array | None,
    eager: Arrays,
    candidate: Arrays,
    *,
    claim: Claim | None = None,
    seed: int = 0,
) -> MetricEvidence:
    """The metric of both on the same rows; with a claim, the upper bound of the drop and the samples that it needs.

    `eager` and `candidate` are outputs by name, [n, ...]; targets [n, ...] (not read by a metric against eager)."""
    base, other = metric.answers(eager), metric.answers(candidate)
    if metric.against_eager:
        targets = base[ANSWERS]
    assert targets is not None, "a metric with targets is only made for data that has them"
    before, after = metric.score(base, targets), metric.score(other, targets)
    if not (math.isfinite(before) and math.isfinite(after)):
        raise DataError(
            f"the {split} data", f"{metric.name} is not defined on them", "give more of them, or another metric"
        )
    evidence = MetricEvidence(
        name=metric.name,
        split=split,
        samples=len(targets),
        eager=before,
        candidate=after,
        drop=before - after,
        per_class=_recall_drops(metric, base, other, targets),
    )
    if claim is None:
        return evidence
    # Positions of one sample are not independent: only one answer per sample has an exact bound.
    bound = _exact if metric.exact and base[ANSWERS].ndim == 1 else _bootstrap
    return evidence.model_copy(update=bound(metric, base, other, targets, evidence.drop, claim, seed))


def _exact(
    metric: Metric, base: Arrays, other: Arrays, targets: Array, drop: float, claim: Claim, seed: int
) -> dict[str, object]:
    truth = targets.reshape(base[ANSWERS].shape)
    right, kept = base[ANSWERS] == truth, other[ANSWERS] == truth
    lost, won, samples = int((right & ~kept).sum()), int((kept & ~right).sum()), len(truth)
    upper = accuracy_drop_upper(lost, won, samples, claim.level)
    needed = None
    if claim.limit is not None and upper > claim.limit:
        needed = accuracy_samples_needed(lost, won, samples, claim.limit, claim.level)
    method = f"exact paired Clopper–Pearson ({lost} lost, {won} won)"
    return {"drop_upper": upper, "confidence": claim.level, "method": method, "samples_needed": needed}


def _bootstrap(
    metric: Metric, base: Arrays, other: Arrays, targets: Array, drop: float, claim: Claim, seed: int
) -> dict[str, object]:
    def drop_on(rows: Array) -> float:
        first, second = ({name: array[rows] for name, array in answers.items()} for answers in (base, other))
        return metric.score(first, targets[rows]) - metric.score(second, targets[rows])

    upper = bootstrap_drop_upper(drop_on, len(targets), claim.level, seed=seed)
    if not math.isfinite(upper):
        raise DataError("the data", f"are too few for a bound of {metric.name}: it is not defined on resamples of them")
    needed = None
    if claim.limit is not None and upper > claim.limit:
        needed = bootstrap_samples_needed(drop, upper, len(targets), claim.limit)
    method = f"paired bootstrap, {RESAMPLES} resamples"
    return {"drop_upper": upper, "confidence": claim.level, "method": method, "samples_needed": needed}


def _recall_drops(metric: Metric, base: Arrays, other: Arrays, targets: Array) -> dict[str, float]:
    if metric.class_names is None:
        return {}
    before, total = recalls(base[ANSWERS], targets)
    after, _ = recalls(other[ANSWERS], targets)
    names = metric.class_names
    return {
        names[index] if index < len(names) else str(index): float(before[index] - after[index])
        for index in np.flatnonzero(total)
    }


def gather(batches: Iterable[Arrays]) -> dict[str, Array]:
    """Batches as one: rows [n, ...] by name. Rows of different shapes become an object array of n arrays."""
    parts: dict[str, list[Array]] = {}
    for batch in batches:
        for name, array in batch.items():
            parts.setdefault(name, []).append(array)
    return {name: join(arrays) for name, arrays in parts.items()}


def join(arrays: list[Array]) -> Array:
    """Concatenate [n, ...] arrays; where their rows differ in shape, as an object array of rows."""
    if len({array.shape[1:] for array in arrays}) == 1:
        return np.concatenate(arrays)
    rows = [row for array in arrays for row in array]
    joined = np.empty(len(rows), dtype=object)
    joined[:] = rows
    return joined
