"""What is scheduled: parts of requests, and the batches that they make."""

from __future__ import annotations

from collections.abc import Hashable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    from .groups import Group
    from .queue import Queue


class Part:
    """Rows of one request that run in one batch."""

    __slots__ = ("due", "expires", "key", "payload", "queued", "rows", "scale", "state")

    def __init__(
        self,
        rows: int,
        due: float,
        payload: Any,
        *,
        key: Hashable = None,
        expires: float = float("inf"),
        scale: float = 1.0,
    ) -> None:
        self.rows = rows
        """At most the largest bucket."""
        self.due = due
        """When it should be answered; the earliest comes first."""
        self.payload = payload
        self.key = key
        """Only parts of one key share a batch: their rows have the same shapes."""
        self.expires = expires
        """When an answer is of no use any more; never, where the caller did not say."""
        self.scale = scale
        """What a row of this key costs, in multiples of what the curve was measured with: a first guess, from its
        elements. What is seen corrects it."""
        self.state: Literal["new", "waiting", "running", "gone"] = "new"
        self.queued = 0.0
        """When it was offered."""


@dataclass(slots=True, eq=False)
class Batch:
    """Parts that run together on one stream."""

    queue: Queue
    parts: list[Part]
    rows: int
    bucket: int
    """Rows that the engine is given: those of the parts, and padding."""
    started: float
    expected: float
    """When it should be done."""
    group: Group
    """Whence the parts are."""
    others: int
    """Batches of its queue that ran when it started."""


@dataclass(frozen=True, slots=True)
class Bounds:
    """What may be under way for one model."""

    requests: int = 1024
    bytes: int = 512 * 2**20
    """Of the bodies of these requests. One that is larger is still taken where it is alone."""
    seconds: float = 30.0
    """That the work which waits may take; only requests of many rows, which have more time, come near it."""


@dataclass(frozen=True, slots=True)
class Refusal:
    """Why a request is not taken on."""

    reason: Literal["deadline", "requests", "bytes", "slow"]
    """`slow` is for whoever reads bodies; a queue has the others."""
    retry_s: float
    """After so many seconds it might be."""


def cut(rows: int, due: float, largest: int, step: float, behind: float = 0.0) -> list[tuple[int, float]]:
    """Parts of a request: how many rows each has, at most `largest`, and when it is due.

    The first is due at `due`, the second `behind` + `step` seconds later, and each further one `step` after the one
    before: a large request is given the time that its own work takes, and that of the work which waits already, and
    it stands behind what comes meanwhile."""
    return [
        (min(largest, rows - start), due + (behind + step * place if place else 0.0))
        for place, start in enumerate(range(0, rows, largest))
    ]
