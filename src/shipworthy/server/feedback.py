"""The route that takes labels: what was true, for predictions that were given."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Sequence
from typing import Annotated, Literal, TypeAlias

from fastapi import APIRouter, Request
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from ..errors import InputError, Problem, RegistryError
from .asking import Asking
from .bodies import read_body, read_json
from .catalog import Catalog
from .problems import (
    CONFLICT,
    INVALID_INPUT,
    MALFORMED,
    MEDIA_TYPE,
    NOT_FOUND,
    OVERLOADED,
    RETRY_AFTER,
    TOO_LARGE,
    UNREACHABLE,
    ProblemError,
)
from .routing import Feedback, Outcome, Taken

MANY = "feedback"
WAITING = 64
"""So many requests with labels may wait for the registry."""
_LOG = logging.getLogger("shipworthy.server")
_Whole: TypeAlias = Annotated[int, Field(ge=-(2**63), lt=2**63)]
_Finite: TypeAlias = Annotated[float, Field(allow_inf_nan=False)]
_LABEL_SHOWN = {"description": "What was true: the class by name or index, the number, or the classes."}


class Item(BaseModel):
    """The truth of one prediction: a label, or how wrong it was."""

    model_config = ConfigDict(extra="forbid", strict=True)

    prediction_id: str
    label: _Whole | _Finite | str | list[_Whole | str] | None = None
    loss: _Finite | None = None
    """From 0 (right) to 1, for tasks whose answers no label judges."""


class Received(BaseModel):
    """What became of one of them."""

    outcome: Outcome
    reason: str = ""


class ManyReceived(BaseModel):
    """What became of each, in the order in which they were sent."""

    counts: dict[Outcome, int]
    outcomes: list[Received]


_BODY = {
    "requestBody": {
        "required": True,
        "content": {
            "application/json": {
                "schema": {
                    "type": "object",
                    "description": f'One of {{"prediction_id", "label"}}, or {{"{MANY}": [...]}} of them.',
                    "properties": {
                        "prediction_id": {"type": "string", "maxLength": 200},
                        "label": _LABEL_SHOWN,
                        "loss": {"type": "number", "minimum": 0, "maximum": 1},
                        MANY: {"type": "array", "items": {"type": "object"}},
                    },
                }
            }
        },
    }
}
_REFUSALS: dict[int | str, dict[str, object]] = {
    status: {
        "description": words,
        "content": {MEDIA_TYPE: {"schema": {"$ref": "#/components/schemas/Problem"}}},
    }
    for status, words in (
        (400, "The request cannot be read"),
        (404, "There is no such model, or the server keeps no labels"),
        (409, "Another label was given before"),
        (413, "The request is too large"),
        (422, "The id or the label is refused"),
        (503, "The registry is out of reach, or too many labels wait for it"),
    )
}
_STATUS: dict[Outcome, Literal[409, 422]] = {
    "contradictory": 409,
    "forged": 422,
    "unknown-model": 422,
    "unusable": 422,
}


def feedback_routes(catalog: Catalog) -> APIRouter:
    router = APIRouter(tags=["models"])
    keeping = _Keeping()

    @router.post("/models/{model}/feedback", responses=_REFUSALS, openapi_extra=_BODY)
    async def feedback(model: str, request: Request) -> Received | ManyReceived:
        """Say what was true. Labels that come twice count once; of contradictory ones the first counts."""
        catalog.lane(model)
        keeper = catalog.feedback
        if keeper is None:
            raise ProblemError(NOT_FOUND, "this server keeps no labels; serve the model from a registry")
        body = await read_body(request.receive, catalog.settings.max_body_bytes)
        items, many = _items(body, catalog.settings.max_instances)
        taken = await keeping.take(keeper, model, items)
        for outcome, count in Counter(one.outcome for one in taken).items():
            catalog.metrics.labelled(model, outcome, count)
        if many:
            received = [Received(outcome=one.outcome, reason=one.reason) for one in taken]
            return ManyReceived(counts=Counter(one.outcome for one in taken), outcomes=received)
        return _only(taken[0])

    return router


class _Keeping:
    """Hands labels to their keeper in one thread of its own: where a registry is slow, packages are loaded all the
    same, and not ever more labels wait."""

    def __init__(self) -> None:
        self._asking = Asking("shipworthy-labels")
        self._waiting = 0

    async def take(self, keeper: Feedback, model: str, items: Sequence[Item]) -> Sequence[Taken]:
        """ProblemError where too many wait, and where none of these is kept."""
        if self._waiting >= WAITING:
            raise ProblemError(OVERLOADED, "as many labels wait for the registry as may", headers=RETRY_AFTER)
        told = [(item.prediction_id, item.label, item.loss) for item in items]
        self._waiting += 1
        try:
            return await self._asking.ask(lambda: keeper.take(model, told))
        except RegistryError as error:
            _LOG.error("labels of model %r were not kept: %s", model, error)
            reason = "the registry is out of reach, and none of these labels was kept; send them again"
            raise ProblemError(UNREACHABLE, reason, headers=RETRY_AFTER) from error
        finally:
            self._waiting -= 1


def _only(taken: Taken) -> Received:
    """Of a single one, what is refused is a problem."""
    status = _STATUS.get(taken.outcome)
    if status is not None:
        raise ProblemError(CONFLICT if status == 409 else INVALID_INPUT, taken.reason)
    return Received(outcome=taken.outcome, reason=taken.reason)


def _items(body: bytes, most: int) -> tuple[list[Item], bool]:
    try:
        value = read_json(body)
    except ValueError as error:
        raise ProblemError(MALFORMED, f"the body is no JSON: {error}") from error
    if not isinstance(value, dict):
        raise InputError([Problem(0, "body", f'expected an object: prediction_id and label, or {{"{MANY}": [...]}}')])
    many = MANY in value
    given = value[MANY] if many else [value]
    if many and (len(value) > 1 or not isinstance(given, list) or not given):
        raise InputError([Problem(0, MANY, "expected a list with at least one object, and nothing beside it")])
    if len(given) > most:
        raise ProblemError(TOO_LARGE, f"a request may have {most} labels, got {len(given)}")
    items: list[Item] = []
    problems: list[Problem] = []
    for index, one in enumerate(given):
        try:
            item = Item.model_validate(one)
        except ValidationError as error:
            first = error.errors(include_url=False, include_input=False)[0]
            problems.append(Problem(index, str(first["loc"][0]) if first["loc"] else "body", first["msg"]))
            continue
        if (item.label is None) == (item.loss is None):
            problems.append(Problem(index, "label", "expected a label or a loss, one of them"))
        items.append(item)
    if problems:
        raise InputError(problems)
    return items, many
