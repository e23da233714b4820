"""The route that takes labels: what was true, for predictions that were given."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import Literal, TypeVar

from fastapi import APIRouter, Request
from fastapi.responses import Response
from pydantic import BaseModel
from pydantic_core import to_json
from starlette.requests import ClientDisconnect

from ..errors import RegistryError
from .asking import Asking
from .bodies import JSON, ClientGone, read_body
from .catalog import Catalog
from .head import Head
from .problems import (
    CONFLICT,
    INVALID_INPUT,
    MEDIA_TYPE,
    NOT_FOUND,
    OVERLOADED,
    RETRY_AFTER,
    UNREACHABLE,
    ProblemError,
)
from .routing import Feedback, Outcome, Taken, Told
from .told import MANY, QUICK, read_told

T = TypeVar("T")
LONGEST = 2 * 2**20
"""Bytes of a body with labels: ten thousand of them have half of it. A server may be set to take less."""
WAITING = 64
"""So many requests with labels may be under way."""
WAITING_BYTES = 8 * LONGEST
"""So many bytes may their bodies have together."""
_LOG = logging.getLogger("shipworthy.server")
_LABEL_SHOWN = {"description": "What was true: the class by name or index, the number, or the classes."}


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
    longest = min(LONGEST, catalog.settings.max_body_bytes)

    @router.post(
        "/models/{model}/feedback",
        responses=_REFUSALS,
        openapi_extra=_BODY,
        response_model=Received | ManyReceived,
    )
    async def feedback(model: str, request: Request) -> Response:
        """Say what was true. Labels that come twice count once; of contradictory ones the first counts."""
        lane = catalog.lane(model)
        keeper = catalog.feedback
        if keeper is None:
            raise ProblemError(NOT_FOUND, "this server keeps no labels; serve the model from a registry")
        with keeping.admit(Head(request.scope).size(longest)) as place:
            try:
                body = await read_body(request.receive, longest)
            except ClientGone as gone:
                raise ClientDisconnect from gone
            place.weigh(len(body))
            beside = lane.beside if len(body) > QUICK else _at_once
            told, many = await beside(lambda: read_told(body, catalog.settings.max_instances))
            # It is not needed any more, and may wait for long.
            body = b""
            taken = await keeping.take(keeper, model, told)
            outcomes = Counter(one.outcome for one in taken)
            for outcome, count in outcomes.items():
                catalog.metrics.labelled(model, outcome, count)
            content = await beside(lambda: _written(taken, outcomes if many else None))
        return Response(content, media_type=JSON)

    return router


class _Place:
    """A request's place among those that are under way, with the bytes of its body."""

    def __init__(self, room: _Keeping, size: int) -> None:
        self._room, self._size = room, size

    def weigh(self, size: int) -> None:
        """The body is there, and has so many bytes. Until then, one that comes in chunks counts as the longest one."""
        self._room.bytes += size - self._size
        self._size = size

    def __enter__(self) -> _Place:
        self._room.requests += 1
        self._room.bytes += self._size
        return self

    def __exit__(self, *_: object) -> None:
        self._room.requests -= 1
        self._room.bytes -= self._size


class _Keeping:
    """Hands labels to their keeper in one thread of its own: where a registry is slow, packages are loaded all the
    same, and not ever more labels wait."""

    def __init__(self) -> None:
        self._asking = Asking("shipworthy-labels")
        self.requests = self.bytes = 0

    def admit(self, size: int) -> _Place:
        """A place for a request whose body has `size` bytes, before it is read. ProblemError where there is none."""
        if self.requests >= WAITING:
            raise ProblemError(OVERLOADED, "as many labels wait for the registry as may", headers=RETRY_AFTER)
        if self.bytes + size > WAITING_BYTES:
            reason = "the labels that wait for the registry hold as many bytes as they may"
            raise ProblemError(OVERLOADED, reason, headers=RETRY_AFTER)
        return _Place(self, size)

    async def take(self, keeper: Feedback, model: str, told: Sequence[Told]) -> Sequence[Taken]:
        """ProblemError where they cannot be kept."""
        try:
            return await self._asking.ask(lambda: keeper.take(model, told))
        except RegistryError as error:
            _LOG.error("labels of model %r were not kept: %s", model, error)
            reason = "the registry is out of reach; send these labels again, and what was kept of them counts once"
            raise ProblemError(UNREACHABLE, reason, headers=RETRY_AFTER) from error


async def _at_once(work: Callable[[], T]) -> T:
    return work()


def _written(taken: Sequence[Taken], counts: Mapping[Outcome, int] | None) -> bytes:
    """The answer; `counts` where many were sent."""
    if counts is None:
        return to_json(_only(taken[0]))
    return to_json({"counts": counts, "outcomes": [_received(one) for one in taken]})


def _received(taken: Taken) -> dict[str, str]:
    return {"outcome": taken.outcome, "reason": taken.reason}


def _only(taken: Taken) -> dict[str, str]:
    """Of a single one, what is refused is a problem."""
    status = _STATUS.get(taken.outcome)
    if status is not None:
        raise ProblemError(CONFLICT if status == 409 else INVALID_INPUT, taken.reason)
    return _received(taken)
