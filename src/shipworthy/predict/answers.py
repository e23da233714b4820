"""Outputs of a model to answers: plain Python values, the same in process and over HTTP.

A float is the exact value of the model's own (`float(numpy.float32)`), unless rounding is asked for. Probabilities are
a list in the order of the labels. An answer that is not finite is refused as an InputError of its sample, because JSON
has no word for it; only a task of kind `tensors` may have such numbers, as null."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, TypeAlias
from uuid import uuid4

import numpy as np

from ..contract import BATCH, Array, Arrays, Contract, Dim, OutputSpec
from ..contract.spec import TaskKind
from ..errors import ContractError, InputError, Problem
from .scores import class_probabilities, predicted_classes, sigmoid

Answer: TypeAlias = dict[str, Any]

THRESHOLD = 0.5
"""A label of a multilabel task is given from this probability on."""


class Answers:
    """Makes the answers of one variant. Safe to use from several threads."""

    def __init__(self, contract: Contract, *, version: str, variant: str) -> None:
        """Raises ContractError where the outputs cannot be read as the task says."""
        self._contract = contract
        self._make = _MAKERS[contract.task.kind]
        self._stamp = {"model": contract.name, "version": version, "variant": variant}
        _check_outputs(contract)

    def of(self, outputs: Arrays, *, round: int | None = None) -> list[Answer]:  # noqa: A002 - the word of the wire
        """One answer for each row of the outputs, each with an id of its own.

        `round` rounds every float to so many decimal digits. Raises InputError where an answer is not finite."""
        answers = [
            {**body, "prediction_id": uuid4().hex, **self._stamp} for body in self._make(self._contract, outputs)
        ]
        return answers if round is None else [_rounded(answer, round) for answer in answers]


def is_batched(spec: OutputSpec) -> bool:
    """True where an output has a row for each sample."""
    return bool(spec.shape) and isinstance(spec.shape[0], Dim) and spec.shape[0].name == BATCH


def _check_outputs(contract: Contract) -> None:
    kind, scored = contract.task.kind, contract.scored
    read = (
        contract.outputs if scored is None or kind in ("tensors", "embedding") else {scored: contract.outputs[scored]}
    )
    if not any(is_batched(spec) for spec in read.values()):
        shown = ", ".join(f"{name} is {spec.show()}" for name, spec in read.items()) or "there is none"
        raise ContractError(
            "outputs", f"a task of kind {kind!r} needs an output whose first dimension is batch; {shown}"
        )
    if kind in ("classification", "multilabel") and scored is not None and len(contract.outputs[scored].shape) > 2:
        raise ContractError(
            f"outputs.{scored}",
            f"a task of kind {kind!r} takes scores [batch, classes], not {contract.outputs[scored].show()}",
            'write task.kind = "tensors"',
        )


def _scored(contract: Contract, outputs: Arrays) -> tuple[Array, str]:
    name = contract.scored
    assert name is not None, "a package has outputs"
    return outputs[name], name


def _refuse_where(bad: Array, name: str) -> None:
    problems = [
        Problem(
            int(index), name, "the model's answer to this input is not finite; its values are too large or too small"
        )
        for index in np.flatnonzero(bad)
    ]
    if problems:
        raise InputError(problems)


def _refuse_not_finite(array: Array, name: str) -> None:
    if array.dtype.kind == "f" and not (finite := np.isfinite(array)).all():
        _refuse_where(np.asarray(~finite.reshape(len(finite), -1).all(axis=1)), name)


def _unscorable(scores: Array) -> Array:
    """Rows with NaN or +inf, or with nothing but -inf; a class that is masked out with -inf is well defined."""
    return ~np.isfinite(scores if scores.ndim == 1 else scores.max(axis=-1))


def _classification(contract: Contract, outputs: Arrays) -> list[Answer]:
    scores, name = _scored(contract, outputs)
    kind = contract.outputs[name].kind
    if scores.dtype.kind == "f":
        _refuse_where(_unscorable(scores), name)
    classes = predicted_classes(scores, kind).tolist()
    probabilities = class_probabilities(scores, kind)
    rows = [None] * len(classes) if probabilities is None else probabilities.tolist()
    return [
        {
            "predicted_class": best,
            "label": _label(contract, best),
            "confidence": None if row is None else row[best],
            "probabilities": row,
        }
        for best, row in zip(classes, rows, strict=True)
    ]


def _multilabel(contract: Contract, outputs: Arrays) -> list[Answer]:
    scores, name = _scored(contract, outputs)
    scores = scores[:, None] if scores.ndim == 1 else scores
    _refuse_not_finite(scores, name)
    kind = contract.outputs[name].kind
    probabilities = None if kind == "values" else sigmoid(scores) if kind == "logits" else scores
    chosen = scores > 0 if probabilities is None else probabilities >= THRESHOLD
    rows = [None] * len(scores) if probabilities is None else probabilities.tolist()
    answers = []
    for mask, row in zip(chosen, rows, strict=True):
        classes = np.flatnonzero(mask).tolist()
        labels = [_label(contract, index) for index in classes]
        answers.append({"predicted_classes": classes, "labels": labels, "probabilities": row})
    return answers


def _label(contract: Contract, index: int) -> str:
    """The label of a class; its number as text where the contract names none."""
    labels = contract.task.labels
    return labels[index] if labels is not None and index < len(labels) else str(index)


def _regression(contract: Contract, outputs: Arrays) -> list[Answer]:
    """A number where the model gives one for each sample, else a nested list."""
    values, name = _scored(contract, outputs)
    _refuse_not_finite(values, name)
    if values.ndim == 2 and values.shape[1] == 1:
        values = values[:, 0]
    return [{"value": value} for value in values.tolist()]


def _embedding(contract: Contract, outputs: Arrays) -> list[Answer]:
    for name, spec in contract.outputs.items():
        if is_batched(spec):
            _refuse_not_finite(outputs[name], name)
    return _tensors(contract, outputs)


def _tensors(contract: Contract, outputs: Arrays) -> list[Answer]:
    """The row of each output; an output without a batch dimension is given whole to every sample."""
    columns = {name: (_plain(outputs[name]), is_batched(spec)) for name, spec in contract.outputs.items()}
    count = next(len(column) for column, batched in columns.values() if batched)
    return [
        {"outputs": {name: column[index] if batched else column for name, (column, batched) in columns.items()}}
        for index in range(count)
    ]


def _plain(array: Array) -> Any:
    """Nested lists of Python numbers; null where there is none."""
    if array.dtype.kind == "f" and not (finite := np.isfinite(array)).all():
        array = array.astype(object)
        array[~finite] = None
    return array.tolist()


def _rounded(value: Any, digits: int) -> Any:
    if isinstance(value, float):
        return round(value, digits)
    if isinstance(value, list):
        return [round(item, digits) if type(item) is float else _rounded(item, digits) for item in value]
    if isinstance(value, Mapping):
        return {key: _rounded(item, digits) for key, item in value.items()}
    return value


_MAKERS: dict[TaskKind, Callable[[Contract, Arrays], list[Answer]]] = {
    "classification": _classification,
    "multilabel": _multilabel,
    "regression": _regression,
    "embedding": _embedding,
    "tensors": _tensors,
}
