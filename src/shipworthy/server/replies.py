"""What goes back: a body, its type, and where the time went."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

JSON_TYPE = b"application/json"


@dataclass(slots=True, eq=False)
class Reply:
    """The answer of a hot route."""

    body: bytes
    server_timing: bytes
    content_type: bytes = JSON_TYPE
    headers: tuple[tuple[bytes, bytes], ...] = ()
    """Further ones."""


class Timed(Protocol):
    queue_s: float
    compute_s: float


def timing(*runs: Timed) -> bytes:
    """Milliseconds, as `server-timing`: the longest wait of the batches, and what they took in the engine together."""
    if len(runs) == 1:
        return b"queue;dur=%.3f, compute;dur=%.3f" % (runs[0].queue_s * 1e3, runs[0].compute_s * 1e3)
    queue, compute = max(run.queue_s for run in runs), sum(run.compute_s for run in runs)
    return b"queue;dur=%.3f, compute;dur=%.3f" % (queue * 1e3, compute * 1e3)
