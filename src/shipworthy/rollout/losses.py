"""How wrong a prediction was, once its label is known: a loss in [0, 1]."""

from __future__ import annotations

import json
import math
import struct
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

from ..contract.spec import TaskKind
from ..errors import FeedbackError
from ..predict.ids import KINDS, MAX_CLASSES, ValueKind

Truth: TypeAlias = int | float | tuple[int, ...]
"""A class, a number, or the classes of a multilabel task in rising order."""


_MOST_CLASSES = 2**31
"""Of a model that does not name them."""
_SHOWN = 40


@dataclass(frozen=True, slots=True)
class Loss:
    """What somebody else has judged: 0 is right, 1 is as wrong as can be."""

    value: float

    def __post_init__(self) -> None:
        if not _is_number(self.value) or not 0 <= self.value <= 1:
            raise FeedbackError("loss", f"is {show(self.value)}", "give a number from 0 to 1")


@dataclass(frozen=True, slots=True)
class Question:
    """What a model is asked, as far as labels are concerned."""

    kind: TaskKind
    labels: tuple[str, ...] | None = None
    """Names of the classes."""
    error_scale: float | None = None
    """Regression: the absolute error that is a whole loss, as a rollout says it."""
    own_scale: float | None = None
    """The same, as the version's own figures say it: see `registry.losses.error_scale`."""

    def truth(self, label: object) -> Truth | Loss:
        """A label in the one form in which labels are compared; a `Loss` stays one.

        Classes are given by name or by index: a text is a name first. Raises FeedbackError where it is no label."""
        if isinstance(label, Loss):
            return label
        if self.kind == "classification":
            return self._class(label)
        if self.kind == "multilabel":
            return tuple(sorted({self._class(one) for one in _several(label)}))
        if self.kind == "regression":
            return _number(label)
        raise FeedbackError("label", f"means nothing for a task of kind {self.kind!r}", "send a loss from 0 to 1")

    def loss(self, truth: Truth | Loss, kind: ValueKind, value: float | None) -> float | None:
        """In [0, 1]: 0 or 1 for classes and sets of classes, min(1, |error| / error_scale) for a number.

        None where it cannot be said: the id carries no prediction, or no scale was given."""
        if isinstance(truth, Loss):
            return truth.value
        if value is None or kind != _KIND_OF.get(self.kind):
            return None
        if isinstance(truth, tuple):
            return float(value != sum(1 << one for one in truth if one < MAX_CLASSES) or truth[-1:] >= (MAX_CLASSES,))
        if kind == "class":
            return float(truth != value)
        if self.error_scale is None:
            return None
        return min(1.0, abs(truth - value) / self.error_scale)

    def _class(self, label: object) -> int:
        names = self.labels or ()
        if isinstance(label, str) and label in names:
            return names.index(label)
        index = _index(label)
        if index is not None and 0 <= index < (len(names) or _MOST_CLASSES):
            return index
        known = f"give one of {', '.join(names[:8])}{', …' if len(names) > 8 else ''}, or its index" if names else ""
        raise FeedbackError("label", f"{show(label)} is no class of this model", known or "give the index of a class")


_KIND_OF: dict[str, ValueKind] = {"classification": "class", "multilabel": "classes", "regression": "scalar"}
COMPARED = frozenset(_KIND_OF)
"""Tasks whose answers are compared with labels; of others somebody else has to judge the loss."""


def truth_to_json(truth: Truth | Loss) -> str:
    return json.dumps({"loss": truth.value} if isinstance(truth, Loss) else truth)


def truth_from_json(text: str) -> Truth | Loss:
    read: Any = json.loads(text)
    if isinstance(read, dict):
        return Loss(read["loss"])
    return tuple(read) if isinstance(read, list) else read


def value_of(kind: ValueKind, word: int) -> float | int | None:
    """What 64 bits say that an id or a pair has: a class, a number, a mask; None where they say nothing."""
    if kind == "none":
        return None
    if kind == "scalar":
        (number,) = struct.unpack(">d", struct.pack(">Q", word))
        return float(number)
    return word


def kind_of(task: TaskKind) -> ValueKind:
    """What the ids of a task's predictions say."""
    return _KIND_OF.get(task, KINDS[0])


def _several(label: object) -> Sequence[object]:
    """The classes of a multilabel label: a list, also as JSON, or a text with `;` between them."""
    if isinstance(label, str) and label.startswith("["):
        label = _listed(label)
    classes: object = label
    if isinstance(label, str):
        # One part more than may be, so that no longer text is taken apart.
        classes = [part.strip() for part in label.split(";", MAX_CLASSES + 1) if part.strip()]
    if isinstance(classes, Sequence) and len(classes) <= MAX_CLASSES:
        return classes
    reason = f"{show(label)} is no list of at most {MAX_CLASSES} classes"
    raise FeedbackError("label", reason, "send a list of names or indices")


def _listed(text: str) -> object:
    try:
        return json.loads(text)
    # Thousands of brackets, or of digits, are no JSON either.
    except (ValueError, RecursionError):
        return text


def _index(label: object) -> int | None:
    """A whole number, also as text (`3`, and `3.0` as tables write it)."""
    if isinstance(label, str):
        try:
            label = float(label) if not label.lstrip("-").isdecimal() else int(label)
        except ValueError:
            return None
    if isinstance(label, bool) or not isinstance(label, int | float) or label != label or abs(label) == math.inf:
        return None
    return int(label) if label == int(label) else None


def _number(label: object) -> float:
    if isinstance(label, str):
        try:
            label = float(label)
        except ValueError:
            raise FeedbackError("label", f"{show(label)} is no number", "send the true value") from None
    if not _is_number(label):
        raise FeedbackError("label", f"{show(label)} is no finite number", "send the true value")
    return float(label)  # type: ignore[arg-type]  # _is_number has seen to it


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and abs(value) <= sys.float_info.max


def show(given: object) -> str:
    """What somebody gave, for a message: its first characters."""
    try:
        shown = repr(given if not isinstance(given, str) else given[:_SHOWN])
    # Numbers of thousands of digits, and lists in lists in lists, have none.
    except (ValueError, RecursionError):
        shown = f"this {type(given).__name__}"
    return shown if len(shown) <= _SHOWN else shown[: _SHOWN - 3] + "…"
