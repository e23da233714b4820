"""Why a value does not encode: what every encoder of this room raises, and the words for JSON's types."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

MAX_UNKNOWN = 10
"""So many unknown fields are named; the rest are counted, so that an error stays short whatever was sent."""


class FieldError(Exception):
    """A value does not encode. Each fault is a field inside the value (`.width`, or empty) and a reason."""

    def __init__(self, reason: str, at: str = "") -> None:
        self.faults: tuple[tuple[str, str], ...] = ((at, reason),)
        super().__init__(at + reason)

    @classmethod
    def of(cls, faults: Iterable[tuple[str, str]]) -> FieldError:
        """One error for several faults."""
        error = cls("")
        error.faults = tuple(faults)
        return error


def kind(value: object) -> str:
    """What JSON calls the type of `value`, for messages."""
    if value is None:
        return "null"
    if isinstance(value, bool):
        return "true or false"
    if isinstance(value, int | float):
        return "a number"
    if isinstance(value, str):
        return "a string"
    if isinstance(value, list | tuple):
        return "a list"
    if isinstance(value, Mapping):
        return "an object"
    return type(value).__name__


def brief(text: str, limit: int = 80) -> str:
    """`text` as it may stand in a message: quoted, printable, and cut where it is long."""
    return ascii(text if len(text) <= limit else text[:limit] + "...")
