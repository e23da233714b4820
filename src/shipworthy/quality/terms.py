"""Metrics as functions of means of per-sample terms, so that leaving a sample out costs no second look at the data."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from ..contract import Array

_CHUNK = 1024
"""Samples whose terms are in memory at once: there may be thousands of classes."""


@dataclass(frozen=True, slots=True)
class Terms:
    """`rows(answers, targets, size)` gives [n, k]; `value` turns means [..., k] into the score [...].

    `size` is the number of classes; targets have the answers' shape and type."""

    rows: Callable[[Array, Array, int], Array]
    value: Callable[[Array], Array]


def pseudo_values(terms: Terms, before: Array, after: Array, targets: Array) -> Array:
    """Jackknife pseudo-values [n] of the drop score(before) − score(after); for a mean, each sample's own drop.

    Efron and Tibshirani, An Introduction to the Bootstrap (1993), chapter 11."""
    count = len(targets)
    size = int(max(array.max(initial=0) for array in (before, after, targets))) + 1 if targets.dtype.kind in "iu" else 0
    chunks = [slice(start, start + _CHUNK) for start in range(0, count, _CHUNK)]

    def rows(answers: Array, chunk: slice) -> Array:
        return terms.rows(answers[chunk], targets[chunk], size)

    sums = [np.sum([rows(answers, chunk).sum(0) for chunk in chunks], axis=0) for answers in (before, after)]
    seen = float(terms.value(sums[0] / count) - terms.value(sums[1] / count))
    with np.errstate(invalid="ignore", divide="ignore"):
        left = [
            np.concatenate([terms.value((total - rows(answers, chunk)) / max(count - 1, 1)) for chunk in chunks])
            for total, answers in zip(sums, (before, after), strict=True)
        ]
    return np.asarray(count * seen - (count - 1) * (left[0] - left[1]))


def _flat(array: Array) -> Array:
    return array.reshape(len(array), -1)


def _mean_of(row: Callable[[Array, Array], Array]) -> Callable[[Array, Array, int], Array]:
    return lambda answers, targets, _: _flat(row(answers, targets)).mean(1, keepdims=True)


def _counts(classes: Array, where: Array, size: int) -> Array:
    """[n, size]: how often each class is at the positions of each sample that `where` selects."""
    flat = _flat(classes) + size * np.arange(len(classes))[:, None]
    counts = np.bincount(flat.ravel(), weights=where.ravel(), minlength=size * len(classes))
    return counts.reshape(len(classes), size)


def _recall_rows(answers: Array, targets: Array, size: int) -> Array:
    return np.hstack((_counts(targets, answers == targets, size), _counts(targets, np.ones_like(targets), size)))


def _f1_rows(answers: Array, targets: Array, size: int) -> Array:
    every = np.ones_like(targets)
    seen = _counts(answers, every, size) + _counts(targets, every, size)
    return np.hstack((2 * _counts(targets, answers == targets, size), seen))


def _ratio(means: Array) -> Array:
    """The mean of right / total over the classes that occur, [..., 2·classes] → [...]."""
    right, total = np.split(means, 2, axis=-1)
    there = total > 1e-12
    shares = np.where(there, right / np.where(there, total, 1.0), 0.0)
    return np.asarray(shares.sum(-1) / there.sum(-1))


def _label_rows(answers: Array, targets: Array, _: int) -> Array:
    return np.hstack((2.0 * _flat(answers & targets), _flat(answers).astype(float) + _flat(targets)))


def _label_ratio(means: Array) -> Array:
    right, total = np.split(means, 2, axis=-1)
    there = total > 1e-12
    return np.asarray(np.where(there, right / np.where(there, total, 1.0), 1.0).mean(-1))


def _r2_rows(answers: Array, targets: Array, _: int) -> Array:
    errors = np.square(_flat(answers) - _flat(targets)).sum(1, keepdims=True)
    flat = _flat(targets)
    return np.hstack((errors, np.square(flat).sum(1, keepdims=True), flat))


def _r2_value(means: Array) -> Array:
    spread = means[..., 1] - np.square(means[..., 2:]).sum(-1)
    return np.asarray(1 - means[..., 0] / np.where(spread > 0, spread, np.nan))


def cosines(answers: Array, targets: Array) -> Array:
    """Cosine of the angle between rows along the last axis; a pair of zero vectors counts 1."""
    dot = (answers * targets).sum(-1)
    norms = np.linalg.norm(answers, axis=-1) * np.linalg.norm(targets, axis=-1)
    return np.asarray(np.where(norms > 0, dot / np.maximum(norms, np.finfo(np.float64).tiny), 1.0))


def _first(means: Array) -> Array:
    return np.asarray(means[..., 0])


RIGHT = Terms(_mean_of(lambda a, t: np.asarray(a == t, dtype=np.float64)), _first)
RECALLS = Terms(_recall_rows, _ratio)
F1 = Terms(_f1_rows, _ratio)
LABEL_F1 = Terms(_label_rows, _label_ratio)
ABSOLUTE = Terms(_mean_of(lambda a, t: np.abs(a - t)), lambda means: -_first(means))
SQUARED = Terms(_mean_of(lambda a, t: np.square(a - t)), lambda means: -np.sqrt(_first(means)))
R2 = Terms(_r2_rows, _r2_value)
COSINES = Terms(_mean_of(cosines), _first)
