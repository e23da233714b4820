"""What a model's outputs look like: the task that they speak for, and what else they could be."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ..contract import Array, Arrays
from ..contract.spec import TaskKind

_EMBEDDINGS = ("embed", "feature", "pool", "hidden", "represent", "latent")
_WIDE = 1000
"""More columns than this are rarely one score for each class."""
_SUM_TOLERANCE = 1e-3


@dataclass(frozen=True, slots=True)
class Guess:
    """A task, and how sure that is, in a sentence."""

    kind: TaskKind
    why: str
    classes: int | None = None


def guess_task(outputs: Arrays) -> Guess:
    """The task that outputs [batch, ...] of several samples speak for."""
    scores = {name: array for name, array in outputs.items() if array.dtype.kind == "f" and array.ndim in (1, 2)}
    if len(outputs) > 1:
        named = [name for name in scores if name.lower() in ("logits", "probabilities", "probs", "scores")]
        if len(named) != 1:
            return Guess("tensors", f"there are {len(outputs)} outputs, and none is named as the scores of classes")
        return _from_array(named[0], scores[named[0]])
    name, array = next(iter(outputs.items()))
    if name not in scores:
        return Guess("tensors", f"{_called(name)} is {array.dtype} of {array.ndim} dimensions, not one row of scores")
    return _from_array(name, array)


def _called(name: str) -> str:
    return "the output" if name == "output" else f"output {name}"


def _from_array(name: str, array: Array) -> Guess:
    if array.ndim == 1 or array.shape[1] == 1:
        return _single(name, array)
    columns = array.shape[1]
    inside = bool(array.size) and float(array.min()) >= 0 and float(array.max()) <= 1 + _SUM_TOLERANCE
    if inside and np.allclose(array.sum(axis=1), 1, atol=_SUM_TOLERANCE):
        return Guess(
            "classification", f"every row of {_called(name)} sums to 1: probabilities of {columns} classes", columns
        )
    if inside:
        why = f"{_called(name)} is within 0..1, and its rows do not sum to 1: one probability for each label"
        return Guess("multilabel", f"{why}; where they are other numbers, the kind is tensors", columns)
    if any(word in name.lower() for word in _EMBEDDINGS):
        return Guess("embedding", f"{_called(name)} is named as an embedding")
    if np.allclose(np.linalg.norm(array, axis=1), 1, atol=_SUM_TOLERANCE):
        return Guess("embedding", f"every row of {_called(name)} has length 1")
    if columns > _WIDE:
        why = f"{_called(name)} has {columns} columns; where they are scores of classes, the kind is classification"
        return Guess("tensors", why)
    why = f"{_called(name)} has {columns} columns, taken for scores of classes before a softmax"
    other = "where they are numbers to predict, the kind is regression; where a vector, embedding"
    return Guess("classification", f"{why}; {other}", columns)


def _single(name: str, array: Array) -> Guess:
    why = f"{_called(name)} is one number for each sample"
    if array.size and float(array.min()) > 0 and float(array.max()) < 1:
        other = "all within 0..1 here: where it is the probability of a class, the kind is classification"
        return Guess("regression", f"{why}; {other} and outputs.{name}.kind is probabilities")
    other = "where it is the score of a class before a sigmoid, the kind is classification"
    return Guess("regression", f"{why}; {other} and outputs.{name}.kind is logits")
