"""One timer for all connections of a server, instead of timers for each request."""

from __future__ import annotations

import asyncio
import heapq
from collections import Counter
from collections.abc import Iterator
from typing import TYPE_CHECKING

from .limits import Limits

if TYPE_CHECKING:
    from .protocol import Connection

PERIOD_S = 1.0
SLICE = 256
"""So many connections are looked at before others have their turn in the event loop."""
SPARE = 64
"""So many connections above the limit are told that there are too many; further ones are dropped without a word."""


class Watch:
    """Looks at every open connection once a second, and ends those that broke a limit. It runs in the server's event
    loop, and only while a connection is open."""

    def __init__(self, limits: Limits) -> None:
        self.limits = limits
        self.most = limits.open_connections()
        self.now = 0.0
        """Seconds of the loop's clock, at most a period old: what requests are timed with."""
        self.refused: Counter[str] = Counter()
        """Connections that were ended, by the slug of their problem; `idle`, `unread` and `dropped` had no answer."""
        self.open: dict[Connection, None] = {}
        self._elapsed = PERIOD_S
        self._defaults: list[tuple[bytes, bytes]] | None = None
        self._default_head = (b"", 0)
        self._timer: asyncio.TimerHandle | None = None
        self._full = False
        self._leaving: set[Connection] = set()
        """Those that were closed to make room, and are not gone yet."""

    def add(self, connection: Connection) -> bool:
        """Watch a connection; False where there are so many that it must go."""
        if self._timer is None:
            self.now = connection.loop.time()
            self._timer = connection.loop.call_later(PERIOD_S, self._begin, connection.loop)
        fits = len(self.open) - len(self._leaving) < self.most or self._make_room()
        self.open[connection] = None
        return fits

    def remove(self, connection: Connection) -> None:
        self.open.pop(connection, None)
        self._leaving.discard(connection)
        if not self.open and self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def default_head(self, headers: list[tuple[bytes, bytes]]) -> tuple[bytes, int]:
        """Headers of all answers as lines, and how many; made anew when the server makes its list anew."""
        if headers is not self._defaults:
            self._defaults = headers
            self._default_head = (b"".join(b"%b: %b\r\n" % header for header in headers), len(headers))
        return self._default_head

    def _make_room(self) -> bool:
        """Close those that have been idle for longest: some more than needed, for a search looks at all of them."""
        if self._full:
            return False
        idle = [connection for connection in self.open if connection.idle]
        for connection in heapq.nsmallest(max(1, self.most // 64), idle, key=lambda one: one.since):
            self.refused["idle"] += 1
            self._leaving.add(connection)
            connection.leave()
        # Where none was found, none is looked for again before the next period.
        self._full = not idle
        return bool(idle)

    def _begin(self, loop: asyncio.AbstractEventLoop) -> None:
        before, self.now, self._full = self.now, loop.time(), False
        self._elapsed = self.now - before
        self._go_on(iter(list(self.open)), loop)

    def _go_on(self, connections: Iterator[Connection], loop: asyncio.AbstractEventLoop) -> None:
        for _ in range(SLICE):
            connection = next(connections, None)
            if connection is None:
                self._timer = loop.call_later(PERIOD_S, self._begin, loop)
                return
            if connection in self.open:
                connection.look(self.now, self._elapsed)
        self._timer = loop.call_later(PERIOD_S / SLICE, self._go_on, connections, loop)
