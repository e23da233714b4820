"""What one server grants its connections."""

from __future__ import annotations

import resource
from dataclasses import dataclass, fields

from ...errors import ServeError

RESERVED_FILES = 64
"""File descriptors that are left for everything that is no connection."""


@dataclass(frozen=True, slots=True)
class Limits:
    """Bounds of each connection and of all together; every one is a number above zero.

    Times are looked at once a second, so that something may last a second longer than its limit, or a second less."""

    connections: int = 16_384
    """So many may be open at a time (fewer where the process may open fewer files). When there are more, those that
    have been idle for longest are closed; where none is idle, a new one is refused with 503."""
    target_bytes: int = 8_192
    """A longer path and query are refused with 414."""
    header_bytes: int = 32_768
    """Names and values of the headers of a request, together; more are refused with 431."""
    header_count: int = 100
    """More headers, or trailers, are refused with 431."""
    headers_s: float = 10.0
    """Seconds in which the headers of a request must arrive; then 408."""
    grace_s: float = 20.0
    """Seconds for which a body, or the reading of an answer, may be as slow as it likes."""
    bytes_per_s: float = 500.0
    """After these seconds it must have been at least so fast on the average, or it ends: a body with 408, an answer
    that is not read without a word. Time in which the application does not ask for more of the body does not count."""
    idle_s: float = 75.0
    """Seconds without a request after which a connection is closed."""
    linger_s: float = 4.0
    """Seconds for which the rest of a refused request is read and dropped. A connection closed with bytes unread is
    reset, and its client may lose the refusal."""
    discard_bytes: int = 64 * 2**20
    """So much of a body that was answered before it was complete is read and dropped, to keep the connection."""
    pipelined: int = 64
    """So many requests may wait on one connection for the answer of an earlier one; the next is refused with 503."""

    def __post_init__(self) -> None:
        for field in fields(self):
            value = getattr(self, field.name)
            if isinstance(value, bool) or not isinstance(value, int | float) or not 0 < value < float("inf"):
                raise ServeError(f"limits.{field.name}", f"is {value!r}", "give a number above zero")

    def open_connections(self) -> int:
        """`connections`, or what the limit of open files of this process leaves."""
        soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
        if soft == resource.RLIM_INFINITY:
            return self.connections
        return max(1, min(self.connections, soft - RESERVED_FILES))
