"""One request and its answer, as the application sees them: ASGI's `receive` and `send`."""

from __future__ import annotations

import asyncio
import logging
import re
from collections.abc import Callable, Iterable
from http import HTTPStatus
from typing import TYPE_CHECKING

from starlette.types import ASGIApp, Message, Scope

from ..access import request_id
from .refusals import FAILED

if TYPE_CHECKING:
    from .protocol import Connection

_SMALL = 4096
"""Smaller pieces of a body are put together as they come: a list of millions would weigh many times the body."""
HIGH_WATER = 65_536
"""Bytes of a body that may wait for the application before the connection is read no further."""

_LOG = logging.getLogger("shipworthy.server")
_NAME = re.compile(rb"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
_FRAMING = frozenset((b"content-length", b"transfer-encoding", b"connection"))
_BARE = frozenset((204, 304))
_MOST_NAMES = 256
_STATUS = {status.value: f"HTTP/1.1 {status.value} {status.phrase}\r\n".encode() for status in HTTPStatus}
_DISCONNECT: Message = {"type": "http.disconnect"}


class Exchange:
    """Lives from the headers of a request to the end of its answer."""

    __slots__ = (
        "_bare",
        "_body",
        "_chunked",
        "_connection",
        "_count",
        "_delivered",
        "_head",
        "_left",
        "_method",
        "_more",
        "_most",
        "_old",
        "_on_gone",
        "_size",
        "_waiter",
        "complete",
        "expects",
        "gone",
        "keep_alive",
        "sent",
    )

    def __init__(self, connection: Connection, method: str, version: str, keep_alive: bool, expects: bool) -> None:
        """`expects`: the client waits for a word before it sends the body."""
        self._connection, self._method, self._old = connection, method, version == "1.0"
        # HTTP/1.0 closes after every answer: its ways of not doing so are not understood by every proxy.
        self.keep_alive, self.expects = keep_alive and not self._old, expects
        self.gone = self.complete = self.sent = False
        """Nobody is there any longer; the answer is given; its head is written."""
        self._body: list[bytes | bytearray] = []
        self._size = self._most = 0
        """Bytes of `_body`; up to so many of them are handed over together."""
        self._count: Callable[[int], object] | None = None
        self._more = True
        self._delivered = False
        self._head: bytes | None = None
        self._left: int | None = None
        self._chunked = self._bare = False
        self._waiter: asyncio.Event | None = None
        self._on_gone: Callable[[], object] | None = None

    def when_gone(self, callback: Callable[[], object] | None) -> None:
        """Call this once if the client leaves before its answer is given; at once, if it has left. The last one given
        counts, and None takes it back."""
        if self.gone and callback is not None:
            callback()
        else:
            self._on_gone = callback

    def feed(self, piece: bytes) -> bool:
        """Take a piece of the body; False where enough of it waits. Nobody takes it after the answer."""
        if self.gone or self.complete:
            return True
        if self._body and len(piece) < _SMALL:
            if not isinstance(self._body[-1], bytearray):
                self._body.append(bytearray())
            self._body[-1] += piece
        else:
            self._body.append(piece)
        self._size += len(piece)
        if self._count is not None:
            self._count(len(piece))
        if self._size <= self._most:
            return True
        self._wake()
        return self._size <= HIGH_WATER

    def end(self) -> None:
        """The body is complete."""
        self._more = False
        self._wake()

    def leave(self) -> None:
        """The client is gone, or is taken for gone."""
        if self.gone or self.complete:
            return
        self.gone = True
        self._drop()
        self._wake()
        callback, self._on_gone = self._on_gone, None
        if callback is not None:
            callback()

    async def run(self, app: ASGIApp, scope: Scope) -> None:
        """Let the application answer; where it does not, answer that it failed."""
        try:
            await app(scope, self.receive, self.send)
            if not self.complete and not self.gone:
                raise RuntimeError("the application left without an answer")
        except asyncio.CancelledError:
            self._fail(request_id(scope["headers"]))
            raise
        # Whatever an application raises, the connection must not hang, and others must not be harmed.
        except Exception as error:  # noqa: BLE001
            self.failed(scope, error)

    def failed(self, scope: Scope, error: Exception) -> None:
        """The application has raised this: answer that it failed, where it has not answered yet."""
        identity = request_id(scope["headers"])
        if not self.gone:
            _LOG.error("request %s failed: %s %a", identity, self._method, scope["path"][:200], exc_info=error)
        self._fail(identity)

    def go_on(self, app: ASGIApp, scope: Scope) -> None:
        """Let the application answer in a task."""
        self._connection.spawn(self.run(app, scope))

    def glance(self) -> bytes | None:
        """The body, where all of it has come; it is still to be taken."""
        if self._more:
            return None
        if len(self._body) != 1:
            self._body = [b"".join(self._body)]
        return bytes(self._body[0])

    def whole(self, most: int, count: Callable[[int], object]) -> bytes | None:
        """The body, where all of it is there and nobody has taken any of it; else None, and it is to be awaited.

        What is awaited then comes in one piece, if it has at most `most` bytes, and until then `count` is told how many
        have come: nobody is woken, and no reading paused, for a part that is of no use."""
        if self._delivered or self.gone or self.complete:
            return None
        if self._more:
            self._most, self._count = most, count
            if self._size:
                count(self._size)
                self._connection.resume()
            return None
        self._delivered = True
        return self._taken()

    def _taken(self) -> bytes:
        """What has come of the body; what comes next has room."""
        pieces, self._body, self._size = self._body, [], 0
        self._connection.resume()
        return bytes(pieces[0]) if len(pieces) == 1 else b"".join(pieces)

    def _drop(self) -> None:
        """Nobody takes the rest of the body any more."""
        self._body, self._size, self._count = [], 0, None

    async def receive(self) -> Message:
        """The next piece of the body; `http.disconnect` where the client is gone or has its answer."""
        # Not within an answer that has begun: there it would be taken for a part of it.
        if self.expects and self._head is None and not (self.gone or self.complete):
            self._connection.write(b"HTTP/1.1 100 Continue\r\n\r\n")
            self.expects = False
        while not (self.gone or self.complete):
            if self._size > self._most or not (self._more or self._delivered):
                self._delivered = not self._more
                return {"type": "http.request", "body": self._taken(), "more_body": self._more}
            self._connection.resume()
            if self._waiter is None:
                self._waiter = asyncio.Event()
            await self._waiter.wait()
            self._waiter.clear()
        return _DISCONNECT

    async def send(self, message: Message) -> None:
        """Write the answer. Its head goes out with the first piece of its body. RuntimeError where the application
        breaks the rules of ASGI or of HTTP."""
        if self._connection.write_paused and not self.gone:
            await self._connection.drain()
        if self.gone:
            return
        kind = message["type"]
        if self._head is None:
            if kind != "http.response.start":
                raise RuntimeError(f"expected http.response.start, got {kind}")
            self._head = self._start(message["status"], message.get("headers", ()))
        elif kind != "http.response.body" or self.complete:
            raise RuntimeError(f"did not expect {kind}")
        else:
            self._continue(message.get("body", b""), message.get("more_body", False))

    def answer(self, status: int, lines: bytes, body: bytes, *, close: bool) -> bool:
        """Write a whole answer at once; False, and nothing is written, where it has to be sent as messages: because the
        client has to read others first, speaks HTTP/1.0, or asked for the head alone.

        `lines` are header lines that are known to be sound, content-length among them. What an application does with
        two awaited messages this does with one call, which small answers are quick enough to notice."""
        if self.gone or self.complete:
            return True
        if self._connection.write_paused or self._head is not None or self._old or self._method == "HEAD":
            return False
        if self.expects or (close and self._connection.last_in_line(self)):
            self.keep_alive = False
        end = b"\r\n" if self.keep_alive else b"connection: close\r\n\r\n"
        default, _ = self._connection.default_head()
        self._connection.write(b"".join((_STATUS[status], default, lines, end, body)))
        self.sent = self.complete = True
        self._on_gone = None
        self._drop()
        self._wake()
        self._connection.answered(self)
        return True

    def _start(self, status: int, headers: Iterable[tuple[bytes, bytes]]) -> bytes:
        default, lines = self._connection.default_head()
        head = [_STATUS.get(status) or b"HTTP/1.1 %d \r\n" % status, default]
        closing = False
        for name, value in headers:
            if name not in _names:
                name = _known(name)
            if name in _FRAMING:
                if name == b"content-length":
                    self._left = int(value)
                elif name == b"connection":
                    closing = closing or b"close" in value.lower()
                    continue
                else:
                    # How an answer is framed depends on who asked, which only this class knows.
                    continue
            head += (name, b": ", value, b"\r\n")
        if self._method == "HEAD" or status in _BARE:
            self._bare, self._left = True, 0
        elif self._left is None:
            # HTTP/1.0 knows no chunks: the answer ends with the connection.
            self._chunked = not self._old
            if self._chunked:
                head += (b"transfer-encoding", b": ", b"chunked", b"\r\n")
        # A client that still waits for leave to send its body may send it or not: what comes next could be either.
        if self.expects or (closing and self._connection.last_in_line(self)):
            self.keep_alive = False
        if not self.keep_alive:
            head += (b"connection", b": ", b"close", b"\r\n")
        lines += len(head) // 4 + 2
        head.append(b"\r\n")
        return _sound(b"".join(head), lines)

    def _continue(self, body: bytes, more: bool) -> None:
        assert self._head is not None
        if self._bare:
            body = b""
        elif self._left is not None:
            self._left -= len(body)
            if self._left < 0 or (self._left and not more):
                raise RuntimeError("the answer is not as long as its content-length says")
        elif self._chunked:
            body = (b"%x\r\n%b\r\n" % (len(body), body) if body else b"") + (b"" if more else b"0\r\n\r\n")
        self._connection.write(body if self.sent else self._head + body)
        self.sent = True
        if not more:
            self.complete, self._on_gone = True, None
            self._drop()
            self._wake()
            self._connection.answered(self)

    def _fail(self, identity: str) -> None:
        if self.gone or self.complete:
            return
        if self.sent:
            self._connection.transport.abort()
            return
        self.complete, self.keep_alive, self._on_gone = True, False, None
        self._drop()
        self._connection.write(FAILED.render(identity))
        self._connection.answered(self)

    def _wake(self) -> None:
        if self._waiter is not None:
            self._waiter.set()


_names = {b"content-type", b"content-length", b"x-request-id", b"server-timing"}
"""Names of headers that are sound, as applications have sent them."""


def _known(name: bytes) -> bytes:
    """The name in lower case; RuntimeError where it is none."""
    if not _NAME.fullmatch(name):
        raise RuntimeError(f"{name!r} is no name of a header")
    name = name.lower()
    if len(_names) < _MOST_NAMES:
        _names.add(name)
    return name


def _sound(head: bytes, lines: int) -> bytes:
    """The head. RuntimeError where a value would end its line, and begin another header or answer."""
    if head.count(b"\n") != lines or head.count(b"\r") != lines or b"\0" in head:
        raise RuntimeError("a header holds a line break")
    return head
