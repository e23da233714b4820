"""One connection: requests are answered one after another, and what takes too long is ended."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any, TypeAlias, cast

from starlette.types import Scope
from uvicorn.config import Config
from uvicorn.protocols.utils import get_local_addr, get_remote_addr, is_ssl
from uvicorn.server import ServerState

from ..access import request_id
from . import refusals
from .exchange import Exchange
from .limits import Limits
from .reading import BETWEEN, BODY, DEAF, HEAD, Reader
from .refusals import Refusal
from .targets import split_target
from .watch import SPARE, Watch

GONE = "shipworthy.gone"
"""The extension of a scope under which `Exchange.when_gone` stands."""
ANSWER = "shipworthy.answer"
"""That under which `Exchange.answer` stands."""
WHOLE = "shipworthy.whole"
"""That under which `Exchange.whole` stands."""

SHORT = 4096
"""Bytes of a body that is waited for before a request begins, so that it can be answered without a task."""
_ASGI = {"version": "3.0", "spec_version": "2.3"}

Immediate: TypeAlias = Callable[[Scope, Exchange], bool]
"""What an application may have as `express`: it is called before a task is made for a request, and returns True where
it will answer by `Exchange.answer`, or by a task of its own that it makes with `Exchange.go_on`. `Exchange.glance`
gives it the body, if that is complete."""


class Connection(Reader):
    """One connection, from its start to its end. `bounded` makes the class that a server uses.

    A scope's `extensions` hold `shipworthy.gone`: `register(callback)` has the callback called once, in the event loop,
    if the client leaves before its answer is complete. One that ends its own side counts as having left: whether it
    would still read is not to be seen."""

    __slots__ = (
        "_active",
        "_app",
        "_client",
        "_express",
        "_owed_read",
        "_owed_since",
        "_queue",
        "_read_paused",
        "_root",
        "_scheme",
        "_server",
        "_shut",
        "_state",
        "_unstarted",
        "_web",
        "_writable",
        "loop",
        "transport",
        "write_paused",
        "written",
    )

    def __init__(
        self,
        config: Config,
        server_state: ServerState,
        app_state: dict[str, Any],
        _loop: asyncio.AbstractEventLoop | None = None,
    ) -> None:
        super().__init__()
        self._app, self._root, self._web, self._state = config.loaded_app, config.root_path, server_state, app_state
        self._express: Immediate | None = getattr(self._app, "express", None)
        self.loop = _loop or asyncio.get_running_loop()
        self.transport: asyncio.Transport = None  # type: ignore[assignment]  # until connection_made
        self._active: Exchange | None = None
        """The request that is being answered."""
        self._unstarted: Scope | None = None
        """Its scope, until the read that brought its headers is parsed to the end."""
        self._queue: list[tuple[Exchange, Scope]] = []
        """Requests that wait for the answer of the active one."""
        self._read_paused = self.write_paused = self._shut = False
        """`_shut`: the last answer is written."""
        self._writable: asyncio.Event | None = None
        self.written = self._owed_read = 0
        """Bytes of all answers; and those of them that were read at `_owed_since`, when some were first left."""
        self._owed_since = 0.0

    @property
    def idle(self) -> bool:
        """Nothing is read, answered or waited for."""
        return self._phase == BETWEEN and self._active is None

    # ---- the connection

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        # uvloop's transports have the methods of asyncio.Transport, and are not of its class.
        self.transport = transport = cast(asyncio.Transport, transport)
        self._web.connections.add(self)  # type: ignore[arg-type]  # a set of uvicorn's own protocols, by its hints
        self._server, self._client = get_local_addr(transport), get_remote_addr(transport)
        self._scheme = "https" if is_ssl(transport) else "http"
        fits = self.watch.add(self)
        self.since = self.watch.now
        if fits:
            return
        if len(self.watch.open) > self.watch.most + SPARE:
            self._break_off("dropped")
        else:
            self.refuse(refusals.CROWDED)

    def connection_lost(self, exc: Exception | None) -> None:
        self.watch.remove(self)
        self._web.connections.discard(self)
        self._phase, self._parser = DEAF, None
        self.resume_writing()
        left = [exchange for exchange, _ in self._queue]
        self._queue = []
        if self._active is not None:
            left.append(self._active)
        self._active = self._reading = self._unstarted = None
        for exchange in left:
            exchange.leave()

    def shutdown(self) -> None:
        """Asked by the server when it stops: leave now, or with the last answer that is due."""
        if self._unstarted is not None:
            # Only what has a task is answered if it is not waited for.
            self._start()
        if self._active is not None:
            last = self._queue[-1][0] if self._queue else self._active
            last.keep_alive = False
        elif self._phase == DEAF:
            # It leaves already; what is still to be read of its last answer is not taken from it.
            if not self.transport.get_write_buffer_size():
                self.transport.abort()
        else:
            self.leave()

    def leave(self) -> None:
        """Close the connection when all that was written is read."""
        self._phase, self._shut, self.since = DEAF, True, self.watch.now
        self.transport.close()

    def write(self, data: bytes) -> None:
        """A part of an answer."""
        self.written += len(data)
        self.transport.write(data)

    def pause_writing(self) -> None:
        self.write_paused = True

    def resume_writing(self) -> None:
        self.write_paused = False
        if self._writable is not None:
            self._writable.set()

    async def drain(self) -> None:
        """Wait until the client has read enough of its answer."""
        while self.write_paused:
            self._writable = asyncio.Event()
            await self._writable.wait()

    def resume(self) -> None:
        """The application asks for more of the body."""
        if self._read_paused and not self._queue:
            self._read_paused = False
            self.transport.resume_reading()

    def default_head(self) -> tuple[bytes, int]:
        """What every answer begins with: the date; and how many lines that is."""
        return self.watch.default_head(self._web.default_headers)

    # ---- what is answered

    def accept(
        self, method: str, version: str, headers: list[tuple[bytes, bytes]], keep_alive: bool, expects: bool
    ) -> Exchange:
        """Hand a request to the application, or let it wait for those before it."""
        target = split_target(self._target)
        exchange = Exchange(self, method, version, keep_alive, expects)
        scope = {
            "type": "http",
            "asgi": _ASGI,
            "http_version": version,
            "server": self._server,
            "client": self._client,
            "scheme": self._scheme,
            "method": method,
            "root_path": self._root,
            "path": self._root + target.path,
            "raw_path": self._root.encode() + target.raw_path if self._root else target.raw_path,
            "query_string": target.query,
            "headers": headers,
            "state": self._state.copy(),
            "extensions": {GONE: exchange.when_gone, ANSWER: exchange.answer, WHOLE: exchange.whole},
        }
        if self._active is None:
            self._active, self._unstarted = exchange, scope
        else:
            if len(self._queue) >= self.watch.limits.pipelined:
                self.end(refusals.IMPATIENT)
            self._queue.append((exchange, scope))
            self.pause()
        return exchange

    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        if self._unstarted is not None and not self._will_be_short():
            self._start()

    def on_message_complete(self) -> None:
        super().on_message_complete()
        if self._unstarted is not None:
            self._start()

    def _will_be_short(self) -> bool:
        """Whether the rest of the body, which many clients send by itself, is so short that it is waited for: then an
        application that answers without a task can do so."""
        if self._express is None or self._chunked or self._active is None or self._active.expects:
            return False
        return self._length <= SHORT

    def _start(self) -> None:
        exchange, scope, self._unstarted = self._active, self._unstarted, None
        assert exchange is not None and scope is not None
        try:
            taken = self._express is not None and self._express(scope, exchange)
        # As in `Exchange.run`; and this is called by the parser, which would take it for a fault of the request.
        except Exception as error:  # noqa: BLE001
            exchange.failed(scope, error)
            return
        if not taken:
            exchange.go_on(self._app, scope)

    def spawn(self, work: Coroutine[Any, Any, None]) -> None:
        """Do something in a task, which the server waits for at its end."""
        task = self.loop.create_task(work)
        self._web.tasks.add(task)
        task.add_done_callback(self._web.tasks.discard)

    def last_in_line(self, exchange: Exchange) -> bool:
        """Whether nothing waits behind this answer. Where something does, the connection is closed after that."""
        if not self._queue:
            return True
        self._queue[-1][0].keep_alive = False
        return False

    def answered(self, exchange: Exchange) -> None:
        """An answer is written: go on to the next request, or end."""
        self._web.total_requests += 1
        self._active = None
        if self.transport.is_closing():
            return
        if not exchange.keep_alive:
            if self._phase == BODY and self._reading is exchange:
                self._linger()
            else:
                self.leave()
            return
        if self._queue:
            self._active, self._unstarted = self._queue.pop(0)
            self._start()
        elif self._refusal is not None:
            self._say_no()
            return
        elif self._phase == BETWEEN:
            self.since = self.watch.now
        self.resume()

    def refuse(self, why: Refusal) -> None:
        """End the connection with an answer: at once, or after those that are due before it."""
        if self._phase == DEAF:
            return
        reading = self._reading if self._phase == BODY else None
        self._phase, self._refusal = DEAF, why
        self.watch.refused[why.kind.slug] += 1
        if reading is not None:
            # The answer bears the id of the request whose body it refuses.
            self._headers = self._given
            if reading.complete:
                self.leave()
                return
            if reading.sent:
                self.transport.abort()
                return
            if reading is self._active:
                self._active = self._unstarted = None
            else:
                self._queue.pop()
            reading.leave()
        if self._active is None:
            self._say_no()

    def _say_no(self) -> None:
        assert self._refusal is not None
        self.write(self._refusal.render(request_id(self._headers)))
        self._linger()

    def _linger(self) -> None:
        """Say that no more will be written, and drop what still comes, so that the last answer is not lost."""
        self._phase, self._shut, self.since = DEAF, True, self.watch.now
        if self._read_paused:
            self._read_paused = False
            self.transport.resume_reading()
        if self.transport.can_write_eof():
            self.transport.write_eof()

    def _break_off(self, why: str) -> None:
        self._phase = DEAF
        # One that was refused before has its reason.
        if self._refusal is None:
            self.watch.refused[why] += 1
        self.transport.abort()

    def pause(self) -> None:
        if not self._read_paused:
            self._read_paused = True
            self.transport.pause_reading()

    # ---- once a second

    def look(self, now: float, elapsed: float) -> None:
        """End what takes too long. `elapsed`: seconds since the last look."""
        limits = self.watch.limits
        pending = self.transport.get_write_buffer_size()
        if (pending or self._owed_since) and self._is_left_unread(pending, now):
            self._break_off("unread")
            return
        age = now - self.since
        if self._phase == BETWEEN:
            if self._active is None:
                # An idle connection keeps nothing of its last request.
                self._reading, self._headers, self._given, self._target = None, [], [], b""
                if age > limits.idle_s:
                    self.watch.refused["idle"] += 1
                    self.leave()
        elif self._phase == HEAD:
            if age > limits.headers_s:
                self.refuse(refusals.SLOW_HEADERS)
        elif self._phase == BODY:
            assert self._reading is not None
            if self._read_paused or self._reading.expects or self._reading is not self._active is not None:
                self.since += elapsed
            elif self._got < (age - limits.grace_s) * limits.bytes_per_s:
                self.refuse(refusals.SLOW_BODY)
        elif self._shut and not pending and age > limits.linger_s:
            self.transport.abort()

    def _is_left_unread(self, pending: int, now: float) -> bool:
        if not pending:
            self._owed_since = 0.0
            return False
        read, limits = self.written - pending, self.watch.limits
        if not self._owed_since:
            self._owed_since, self._owed_read = now, read
        return read - self._owed_read < (now - self._owed_since - limits.grace_s) * limits.bytes_per_s


def bounded(limits: Limits | None = None) -> type[Connection]:
    """The protocol of one server, for `uvicorn.Config(http=bounded(limits))`; its `watch` counts what was refused.

    It serves HTTP/1.1 and HTTP/1.0 without WebSockets, over TCP or TLS, in one event loop."""
    return type("BoundedConnection", (Connection,), {"__slots__": (), "watch": Watch(limits or Limits())})
