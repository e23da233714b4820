"""What goes back: a body, its type, and where the time went."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from starlette.types import Send

JSON_TYPE = b"application/json"
CLOSE = (b"connection", b"close")
"""The header that ends a connection."""


class Timed(Protocol):
    """Something that waited for its turn and ran, in seconds."""

    @property
    def queue_s(self) -> float: ...

    @property
    def compute_s(self) -> float: ...

    @property
    def batch(self) -> int: ...


@dataclass(frozen=True, slots=True)
class Spent:
    """The times of a request that ran in several batches."""

    queue_s: float
    """The longest wait of a batch."""
    compute_s: float
    """What all of them took in the engine."""
    batch: int
    """Rows of the largest."""


@dataclass(slots=True, eq=False)
class Reply:
    """The answer of a hot route."""

    body: bytes
    spent: Timed
    content_type: bytes = JSON_TYPE
    headers: tuple[tuple[bytes, bytes], ...] = ()
    """Further ones."""


def together(runs: Sequence[Timed]) -> Timed:
    """The times of all runs of a request."""
    if len(runs) == 1:
        return runs[0]
    return Spent(max(run.queue_s for run in runs), sum(run.compute_s for run in runs), max(run.batch for run in runs))


def server_timing(spent: Timed) -> bytes:
    """The header of that name, in milliseconds."""
    return b"queue;dur=%.3f, compute;dur=%.3f" % (spent.queue_s * 1e3, spent.compute_s * 1e3)


async def send_lines(send: Send, status: int, lines: bytes, body: bytes, *, close: bool) -> None:
    """An answer as ASGI's messages."""
    headers = [tuple(line.split(b": ", 1)) for line in lines.split(b"\r\n")[:-1]]
    if close:
        headers.append(CLOSE)
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})
