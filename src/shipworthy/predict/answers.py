"""Outputs of a model to answers: plain Python values, the same in process and over HTTP.

A float is the exact value of the model's own (`float(numpy.float32)`), unless rounding is asked for. Probabilities are
a list in the order of the labels. An answer that is not finite is a problem of its row and of no other, because JSON
has no word for it; only a task of kind `tensors` may have such numbers, as null."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeAlias

import numpy as np
from pydantic_core import to_json

from ..contract import Array, Arrays, Contract
from ..contract.spec import TaskKind
from ..errors import ContractError, Problem, UnansweredError
from ..signals.probabilities import class_probabilities, predicted_classes, sigmoid
from .ids import new_id

Answer: TypeAlias = dict[str, Any]
Row: TypeAlias = Answer | Problem
"""What becomes of one row of a batch: the answer, which has no id and no stamp yet, or why there is none."""
Naming: TypeAlias = Callable[[Sequence[Answer]], Sequence[bytes]]
"""Gives each of a request's answers its id."""

THRESHOLD = 0.5
"""A label of a multilabel task is given from this probability on."""


class Answers:
    """Makes the answers of one variant. Safe to use from several threads."""

    def __init__(self, contract: Contract, *, version: str, variant: str) -> None:
        """Raises ContractError where the outputs cannot be read as the task says."""
        self._contract = contract
        self._make = _MAKERS[contract.task.kind]
        self._stamp = {"model": contract.name, "version": version, "variant": variant}
        # All that is the same in every answer, as it ends its JSON.
        self._tail = b'",' + to_json(self._stamp)[1:]
        _check_outputs(contract)

    def rows(self, outputs: Arrays) -> list[Row]:
        """What becomes of each row of the outputs. The rows of a batch may belong to several requests."""
        return self._make(self._contract, outputs)

    def of(self, rows: Sequence[Row], *, round: int | None = None) -> list[Answer]:  # noqa: A002 - the word of the wire
        """The answers of one request's rows, each with an id of its own.

        `round` rounds every float to so many decimal digits. Raises UnansweredError that names every row without
        one."""
        return [{**body, "prediction_id": new_id(), **self._stamp} for body in _bodies(rows, round)]

    def encode(
        self,
        rows: Sequence[Row],
        *,
        many: bool,
        round: int | None = None,  # noqa: A002
        naming: Naming | None = None,
    ) -> bytes:
        """The same as JSON in UTF-8: the answer of the only row, or `{"predictions": [...]}` where the caller asked
        for `many`, each with its `sample_index`. Ids are those that `naming` gives, or random ones."""
        bodies = _bodies(rows, None)
        ids = [new_id().encode() for _ in bodies] if naming is None else naming(bodies)
        if round is not None:
            bodies = [_rounded(body, round) for body in bodies]
        if not many:
            (body,) = bodies
            return self._json(b"{", body, ids[0])
        parts = [self._json(b'{"sample_index":%d,' % index, body, ids[index]) for index, body in enumerate(bodies)]
        return b'{"predictions":[%b]}' % b",".join(parts)

    def _json(self, head: bytes, body: Answer, id: bytes) -> bytes:  # noqa: A002 - what it is
        return b'%b%b,"prediction_id":"%b%b' % (head, to_json(body)[1:-1], id, self._tail)


def _bodies(rows: Sequence[Row], digits: int | None) -> Sequence[Answer]:
    """All of them, rounded; UnansweredError, with the place among `rows`, where one is a problem."""
    bodies: list[Answer] = []
    problems: list[Problem] = []
    for index, row in enumerate(rows):
        if isinstance(row, Problem):
            problems.append(Problem(index, row.field, row.reason))
        else:
            bodies.append(row)
    if problems:
        raise UnansweredError(problems)
    return bodies if digits is None else [_rounded(body, digits) for body in bodies]


def _check_outputs(contract: Contract) -> None:
    kind, scored = contract.task.kind, contract.scored
    read = (
        contract.outputs if scored is None or kind in ("tensors", "embedding") else {scored: contract.outputs[scored]}
    )
    if not any(spec.batched for spec in read.values()):
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


