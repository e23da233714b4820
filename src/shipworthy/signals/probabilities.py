"""Scores of a model to probabilities.

Everything is computed in float64 from the model's own numbers: exp neither overflows nor loses small classes, and the
result is the same whether a row comes alone or in a batch."""

from __future__ import annotations

import numpy as np

from ..contract import Array
from ..contract.spec import Kind


def softmax(logits: Array) -> Array:
    """exp(x - max x) / Σ exp(x - max x) over the last axis; float64."""
    shifted = logits.astype(np.float64)
    # The ufuncs' own reductions: those of arrays go through Python, which costs more than small batches do.
    shifted -= np.maximum.reduce(shifted, axis=-1, keepdims=True)
    np.exp(shifted, out=shifted)
    shifted /= np.add.reduce(shifted, axis=-1, keepdims=True)
    return shifted


def sigmoid(logits: Array) -> Array:
    """1 / (1 + exp(-x)), computed from exp(-|x|), which cannot overflow; float64."""
    wide = logits.astype(np.float64)
    small = np.exp(-np.abs(wide))
    result: Array = np.where(wide >= 0, 1.0, small) / (1.0 + small)
    return result


def class_probabilities(scores: Array, kind: Kind) -> Array | None:
    """Probabilities [n, classes] of scores [n, classes]; None where the scores are neither logits nor probabilities.

    One score per sample ([n] or [n, 1]) is that of the second of two classes."""
    if kind == "values":
        return None
    if scores.ndim == 1 or scores.shape[-1] == 1:
        second = scores.reshape(len(scores), 1).astype(np.float64)
        pair = (sigmoid(-second), sigmoid(second)) if kind == "logits" else (1.0 - second, second)
        return np.concatenate(pair, axis=-1)
    return softmax(scores) if kind == "logits" else scores


def predicted_classes(scores: Array, kind: Kind) -> Array:
    """The class of each row: the highest score, the first of equals.

    It is read from the scores themselves, in which two classes still differ where their probabilities round to one
    number."""
    if scores.ndim == 1 or scores.shape[-1] == 1:
        threshold = 0.5 if kind == "probabilities" else 0.0
        return (scores.reshape(len(scores)) > threshold).astype(np.int64)
    classes: Array = scores.argmax(axis=-1)
    return classes
