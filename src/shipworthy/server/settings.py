"""What an operator may set of a server."""

from __future__ import annotations

from dataclasses import dataclass, fields

from ..errors import ServeError


@dataclass(frozen=True, slots=True)
class Settings:
    """Bounds of what a server takes on; every one that is given is a whole number above zero."""

    max_body_bytes: int = 32 * 2**20
    """A larger request body is refused with 413, as soon as it is seen to be larger."""
    max_instances: int = 10_000
    """A request with more instances is refused with 413."""
    max_waiting: int = 1024
    """So many requests of one model may be under way; further ones are refused with 503."""
    max_waiting_bytes: int = 512 * 2**20
    """So many bytes may the bodies of these requests have together."""
    target_ms: int | None = None
    """Milliseconds within which requests are to be answered; by default the contract's `limits.p99_ms`, or 50."""
    decoders: int = 2
    """So many large bodies and images are decoded at the same time."""
    drain_s: int = 30
    """A server that is told to stop gives requests in flight so many seconds to finish."""

    def __post_init__(self) -> None:
        for field in fields(self):
            value = getattr(self, field.name)
            if value is None and field.default is None:
                continue
            if not isinstance(value, int) or isinstance(value, bool) or value < 1:
                raise ServeError(f"settings.{field.name}", f"is {value!r}", "give a whole number above zero")
