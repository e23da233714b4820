"""Versions for requests without a key, drawn ahead: a request takes one step of an iterator, and no Python is run."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import chain
from operator import length_hint

import numpy as np
from numpy.typing import NDArray

from .arms import Arm

AHEAD = 1024
"""So many are drawn at once."""
Random = Callable[[int], NDArray[np.float64]]
"""Gives so many numbers, uniform in [0, 1)."""


class Draws:
    """Those of one period. Used on the event loop."""

    def __init__(self, old: Arm, new: Arm, share: float, random: Random) -> None:
        self._old, self._new, self._share, self._random = old, new, share, random
        self._drawn: list[Arm] = []
        self._left: Iterator[Arm] = iter(())
        self.next: Callable[[], Arm] = chain.from_iterable(iter(self._draw, None)).__next__
        """The arm of the next request."""

    def end(self) -> None:
        """Put down in the arms how many requests they were given. There is no next one."""
        self._count()
        # It refers to this, and both would be kept, with the arms, until the next collection of garbage.
        del self.next

    def _count(self) -> None:
        taken = self._drawn[: len(self._drawn) - length_hint(self._left)]
        new = taken.count(self._new)
        self._new.requests += new
        self._old.requests += len(taken) - new
        self._drawn = []

    def _draw(self) -> Iterator[Arm]:
        """Called when the last one is taken."""
        self._count()
        self._drawn = [self._old] * AHEAD
        for place in np.flatnonzero(self._random(AHEAD) < self._share).tolist():
            self._drawn[place] = self._new
        self._left = iter(self._drawn)
        return self._left
