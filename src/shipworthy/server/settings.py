"""What an operator may set of a server."""

from __future__ import annotations

from dataclasses import dataclass, fields

from ..errors import ServeError


@dataclass(frozen=True, slots=True)
class Settings:
    """Bounds of what a server takes on; every one is a whole number above zero."""

    max_body_bytes: int = 32 * 2**20
    """A larger request body is refused with 413, as soon as it is seen to be larger."""
    max_instances: int = 10_000
    """A request with more instances is refused with 413."""
    max_waiting: int = 256
    """So many requests, and batches, of one model may wait for their turn; further ones are refused with 503."""
    decoders: int = 4
    """So many large bodies and images are decoded at the same time."""
    drain_s: int = 30
    """A server that is told to stop gives requests in flight so many seconds to finish."""

    def __post_init__(self) -> None:
        for field in fields(self):
            value = getattr(self, field.name)
            if not isinstance(value, int) or isinstance(value, bool) or value < 1:
                raise ServeError(f"settings.{field.name}", f"is {value!r}", "give a whole number above zero")
