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
from starlette.types import Receive

from ..errors import RegistryError
from .asking import Asking
from .bodies import JSON, ClientGone
from .catalog import Catalog
from .dispatch import clock
from .head import Head
from .incoming import Incoming, Reading, give_way
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
        with keeping.admit(Head(request.scope), longest) as place:
            try:
                body = await place.body(request.receive, longest)
            except ClientGone as gone:
                raise ClientDisconnect from gone
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


class _Place(Incoming):
    """A request's place among those that are under way, with the bytes of its body: so many as it has announced, or, as
    long as they are fewer, so many as have come."""

    __slots__ = ("_room", "_size")

    def __init__(self, room: _Keeping, size: int, since: float) -> None:
        super().__init__(since)
        self._room, self._size = room, size

    async def body(self, receive: Receive, limit: int) -> bytes:
        """The whole body. Raises ClientGone, ProblemError where it is too long or there is no room for what comes, and
        RefusedError where it comes so slowly that its place was given to another."""
        body = await self._read(self._room.reading, receive, limit, self.count)
        self._grow(len(body))
        self._room.bytes += len(body) - self._size
        self._size = len(body)
        return body

    def count(self, size: int) -> None:
        super().count(size)
        self._grow(self._received)

    def _grow(self, size: int) -> None:
        """The body has so many bytes by now. ProblemError where there is no room for them."""
        more = size - self._size
        if more > 0:
            self._room.make_room(0, more, to=self)
            self._room.bytes += more
            self._size = size

    def __enter__(self) -> _Place:
        self._room.requests += 1
        self._room.bytes += self._size
        return self

    def __exit__(self, *_: object) -> None:
        if not self._given_up:
            self._withdraw()

    def _withdraw(self) -> None:
        self._room.requests -= 1
        self._room.bytes -= self._size


class _Keeping:
    """Hands labels to their keeper in one thread of its own: where a registry is slow, packages are loaded all the
    same, and not ever more labels wait."""

    def __init__(self) -> None:
        self._asking = Asking("shipworthy-labels")
        self.requests = self.bytes = 0
        self.reading: Reading = {}

    def admit(self, head: Head, limit: int) -> _Place:
        """A place for a request whose body has at most `limit` bytes, before it is read. ProblemError where there is
        none, also in the place of those whose bodies hardly come."""
        # What comes in chunks says nothing of its size, and is weighed as it comes.
        size = head.size(limit) if b"content-length" in head.headers else 0
        self.make_room(1, size)
        return _Place(self, size, clock())

    def make_room(self, requests: int, size: int, *, to: Incoming | None = None) -> None:
        """ProblemError where not so many more may wait."""
        now = clock()
        while (reason := self._full(requests, size)) is not None:
            if not give_way(self.reading, now, to=to):
                raise ProblemError(OVERLOADED, reason, headers=RETRY_AFTER)

    def _full(self, requests: int, size: int) -> str | None:
        if self.requests + requests > WAITING:
            return "as many labels wait for the registry as may"
        if self.bytes + size > WAITING_BYTES:
            return "the labels that wait for the registry hold as many bytes as they may"
        return None

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
