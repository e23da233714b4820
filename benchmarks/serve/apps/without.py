"""`shipworthy serve` with one of its parts replaced by one that does nothing, to see what that part costs.

    python without.py PART serve PACKAGE ...

Runs in the environment of Shipworthy. A part that is no longer where it is looked for is an AttributeError, not a
row that says it is free."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any

import numpy as np


def _replace(owner: Any, name: str, part: Any) -> None:
    getattr(owner, name)
    setattr(owner, name, part)


def _metrics() -> None:
    from shipworthy.server.observe import LaneMetrics

    for name in ("ran", "answered"):
        _replace(LaneMetrics, name, lambda *_: None)


def _request_ids() -> None:
    from shipworthy.server import head

    _replace(head, "new_id", lambda: "0")


def _access() -> None:
    from shipworthy.server.access import Access

    _replace(Access, "check", lambda *_: None)


def _server_timing() -> None:
    from shipworthy.server import front

    _replace(front, "server_timing", lambda _: b"total")


def _validation() -> None:
    """The first thing that is sent is taken for the numbers of the input, whatever it is."""
    from shipworthy.encode.rows import Rows
    from shipworthy.runtime.feeds import Gate

    _replace(Rows, "take", lambda _, instance: next(iter(instance.values())))
    _replace(Rows, "convert", lambda rows, taken: np.array(taken, rows._dtype))
    _replace(Gate, "accept", lambda _, feeds: feeds)


def _admission() -> None:
    from shipworthy.scheduling import Queue

    def admit(queue: Any, now: float, size: int, due: float) -> None:
        queue.requests += 1
        queue.bytes += size
        queue._demand.coming.append(now)

    _replace(Queue, "admit", admit)


def _batching() -> None:
    """The engine runs every request alone."""
    from shipworthy.scheduling import Curve
    from shipworthy.server import lane

    _replace(lane, "Curve", lambda costs: Curve({min(costs): costs[min(costs)]}))


def _connection_limits() -> None:
    """uvicorn's own protocol, which bounds neither heads nor times."""
    from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

    from shipworthy.server import connections

    _replace(connections, "bounded", lambda *_: HttpToolsProtocol)


PARTS: dict[str, Callable[[], None]] = {
    "metrics": _metrics,
    "request ids": _request_ids,
    "server-timing": _server_timing,
    "access checks": _access,
    "validation": _validation,
    "admission": _admission,
    "connection limits": _connection_limits,
    "batching": _batching,
}

if __name__ == "__main__":
    PARTS[sys.argv[1]]()
    from shipworthy.cli import main

    sys.argv[1:] = sys.argv[2:]
    main()
