"""Signals of what a model answers, for each kind of task."""

from __future__ import annotations

import math
from collections.abc import Iterator

import numpy as np

from ..contract import Array, Arrays, Contract, OutputSpec
from ..contract.spec import Kind
from .elements import by_row, dynamic_axes, fixed_sizes, row_means, thinned
from .probabilities import class_probabilities, predicted_classes, sigmoid
from .signal import Part, Signal
from .spread import Constants, Embedded

PER_CLASS = 20
"""With more classes the probability of each is not watched by itself."""
MOST_VALUES = 16
"""Of a regression; with more, what is watched is what is watched of any tensor."""
MOST_OUTPUTS = 8
EMBEDDING = 8
"""An output beside the task's own is watched as an embedding from this many numbers on."""
_LEAST = 1e-12
"""Of a probability, before its logarithm is taken."""


def answer_parts(contract: Contract, constants: Constants) -> Iterator[Part]:
    """The parts for a contract's outputs; none for outputs that have no row for each sample."""
    scored, kind = contract.scored, contract.task.kind
    watched = [name for name, spec in contract.outputs.items() if spec.batched and 0 not in spec.shape]
    for name in sorted(watched, key=lambda name: name != scored)[:MOST_OUTPUTS]:
        spec = contract.outputs[name]
        own = name == scored
        if own and kind == "classification" and _is_scores(spec):
            yield Classes(name, spec, contract.task.labels)
        elif own and kind == "multilabel" and _is_scores(spec):
            yield Labels(name, spec, contract.task.labels)
        elif own and kind == "regression" and _columns(spec) is not None:
            yield Values(name, spec)
        elif is_embedded(contract, name):
            yield Embedded(name, spec, constants, own=own or kind == "embedding")
        else:
            yield Tensors(name, spec, scored=own or kind == "tensors")
        if spec.numpy.kind == "f":
            yield Unanswered(name, classes=own and kind == "classification")


def classified(contract: Contract) -> str | None:
    """The output that says one class for each sample; None where there is none, as with a class for each pixel."""
    name = contract.scored
    if contract.task.kind != "classification" or name is None:
        return None
    spec = contract.outputs[name]
    return name if spec.batched and _is_scores(spec) else None


def is_embedded(contract: Contract, name: str) -> bool:
    """Whether an output is watched as an embedding, for which its mean is fitted on calibration data."""
    spec, own = contract.outputs[name], name == contract.scored
    if not spec.batched or 0 in spec.shape or spec.numpy.kind != "f" or dynamic_axes(spec):
        return False
    size = math.prod(fixed_sizes(spec))
    if contract.task.kind == "embedding":
        return size > 1
    return not own and len(spec.shape) == 2 and size >= EMBEDDING


def _is_scores(spec: OutputSpec) -> bool:
    return len(spec.shape) <= 2


def _columns(spec: OutputSpec) -> int | None:
    """How many numbers a row has; None where that is not fixed, or too many to watch each."""
    count = math.prod(fixed_sizes(spec))
    return None if dynamic_axes(spec) or count > MOST_VALUES else count


def _named(labels: tuple[str, ...] | None, count: int) -> tuple[str, ...]:
    given = labels or ()
    return tuple(given[index] if index < len(given) else str(index) for index in range(count))


class Classes:
    """Of a classification: the class, how sure it is, and the probability of each class where there are few."""

    def __init__(self, name: str, spec: OutputSpec, labels: tuple[str, ...] | None) -> None:
        self._name, self._kind = name, spec.kind
        size = spec.shape[1] if len(spec.shape) > 1 else 1
        # One score is that of the second of two classes.
        count = (2 if size == 1 else size) if isinstance(size, int) else 0
        self._classes = _named(labels, count)
        self._each = _named(labels, count) if 0 < count <= PER_CLASS and self._kind != "values" else ()
        if count == 2:
            self._each = self._each[1:]
        self.signals = tuple(self._signals(bool(count)))

    def _signals(self, named: bool) -> Iterator[Signal]:
        if named:
            yield Signal("class", "class", "answers", "predicted class", classes=self._classes)
        unit = "" if self._kind == "values" else "nats"
        yield Signal("margin", "number", "answers", "margin of the first class over the second", unit)
        if self._kind == "logits":
            yield Signal("energy", "number", "answers", "energy (logsumexp of the scores)", "nats")
        if self._kind != "values":
            yield Signal("confidence", "number", "answers", "confidence", scored=False)
            yield Signal("entropy", "number", "answers", "entropy of the classes", "nats", scored=False)
        for label in self._each:
            yield Signal(f"probability.{label}", "number", "answers", f"probability of {label}", scored=False)

    def of(self, feeds: Arrays, outputs: Arrays) -> Array:
        raw = outputs[self._name]
        scores = raw.astype(np.float64)
        probabilities = class_probabilities(scores, self._kind)
        classes = predicted_classes(raw, self._kind)
        pairs = _pairs(scores, self._kind)
        table: Array = np.empty((len(scores), len(self.signals)))
        columns = [] if not self._classes else [classes]
        columns.append(_margin(np.log(np.maximum(pairs, _LEAST)) if self._kind == "probabilities" else pairs))
        if self._kind == "logits":
            columns.append(_logsumexp(pairs))
        if probabilities is not None:
            columns += [np.maximum.reduce(probabilities, axis=1), _entropy(probabilities)]
            columns += list(probabilities.T[-len(self._each) :] if self._each else ())
        for place, column in enumerate(columns):
            table[:, place] = column
        # A row without a finite highest score has no answer.
        table[~np.isfinite(np.maximum.reduce(pairs, axis=1))] = np.nan
        return table