def _problems_at(rows: list[Row], bad: Array, name: str) -> list[Row]:
    """The rows with a problem in the place of each that is `bad`, unless it has one already."""
    for index in np.flatnonzero(bad).tolist():
        if not isinstance(rows[index], Problem):
            rows[index] = Problem(
                index, name, "the model's answer to this input is not finite; its values are too large or too small"
            )
    return rows


def _not_finite(array: Array) -> Array:
    """Which rows have NaN or an infinity."""
    if array.dtype.kind != "f":
        return np.zeros(len(array), bool)
    return np.logical_not(np.isfinite(array).all(axis=tuple(range(1, array.ndim))))


def _unscorable(scores: Array) -> Array:
    """Rows with NaN or +inf, or with nothing but -inf; a class that is masked out with -inf is well defined."""
    if scores.dtype.kind != "f":
        return np.zeros(len(scores), bool)
    return ~np.isfinite(scores if scores.ndim == 1 else np.maximum.reduce(scores, axis=-1))


def _classification(contract: Contract, outputs: Arrays) -> list[Row]:
    scores, name = _scored(contract, outputs)
    kind = contract.outputs[name].kind
    bad = _unscorable(scores)
    refused = True in bad.tolist()
    if refused:
        scores = scores.copy()
        scores[bad] = 0
    classes = predicted_classes(scores, kind).tolist()
    probabilities = class_probabilities(scores, kind)
    columns = [None] * len(classes) if probabilities is None else probabilities.tolist()
    named = contract.task.labels or ()
    rows: list[Row] = [
        {
            "predicted_class": best,
            "label": named[best] if best < len(named) else str(best),
            "confidence": None if column is None else column[best],
            "probabilities": column,
        }
        for best, column in zip(classes, columns, strict=True)
    ]
    return _problems_at(rows, bad, name) if refused else rows


def _multilabel(contract: Contract, outputs: Arrays) -> list[Row]:
    scores, name = _scored(contract, outputs)
    scores = scores[:, None] if scores.ndim == 1 else scores
    kind = contract.outputs[name].kind
    probabilities = None if kind == "values" else sigmoid(scores) if kind == "logits" else scores
    chosen = scores > 0 if probabilities is None else probabilities >= THRESHOLD
    columns = [None] * len(scores) if probabilities is None else probabilities.tolist()
    rows: list[Row] = []
    for mask, column in zip(chosen, columns, strict=True):
        classes = np.flatnonzero(mask).tolist()
        labels = [_label(contract, index) for index in classes]
        rows.append({"predicted_classes": classes, "labels": labels, "probabilities": column})
    return _problems_at(rows, _not_finite(scores), name)


def _label(contract: Contract, index: int) -> str:
    """The label of a class; its number as text where the contract names none."""
    labels = contract.task.labels
    return labels[index] if labels is not None and index < len(labels) else str(index)


def _regression(contract: Contract, outputs: Arrays) -> list[Row]:
    """A number where the model gives one for each sample, else a nested list."""
    values, name = _scored(contract, outputs)
    bad = _not_finite(values)
    if values.ndim == 2 and values.shape[1] == 1:
        values = values[:, 0]
    return _problems_at([{"value": value} for value in values.tolist()], bad, name)


def _embedding(contract: Contract, outputs: Arrays) -> list[Row]:
    rows = _tensors(contract, outputs)
    for name, spec in contract.outputs.items():
        if spec.batched:
            _problems_at(rows, _not_finite(outputs[name]), name)
    return rows


def _tensors(contract: Contract, outputs: Arrays) -> list[Row]:
    """The row of each output; an output without a batch dimension is given whole to every sample."""
    columns = {name: (_plain(outputs[name]), spec.batched) for name, spec in contract.outputs.items()}
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


_MAKERS: dict[TaskKind, Callable[[Contract, Arrays], list[Row]]] = {
    "classification": _classification,
    "multilabel": _multilabel,
    "regression": _regression,
    "embedding": _embedding,
    "tensors": _tensors,
}
