"""The predict routes: body → instances → arrays → the lane → answers."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import TypeVar

from pydantic_core import from_json
from starlette.types import Receive

from ..contract import Array
from ..encode import stack
from ..predict.answers import Row
from ..predict.requests import Request as Instances
from .bodies import JSON, parse
from .engine import Ran
from .head import Head
from .lane import INLINE_BATCH, Lane
from .place import Joined, Place
from .replies import Reply, together

T = TypeVar("T")
Group = tuple[list[int], dict[str, Array]]

INLINE_BYTES = 16_384
"""A larger body, and any that may hold an image, is parsed and encoded beside the event loop, not on it."""
INLINE_VALUES = 4096
"""Answers of more numbers are written beside the event loop."""


def predict(lane: Lane, head: Head, receive: Receive) -> Awaitable[Reply]:
    """Answer a request for one instance or many, within the time that it gives."""
    timeout_s = head.timeout_s
    if timeout_s is None:
        return _predict(lane, head, receive, None)
    return _within(timeout_s, _predict(lane, head, receive, timeout_s))


async def _within(timeout_s: float, answer: Awaitable[Reply]) -> Reply:
    async with asyncio.timeout(timeout_s):
        return await answer


async def _predict(lane: Lane, head: Head, receive: Receive, timeout_s: float | None) -> Reply:
    digits = head.digits
    limit = lane.settings.max_body_bytes
    size = head.size(limit)
    with lane.admit(size, timeout_s) as place:
        body = head.whole(limit, place.count)
        if body is None:
            body = await place.body(head, receive)
        if len(body) != size:
            place.weigh(len(body))
        if not lane.inline:
            head.leave_with_client()
        if lane.rows is not None and len(body) <= INLINE_BYTES and _is_json(head.content_type):
            if head.value is None:
                head.value = as_json(body)
            numbers = lane.rows.take(head.value)
            if numbers is not None:
                future: asyncio.Future[Ran] = asyncio.get_running_loop().create_future()
                place.numbers(numbers, head.value, future)
                ran = await future
                if ran.values > INLINE_BATCH:
                    return Reply(await lane.beside(lambda: answer(lane, head, ran, digits)), ran)
                return Reply(answer(lane, head, ran, digits), ran)
        return await _many(lane, head, body, place, digits)


def answer(lane: Lane, head: Head, ran: Ran, digits: int | None) -> bytes:
    """The body of an answer for one instance, whose value is in the head."""
    assigned = head.assigned
    naming = lane.naming if assigned is None else assigned.ids or assigned.naming((head.value,))
    return lane.predictor.encode(ran.answers, many=False, round=digits, naming=naming)


def _is_json(content_type: str) -> bool:
    """Many clients name a charset too, which JSON has only one of."""
    return content_type == JSON or content_type.partition(";")[0].rstrip().lower() == JSON


def as_json(body: bytes) -> object:
    """The value of a body. None where it is no JSON; whoever reads it again says why."""
    try:
        return from_json(body, allow_inf_nan=False)
    except ValueError:
        return None


async def _many(lane: Lane, head: Head, body: bytes, place: Place, digits: int | None) -> Reply:
    heavy = len(body) > INLINE_BYTES or lane.predictor.codec.accepts_image is not None
    content_type = head.content_type
    asked, groups = await _beside(lane, heavy, lambda: _encode(lane, body, content_type, head.value))
    place.weigh(max(len(body), sum(array.nbytes for _, feeds in groups for array in feeds.values())))
    runs = await place.run_all([feeds for _, feeds in groups])
    heavy = sum(run.values for run in runs) > INLINE_VALUES
    content = await _beside(lane, heavy, lambda: _answers(lane, head, asked, groups, runs, digits))
    return Reply(content, together(runs))


async def _beside(lane: Lane, heavy: bool, work: Callable[[], T]) -> T:
    return await lane.beside(work) if heavy else work()


def _encode(lane: Lane, body: bytes, content_type: str, value: object) -> tuple[Instances, list[Group]]:
    asked = parse(body, content_type, lane.predictor, lane.settings.max_instances, value)
    return asked, stack(lane.predictor.codec.instances(asked.instances))


def _answers(
    lane: Lane, head: Head, asked: Instances, groups: Sequence[Group], runs: Sequence[Ran | Joined], digits: int | None
) -> bytes:
    placed: dict[int, Row] = {}
    for (places, _), ran in zip(groups, runs, strict=True):
        placed.update(zip(places, ran.answers, strict=True))
    rows = [placed[place] for place in range(len(placed))]
    naming = lane.naming if head.assigned is None else head.assigned.naming(asked.instances)
    return lane.predictor.encode(rows, many=asked.many, round=digits, naming=naming)