def _pairs(scores: Array, kind: Kind) -> Array:
    """The scores of all classes, [n, classes]; of a single score those of both."""
    if scores.ndim > 1 and scores.shape[1] > 1:
        return scores
    second = scores.reshape(len(scores), 1)
    first = 1.0 - second if kind == "probabilities" else np.zeros_like(second)
    return np.concatenate([first, second], axis=1)


def _margin(scores: Array) -> Array:
    """The highest less the second highest of each row, [n]."""
    rest = scores.copy()
    rows, best = np.arange(len(scores)), scores.argmax(axis=1)
    rest[rows, best] = -np.inf
    margin: Array = scores[rows, best] - np.maximum.reduce(rest, axis=1)
    return margin


def _logsumexp(scores: Array) -> Array:
    top = np.maximum.reduce(scores, axis=1)
    energy: Array = top + np.log(np.add.reduce(np.exp(scores - top[:, None]), axis=1))
    return energy


def _entropy(probabilities: Array) -> Array:
    """-Σ p ln p along the last axis; 0 ln 0 is 0."""
    safe = np.maximum(probabilities, 1e-300)
    entropy: Array = -np.add.reduce(probabilities * np.log(safe), axis=-1)
    return entropy


class Labels:
    """Of a multilabel task: how many labels, how sure, and the probability of each where there are few."""

    def __init__(self, name: str, spec: OutputSpec, labels: tuple[str, ...] | None) -> None:
        self._name, self._kind = name, spec.kind
        size = spec.shape[1] if len(spec.shape) > 1 else 1
        count = size if isinstance(size, int) else 0
        self._each = _named(labels, count) if count <= PER_CLASS and self._kind != "values" else ()
        self.signals = tuple(self._signals())

    def _signals(self) -> Iterator[Signal]:
        yield Signal("labels", "number", "answers", "labels of an answer", "labels")
        if self._kind == "values":
            yield Signal("highest", "number", "answers", "highest score")
            return
        yield Signal("confidence", "number", "answers", "probability of the likeliest label")
        yield Signal("entropy", "number", "answers", "mean entropy of the labels", "nats")
        for label in self._each:
            yield Signal(f"probability.{label}", "number", "answers", f"probability of {label}", scored=False)

    def of(self, feeds: Arrays, outputs: Arrays) -> Array:
        scores = by_row(outputs[self._name]).astype(np.float64)
        bad = ~np.isfinite(scores).all(axis=1)
        if self._kind == "values":
            table = np.stack([np.add.reduce(scores > 0, axis=1), np.maximum.reduce(scores, axis=1)], axis=1)
        else:
            sure = sigmoid(scores) if self._kind == "logits" else scores
            unsure = 1.0 - sure
            both = _entropy(np.stack([sure, unsure], axis=-1))
            columns = [np.add.reduce(sure >= 0.5, axis=1), np.maximum.reduce(sure, axis=1), row_means(both)]
            table = np.stack([*columns, *(sure.T if self._each else ())], axis=1)
        table = table.astype(np.float64)
        table[bad] = np.nan
        return table


class Values:
    """Of a regression: each number."""

    def __init__(self, name: str, spec: OutputSpec) -> None:
        self._name = name
        count = _columns(spec)
        assert count is not None, "its size is fixed"
        places = [""] if count == 1 else [f".{place}" for place in range(count)]
        self.signals = tuple(Signal(f"value{at}", "number", "answers", f"{name}{at}") for at in places)

    def of(self, feeds: Arrays, outputs: Arrays) -> Array:
        return thinned(outputs[self._name])


class Tensors:
    """Of an output that nothing is known of: its mean, its deviation and its largest absolute value."""

    def __init__(self, name: str, spec: OutputSpec, *, scored: bool) -> None:
        self._name = name
        single = not dynamic_axes(spec) and math.prod(fixed_sizes(spec)) == 1
        what = {"mean": "mean", "sd": "standard deviation", "peak": "largest absolute value"}
        self._single = single
        self.signals = tuple(
            Signal(f"{name}.{key}", "number", "answers", f"{words} of {name}", scored=scored)
            for key, words in what.items()
        )
        if single:
            self.signals = (Signal(name, "number", "answers", name, scored=scored),)

    def of(self, feeds: Arrays, outputs: Arrays) -> Array:
        numbers = thinned(outputs[self._name])
        if self._single:
            return numbers
        mean = row_means(numbers)
        sd = np.sqrt(row_means(np.square(numbers - mean[:, None])))
        return np.stack([mean, sd, np.maximum.reduce(np.abs(numbers), axis=1, initial=0.0)], axis=1)


class Unanswered:
    """Whether an answer is not finite."""

    def __init__(self, name: str, *, classes: bool) -> None:
        self._name, self._classes = name, classes
        title = f"share of answers that are not finite, of {name}"
        self.signals = (Signal(f"{name}.nonfinite", "share", "answers", title, scored=False),)

    def of(self, feeds: Arrays, outputs: Arrays) -> Array:
        rows = by_row(outputs[self._name])
        # A class that is masked out with -inf is well defined.
        rows = np.maximum.reduce(rows, axis=1, keepdims=True) if self._classes else rows
        good = np.isfinite(rows).all(axis=1)
        return np.where(good, 0.0, 1.0)[:, None]
