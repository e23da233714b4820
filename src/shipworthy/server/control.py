"""What a supervisor and its workers say to each other: lines of JSON over a pair of sockets, one message in each.

A worker that was updated on disk meanwhile may speak another version; then each of them says so instead of guessing."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from typing import Annotated, Literal, TypeAlias

from pydantic import Field, TypeAdapter, ValidationError

from .. import errors
from ..errors import ServeError, ShipworthyError
from .plan import Plan, Served

VERSION = 2
LONGEST_LINE = 1 << 20
"""Bytes. The longest message is a plan with many packages."""
BEAT_S = 2.0
"""So often a worker says that it is there."""

Verb: TypeAlias = Literal["load", "unload", "reload"]


@dataclass(frozen=True, slots=True)
class Fault:
    """Why something was not done: one of Shipworthy's errors, or a problem by its slug."""

    kind: str
    """The error's class, or `problem:` and the slug."""
    reason: str
    culprit: str = ""
    remedy: str = ""

    def __str__(self) -> str:
        return (f"{self.culprit}: " if self.culprit else "") + self.reason + (f"; {self.remedy}" if self.remedy else "")


@dataclass(frozen=True, slots=True)
class Begin:
    """To a worker, as the first message: load this, and serve what comes over the sockets that you were given."""

    plan: Plan
    listen_at_once: bool
    """False for one that replaces another: connections then wait until it is ready, instead of being told to wait."""
    version: int = VERSION
    is_a: Literal["begin"] = "begin"


@dataclass(frozen=True, slots=True)
class Open:
    """To a worker that is loaded: answer requests from now on, for the whole server is ready."""

    is_a: Literal["open"] = "open"


@dataclass(frozen=True, slots=True)
class Do:
    """To a worker: carry out a command. `name` is empty for a reload of everything."""

    number: int
    verb: Verb
    name: str = ""
    is_a: Literal["do"] = "do"


@dataclass(frozen=True, slots=True)
class Answered:
    """To the worker that asked: what became of the command."""

    number: int
    fault: Fault | None
    is_a: Literal["answered"] = "answered"


@dataclass(frozen=True, slots=True)
class Leave:
    """To a worker: finish what is in flight, or give it up where there is `hurry`."""

    hurry: bool
    last: bool
    """Whether no other worker will take its socket over."""
    is_a: Literal["leave"] = "leave"


@dataclass(frozen=True, slots=True)
class Loaded:
    """From a worker: all packages are proven."""

    served: tuple[Served, ...]
    is_a: Literal["loaded"] = "loaded"


@dataclass(frozen=True, slots=True)
class Opened:
    """From a worker: requests are answered."""

    is_a: Literal["opened"] = "opened"


@dataclass(frozen=True, slots=True)
class Alive:
    """From a worker, every `BEAT_S` seconds: its event loop turns."""

    is_a: Literal["alive"] = "alive"


@dataclass(frozen=True, slots=True)
class Failed:
    """From a worker that cannot begin, as its last message."""

    fault: Fault
    is_a: Literal["failed"] = "failed"


@dataclass(frozen=True, slots=True)
class Ask:
    """From a worker whose management route was called: have all workers do this."""

    number: int
    verb: Literal["load", "unload"]
    name: str
    is_a: Literal["ask"] = "ask"


@dataclass(frozen=True, slots=True)
class Done:
    """From a worker: a command was carried out, or was not; and what it serves now."""

    number: int
    fault: Fault | None
    models: tuple[str, ...]
    is_a: Literal["done"] = "done"


Order: TypeAlias = Begin | Open | Do | Answered | Leave
"""What a supervisor says."""
Report: TypeAlias = Alive | Loaded | Opened | Failed | Ask | Done
"""What a worker says."""
Message: TypeAlias = Order | Report

_MESSAGE: TypeAdapter[Message] = TypeAdapter(Annotated[Message, Field(discriminator="is_a")])


class Channel:
    """One end of the pair of sockets. Used on one event loop."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader, self._writer = reader, writer

    @classmethod
    async def over(cls, wire: socket.socket) -> Channel:
        """Takes `wire` over."""
        reader, writer = await asyncio.open_unix_connection(sock=wire, limit=LONGEST_LINE)
        return cls(reader, writer)

    def say(self, message: Message) -> None:
        """Does not wait, and does not mind that nobody listens any longer: that end is noticed by `hear`."""
        if not self._writer.is_closing():
            self._writer.write(_MESSAGE.dump_json(message) + b"\n")

    async def hear(self) -> Message | None:
        """The next message; None when the other end has gone. ServeError where it cannot be understood."""
        try:
            line = await self._reader.readline()
        except ConnectionError:
            return None
        except ValueError:
            raise misunderstood(f"a line has more than {LONGEST_LINE} bytes") from None
        # The other side may end in the middle of a line.
        return read_message(line) if line.endswith(b"\n") else None

    async def close(self) -> None:
        """Send what was said, and close."""
        with suppress(ConnectionError):
            self._writer.close()
            await self._writer.wait_closed()


def read_message(line: bytes) -> Message:
    """ServeError for what this version does not understand."""
    try:
        message = _MESSAGE.validate_json(line)
    except ValidationError as error:
        raise misunderstood(f"{error.error_count()} faults in {line[:80]!r}") from None
    if isinstance(message, Begin) and message.version != VERSION:
        raise misunderstood(f"it speaks version {message.version}, this is version {VERSION}")
    return message


def misunderstood(reason: str) -> ServeError:
    return ServeError("worker", f"does not understand its supervisor: {reason}", "restart the server")


def fault_of(error: ShipworthyError) -> Fault:
    return Fault(type(error).__name__, error.reason, error.culprit, error.remedy)


def error_of(fault: Fault) -> ShipworthyError:
    """The error that a fault was, as far as its words and its class go."""
    # Some are made of more than the three words.
    simple = {"InputError": "ShipworthyError", "UnansweredError": "ShipworthyError", "MissingExtra": "EngineError"}.get(
        fault.kind, fault.kind
    )
    kind: Callable[[str, str, str], ShipworthyError] = getattr(errors, simple, ShipworthyError)
    return kind(fault.culprit, fault.reason, fault.remedy)
