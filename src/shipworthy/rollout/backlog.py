"""What waits for a shadow: bounded by its number, and by the bytes that it holds."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

WAITING = 64
"""So many requests may wait to be copied; while there are as many, none is copied."""
HELD = 64 * 2**20
"""So many bytes the instances that wait may hold, but for a single one that has more."""
NUMBER = 32
"""Bytes of a number in a list, with its place."""


@dataclass(frozen=True, slots=True)
class Copy:
    """A request, and what the champion predicted. Of several instances one is copied, drawn at random: they came
    together, so that what they show is no evidence of its own."""

    instance: object
    predicted: tuple[int, int] | None
    """As `worded` tells it: the answer itself, which may have thousands of probabilities, is not kept for that. None
    where there is none to this request."""
    id: bytes
    digest: int
    size: int
    """Bytes that it holds, as far as that is quickly told."""
    failed: bool = False
    """Whether that counts as a failure of the champion."""


@dataclass(frozen=True, slots=True)
class Failure:
    """A request that the champion's engine has failed; nobody knows any more what it asked. It takes its turn as copies
    do, and needs as much room as the copy before it would: so no failure comes in where an answer would not, and as
    large a part of them is counted."""

    size: int


class Backlog:
    """May be used by any thread."""

    def __init__(self) -> None:
        self._waiting: deque[Copy | Failure] = deque()
        self.held = 0
        """Bytes of them."""
        self._last = 0
        """Of the copy that came last, whether it found room or not."""
        self._guard = threading.Lock()

    def __len__(self) -> int:
        return len(self._waiting)

    @property
    def has_room(self) -> bool:
        """Whether another one may come. Many may, until those have come."""
        return len(self._waiting) < WAITING and self.held < HELD

    def put(self, copy: Copy) -> bool:
        """Whether there was room for it: many that were to be copied may have been answered meanwhile."""
        with self._guard:
            self._last = copy.size
            return self._put(copy)

    def put_failure(self) -> bool:
        with self._guard:
            return self._put(Failure(self._last))

    def take(self) -> Copy | Failure:
        """The first; IndexError where there is none."""
        with self._guard:
            one = self._waiting.popleft()
            self.held -= one.size
        return one

    def _put(self, one: Copy | Failure) -> bool:
        room = len(self._waiting) < WAITING and (not self._waiting or self.held + one.size <= HELD)
        if room:
            self._waiting.append(one)
            self.held += one.size
        return room


def size_of(value: object) -> int:
    """Bytes of an instance, about. Nested lists of numbers are as long as their first ones, or they would have been no
    array."""
    if isinstance(value, Mapping):
        return sum(size_of(one) for one in value.values())
    if isinstance(value, list | tuple):
        numbers, inner = 1, value
        while isinstance(inner, list | tuple) and inner:
            numbers, inner = numbers * len(inner), inner[0]
        return NUMBER * numbers if isinstance(inner, int | float) else sum(size_of(one) for one in value)
    if isinstance(value, np.ndarray):
        # A view keeps all of what it is part of.
        return value.nbytes if value.base is None else max(value.nbytes, getattr(value.base, "nbytes", 0))
    return len(value) if isinstance(value, bytes | bytearray | str) else NUMBER
