"""A candidate's metric beside eager's on the same samples, with the bound of its drop."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Literal

import numpy as np

from ..contract import Array, Arrays
from ..errors import DataError, MeasureError
from ..evidence import MetricEvidence
from .claims import Claim, bound_of
from .metrics import ANSWERS, Metric, recalls


def compare(
    metric: Metric,
    split: Literal["validation", "holdout"],
    targets: Array | None,
    eager: Arrays,
    candidate: Arrays,
    *,
    claim: Claim | None = None,
    seed: int = 0,
    subject: str = "the candidate",
) -> MetricEvidence:
    """The metric of both on the same rows; with a claim of a confidence, the upper bound of the drop as well.

    `eager` and `candidate` are outputs by name, [n, ...]; targets [n, ...] (not read by a metric against eager).

    Raises DataError where the metric fails or is not finite for eager, MeasureError (of `subject`, gate `metric`) where
    only for the candidate."""
    base = metric.answers(eager)
    if metric.against_eager:
        targets = base[ANSWERS]
    assert targets is not None, "a metric with targets is only made for data that has them"
    before = metric.score(base, targets)
    if not math.isfinite(before):
        raise DataError(
            f"the {split} data", f"{metric.name} is not defined on them", "give more of them, or another metric"
        )
    other, after = _candidates(metric, split, candidate, targets, subject)
    evidence = MetricEvidence(
        name=metric.name,
        split=split,
        samples=len(targets),
        eager=before,
        candidate=after,
        drop=before - after,
        per_class=_recall_drops(metric, base, other, targets),
    )
    if claim is None or claim.level is None:
        return evidence
    bound = bound_of(metric, base, other, targets, evidence.drop, claim, seed)
    found = {"drop_upper": bound.upper, "method": bound.method, "samples_needed": bound.needed}
    return evidence.model_copy(update={**found, "confidence": claim.level})


def _candidates(metric: Metric, split: str, outputs: Arrays, targets: Array, subject: str) -> tuple[Arrays, float]:
    """The candidate's answers and score. What fails for it alone, after it worked for eager, is its own fault."""
    try:
        answers = metric.answers(outputs)
        score = metric.score(answers, targets)
    except DataError as error:
        reason = f"{metric.name} fails on its answers to the {split} data: {error.culprit}: {error.reason}"
        raise MeasureError(subject, reason, gate="metric") from error
    if not math.isfinite(score):
        raise MeasureError(subject, f"{metric.name} of its answers to the {split} data is {score}", gate="metric")
    return answers, score


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
