"""Bodies on their way: a request whose body hardly comes gives up its place to one that needs it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from math import inf
from typing import Any, TypeAlias

from starlette.types import Receive

from ..scheduling import Refusal
from .bodies import read_body
from .dispatch import RefusedError

HEAD_START_S = 0.1
"""So long nobody asks how fast a body comes."""
SLOW = 256 * 1024
"""A body that comes with fewer bytes a second keeps its place only as long as there is room."""


class Incoming:
    """A request that holds a place, and whose body is being read. Used on the event loop."""

    __slots__ = ("_given_up", "_received", "_task", "since")

    def __init__(self, since: float) -> None:
        self.since = since
        """When it was taken on."""
        self._given_up = False
        self._received = 0
        self._task: asyncio.Task[Any] | None = None

    def count(self, size: int) -> None:
        """So many more bytes of the body have come."""
        self._received += size

    def pace(self, now: float) -> float:
        """Bytes a second of its body so far."""
        return self._received / max(now - self.since, 1e-9) if now - self.since > HEAD_START_S else inf

    def give_up(self) -> None:
        """Give its place to another while it waits for its body."""
        assert self._task is not None
        self._withdraw()
        self._given_up = True
        self._task.cancel()

    def _withdraw(self) -> None:
        """Leave its place."""
        raise NotImplementedError

    async def _read(self, reading: Reading, receive: Receive, limit: int, count: Callable[[int], None] | None) -> bytes:
        """As `read_body`; until all has come, this is among those that are `reading`. Raises RefusedError too, where
        its place was given to another."""
        self._task = asyncio.current_task()
        reading[self] = None
        try:
            return await read_body(receive, limit, count)
        except asyncio.CancelledError:
            if not self._given_up:
                raise
            assert self._task is not None
            self._task.uncancel()
            raise RefusedError(Refusal("slow", 1.0)) from None
        finally:
            reading.pop(self, None)


Reading: TypeAlias = dict[Incoming, None]
"""Those whose bodies are being read, in the order in which they came."""


def give_way(reading: Reading, now: float, *, to: Incoming | None = None) -> bool:
    """Whether one of them has given up its place: the slowest, if its body hardly comes, and never that which needs
    the place."""
    others = [one for one in reading if one is not to]
    slowest = min(others, key=lambda one: one.pace(now), default=None)
    if slowest is None or slowest.pace(now) >= SLOW:
        return False
    del reading[slowest]
    slowest.give_up()
    return True
