"""Targets in the form that the task's metric reads."""

from __future__ import annotations

from typing import Any

import numpy as np

from ..contract import Array, Contract
from ..contract.faults import nearest, quoted
from ..errors import DataError


def fit_targets(targets: Array, contract: Contract, count: int, culprit: str) -> Array:
    """Targets of `count` samples: class numbers int64 [n] for classification, 0 and 1 int64 [n, labels] for
    multilabel, float64 for regression; anything else as it is.

    Names of classes become their numbers. Raises DataError where there are too few, or where one is no class."""
    if len(targets) != count:
        raise DataError(culprit, f"{len(targets)} targets for {count} samples", "give one for each sample")
    kind = contract.task.kind
    if kind == "classification":
        return _classes(_column(targets), contract, culprit)
    if kind == "multilabel":
        return _flags(targets, contract, culprit)
    if kind == "regression":
        return _numbers(targets, culprit)
    return targets


def _classes(targets: Array, contract: Contract, culprit: str) -> Array:
    labels = contract.task.labels
    if targets.dtype.kind in "USO":
        return _numbered(targets, labels, culprit)
    classes = _whole(targets, culprit)
    known = _class_count(contract)
    if classes.ndim > 1 and known is not None and classes.shape[1] == known and set(np.unique(classes)) <= {0, 1}:
        raise DataError(
            culprit, f"expected class numbers [n], got one-hot rows {list(classes.shape)}", "take argmax(1)"
        )
    low, high = int(classes.min()), int(classes.max())
    if low < 0 or (known is not None and high >= known):
        wrong = low if low < 0 else high
        row = int(np.flatnonzero((classes == wrong).reshape(len(classes), -1).any(axis=1))[0])
        reason = f"has class {wrong} (sample {row}); " + (
            f"the {known} classes are 0..{known - 1}" if known else "classes count from 0"
        )
        raise DataError(culprit, reason, "map them to 0, 1, 2, ... in the order of task.labels")
    return classes


def _numbered(targets: Array, labels: tuple[str, ...] | None, culprit: str) -> Array:
    if labels is None:
        remedy = "name the classes in task.labels, or give class numbers"
        raise DataError(culprit, "has names of classes, and the contract has no labels", remedy)
    numbers = {label: number for number, label in enumerate(labels)}
    unknown = [str(value) for value in np.unique(targets.astype(str)) if str(value) not in numbers]
    if unknown:
        near = nearest(unknown[0], labels)
        reason = f'"{unknown[0]}" is no label; the labels are {_few(labels)}'
        raise DataError(culprit, reason, f'did you mean "{near}"?' if near else "add it to task.labels")
    flat = [numbers[str(value)] for value in targets.ravel()]
    return np.array(flat, dtype=np.int64).reshape(targets.shape)


def _few(labels: tuple[str, ...]) -> str:
    return quoted(labels, "and") if len(labels) <= 12 else quoted(labels[:12], ",") + ", ..."


def _class_count(contract: Contract) -> int | None:
    """How many classes there are, from the labels or from the scores; None where neither says."""
    if contract.task.labels is not None:
        return len(contract.task.labels)
    scored = contract.outputs.get(contract.scored or "")
    if scored is None or len(scored.shape) < 2 or not isinstance(scored.shape[-1], int):
        return None
    return max(scored.shape[-1], 2)


def _flags(targets: Array, contract: Contract, culprit: str) -> Array:
    flags = _whole(targets, culprit)
    known = _class_count(contract)
    if flags.ndim != 2 or (known is not None and contract.task.labels and flags.shape[1] != known):
        wanted = f"[n, {known}]" if known else "[n, labels]"
        raise DataError(culprit, f"expected {wanted} of 0 and 1, got {list(flags.shape)}", "give one column per label")
    if flags.min() < 0 or flags.max() > 1:
        raise DataError(culprit, f"has values of {flags.min()}..{flags.max()}", "give 1 where a label holds, else 0")
    return flags


def _numbers(targets: Array, culprit: str) -> Array:
    if targets.dtype.kind not in "fiub":
        raise DataError(culprit, f"expected numbers, got {targets.dtype}")
    numbers = targets.astype(np.float64)
    if not np.isfinite(numbers).all():
        row = int(np.flatnonzero(~np.isfinite(numbers).reshape(len(numbers), -1).all(axis=1))[0])
        raise DataError(culprit, f"is not finite in sample {row}", "fill or drop the sample")
    return numbers


def _whole(targets: Array, culprit: str) -> Array:
    """int64 where no value is lost."""
    if targets.dtype.kind not in "fiub":
        raise DataError(culprit, f"expected class numbers, got {targets.dtype}", "give whole numbers from 0")
    with np.errstate(invalid="ignore"):
        whole: np.ndarray[Any, np.dtype[np.int64]] = targets.astype(np.int64)
    if not np.array_equal(whole, targets):
        raise DataError(culprit, f"expected class numbers, got {targets.dtype} with fractions or NaN")
    return whole


def _column(targets: Array) -> Array:
    """[n] of [n, 1]."""
    return targets[:, 0] if targets.ndim == 2 and targets.shape[1] == 1 else targets
