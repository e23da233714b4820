"""What a model gave, as it was asked for: the outputs that were named, or the best classes of their rows."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from ...contract import Array, Arrays, Contract
from ...encode.faults import brief
from .datatypes import BYTES, NAMES, malformed, objects
from .request import Asked, InferRequest


@dataclass(frozen=True, slots=True)
class Output:
    """A tensor of an answer."""

    name: str
    datatype: str
    array: Array
    binary: bool


def check_asked(asked: Sequence[Asked] | None, contract: Contract) -> None:
    """ProblemError where an output is asked for that there is not, or classes of one that has no rows of scores."""
    for one in asked or ():
        spec = contract.outputs.get(one.name)
        if spec is None:
            raise malformed(f"{brief(one.name)} is no output; the outputs are {', '.join(contract.outputs)}")
        if one.classes and not (spec.batched and len(spec.shape) > 1):
            raise malformed(f"{brief(one.name)} is {spec.show()}, which has no scores by class")


def outputs_of(request: InferRequest, outputs: Arrays, contract: Contract) -> list[Output]:
    """The tensors of the answer, in the order in which they were asked for."""
    asked = request.asked
    if asked is None:
        return [_whole(name, outputs, request.binary) for name in contract.outputs]
    return [
        _classified(one, outputs[one.name], contract) if one.classes else _whole(one.name, outputs, one.binary)
        for one in asked
    ]


def _whole(name: str, outputs: Mapping[str, Array], binary: bool) -> Output:
    array = outputs[name]
    return Output(name, NAMES[array.dtype], array, binary)


def _classified(asked: Asked, scores: Array, contract: Contract) -> Output:
    """The best classes of each row, the first of equals: `value:index`, or `value:index:label`, [n, classes]."""
    rows = scores.reshape(len(scores), -1)
    classes = min(asked.classes, rows.shape[1])
    labels = contract.task.labels if asked.name == contract.scored else None
    elements = list(_words(rows, _best(rows, classes), labels))
    return Output(asked.name, BYTES, objects(elements, (len(rows), classes)), asked.binary)


def _best(rows: Array, classes: int) -> Array:
    """Indices [n, classes] of the highest scores, falling; what is no number comes last."""
    known = np.where(np.isnan(rows), -np.inf, rows) if rows.dtype.kind == "f" else rows
    # A stable sort keeps equals in their order, and its reverse turns them round: so it sorts what is turned round.
    backwards = np.argsort(known[:, ::-1], axis=1, kind="stable")[:, ::-1]
    best: Array = rows.shape[1] - 1 - backwards[:, :classes]
    return best


def _words(rows: Array, best: Array, labels: Sequence[str] | None) -> Iterator[str]:
    for row, places in zip(rows, best.tolist(), strict=True):
        for place in places:
            label = f":{labels[place]}" if labels is not None and place < len(labels) else ""
            yield f"{row[place]}:{place}{label}"
