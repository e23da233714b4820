"""Reading one connection: httptools parses what arrives, and what breaks a limit or could be misread is refused.

The hot path has no check that can be left for where it matters: sizes are summed up where a read is larger than a
limit, or where a message goes on over several reads."""

from __future__ import annotations

import asyncio
from abc import ABC, abstractmethod
from typing import Any, ClassVar

import httptools

from . import refusals
from .exchange import Exchange
from .refusals import Refusal
from .targets import authority_fits
from .watch import Watch

BETWEEN, HEAD, BODY, DEAF = range(4)
"""What is being read: nothing yet, headers, a body; or what comes is dropped, for the connection is about to end."""

_PAST_PARSER = 65_536
"""Where so much of a body of known length is still to come, it is taken past the parser, which would copy it."""
_CHUNK_SLACK = 65_536
"""Bytes by which a chunked body may weigh more than three times what it carries."""
_WATCHED = frozenset((b"host", b"transfer-encoding", b"expect", b"content-length"))
_MOST_DIGITS = 18
_UPGRADE = frozenset((b"upgrade", b"connection", b"http2-settings"))


class EndError(Exception):
    """Ends parsing; httptools hands it on as an error of its own."""


class Reader(asyncio.Protocol, ABC):
    """The side of a connection that requests come from. `Connection` answers them."""

    watch: ClassVar[Watch]
    """All connections of this server; its limits are theirs."""

    __slots__ = (
        "_chunked",
        "_given",
        "_got",
        "_headers",
        "_left",
        "_length",
        "_most",
        "_parser",
        "_phase",
        "_raw",
        "_read",
        "_reading",
        "_refusal",
        "_summed",
        "_target",
        "_upgrading",
        "since",
    )

    def __init__(self) -> None:
        self._parser: Any = _parser(self)
        self._most, self._summed = self.watch.limits.header_count, self.watch.limits.header_bytes
        self._phase = BETWEEN
        self._headers: list[tuple[bytes, bytes]] = []
        self._given = self._headers
        """Headers that are read, and those of the last request."""
        self._left = 0
        """Bytes of a body that the parser does not see; it is made anew for what follows."""
        self._length = 0
        """Bytes of the body that is being read, as its headers say; 0 where they do not."""
        self._target = b""
        self._reading: Exchange | None = None
        """The request whose body is being read, or was read last."""
        self._read = self._raw = self._got = 0
        """Bytes of this read; of this message, but not of a read that held others before it; of its body."""
        self._chunked = self._upgrading = False
        self._refusal: Refusal | None = None
        self.since = 0.0
        """When the request that is being read began; between requests, when the last one was answered."""

    # ---- what `Connection` does

    @abstractmethod
    def accept(
        self, method: str, version: str, headers: list[tuple[bytes, bytes]], keep_alive: bool, expects: bool
    ) -> Exchange:
        """Take a request on, whose headers are complete."""

    @abstractmethod
    def refuse(self, why: Refusal) -> None:
        """End the connection with an answer: at once, or after those that are due before it."""

    @abstractmethod
    def leave(self) -> None:
        """Close the connection when all that was written is read."""

    @abstractmethod
    def pause(self) -> None:
        """Read no further until the application has caught up."""

    # ---- what httptools calls, and the event loop

    def data_received(self, data: bytes) -> None:
        phase, reading = self._phase, self._reading
        if phase == DEAF:
            return
        if self._left:
            data = self._past_parser(data)
            if not data or self._phase == DEAF:
                return
            phase = BETWEEN
        self._read = len(data)
        if phase:
            self._raw += self._read
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserUpgrade as pause:
            self._ignore_upgrade(data[pause.args[0] :])
            return
        except httptools.HttpParserError:
            self.refuse(self._refusal or refusals.UNREADABLE)
            return
        if self._phase:
            if not phase and self._reading is reading:
                # No request was complete in this read, so all of it belongs to the one that has begun.
                self._raw = self._read
            if self._raw:
                self._weigh()
            if self._phase == BODY and not self._chunked:
                self._look_ahead()

    def _look_ahead(self) -> None:
        """Leave the parser out where much of a body of known length is to come."""
        assert self._reading is not None
        # After a request that ends its connection the parser drops what comes.
        if self._length - self._got >= _PAST_PARSER and self._reading.keep_alive:
            self._left = self._length - self._got

    def _past_parser(self, data: bytes) -> bytes:
        """Take what belongs to the body; the rest, which the parser is to read."""
        if len(data) < self._left:
            self._left -= len(data)
            self.on_body(data)
            self._weigh()
            return b""
        last, rest = data[: self._left], data[self._left :]
        self._left, self._raw, self._parser = 0, 0, _parser(self)
        self.on_body(last)
        self.on_message_complete()
        return rest

    def on_message_begin(self) -> None:
        if self._phase == DEAF:
            # The answer to the one before has ended the connection while this read was parsed.
            raise EndError
        self._target, self._headers = b"", []
        self._phase, self.since, self._raw = HEAD, self.watch.now, 0

    def on_url(self, url: bytes) -> None:
        self._target += url

    def on_header(self, name: bytes, value: bytes) -> None:
        headers = self._headers
        headers.append((name.lower(), value))
        if len(headers) > self._most:
            self.end(refusals.LARGE_HEADERS)

    def on_headers_complete(self) -> None:
        headers, parser = self._headers, self._parser
        version = parser.get_http_version()
        if self._read + self._raw > self._summed or len(self._target) > self.watch.limits.target_bytes:
            self._measure_head()
        expects = self._framing(headers, version)
        if parser.should_upgrade():
            self._upgrading = True
            return
        keep_alive = parser.should_keep_alive()
        self._reading = self.accept(parser.get_method().decode(), version, headers, keep_alive, expects)
        # Trailers come as headers too; they are counted, and nobody reads them.
        self._given, self._headers = headers, []
        self._phase, self._got = BODY, 0

    def on_body(self, body: bytes) -> None:
        exchange = self._reading
        self._got += len(body)
        if exchange is not None and not exchange.feed(body):
            self.pause()

    def on_message_complete(self) -> None:
        if self._upgrading:
            return
        self._phase = BETWEEN
        exchange = self._reading
        assert exchange is not None
        if exchange.complete:
            self.since = self.watch.now
        exchange.end()

    def _framing(self, headers: list[tuple[bytes, bytes]], version: str) -> bool:
        """Refuse what two readers could take for different requests. True where the client waits before its body."""
        host: bytes | None = None
        self._chunked = expects = False
        self._length = 0
        for name, value in headers:
            if name in _WATCHED:
                if name == b"host":
                    if host is not None:
                        self.end(refusals.HOSTS)
                    host = value
                elif name == b"content-length":
                    if len(value) > _MOST_DIGITS:
                        self.end(refusals.UNREADABLE)
                    self._length = int(value)
                elif name == b"expect":
                    expects = value.lower() == b"100-continue"
                elif self._chunked or value.lower() != b"chunked" or version == "1.0":
                    self.end(refusals.CODING)
                else:
                    self._chunked = True
        if version == "1.1":
            if host is None:
                self.end(refusals.HOSTS)
        elif version != "1.0":
            self.end(refusals.VERSION)
        if self._target[:1] != b"/" and not authority_fits(self._target, host):
            self.end(refusals.HOSTS)
        return expects and version == "1.1"

    def _measure_head(self) -> None:
        if len(self._target) > self.watch.limits.target_bytes:
            self.end(refusals.LONG_TARGET)
        if sum(len(name) + len(value) for name, value in self._headers) > self._summed:
            self.end(refusals.LARGE_HEADERS)

    def _weigh(self) -> None:
        """Look at the sizes of a message that goes on over several reads."""
        limits = self.watch.limits
        if self._phase == HEAD:
            if self._raw > limits.header_bytes + limits.target_bytes:
                self.refuse(refusals.LARGE_HEADERS if self._headers else refusals.LONG_TARGET)
        elif self._chunked and self._raw > _CHUNK_SLACK + limits.header_bytes + 3 * self._got:
            self.refuse(refusals.WASTEFUL)
        elif self._got > limits.discard_bytes and self._reading is not None and self._reading.complete:
            self.leave()

    def _ignore_upgrade(self, rest: bytes) -> None:
        """Read a request on as if it had asked for no other protocol, which a server may do (RFC 9110, section 7.8).

        httptools takes all that follows such a request's headers, its body too, for the other protocol's."""
        headers = [(name, value) for name, value in self._headers if name not in _UPGRADE]
        if any(name == b"connection" and b"close" in value.lower() for name, value in self._headers):
            headers.append((b"connection", b"close"))
        method = self._parser.get_method()
        if method == b"CONNECT":
            self.refuse(refusals.UNREADABLE)
            return
        lines = b"".join(b"%b: %b\r\n" % header for header in headers)
        version = self._parser.get_http_version().encode()
        head = b"%b %b HTTP/%b\r\n%b\r\n" % (method, self._target, version, lines)
        self._upgrading, self._phase, self._parser = False, BETWEEN, _parser(self)
        self.data_received(head + rest)

    def end(self, why: Refusal) -> None:
        """Leave the parser, which is in the middle of a read."""
        self._refusal = why
        raise EndError


def _parser(reader: Reader) -> Any:
    parser = httptools.HttpRequestParser(reader)
    # What comes after a request that closes its connection is dropped, and is no fault of that request.
    parser.set_dangerous_leniencies(lenient_data_after_close=True)
    return parser
