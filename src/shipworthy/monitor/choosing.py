"""Which rows are scored: chosen at random, at most so many a second, and whatever they hold."""

from __future__ import annotations

import math
import random
import threading
from collections.abc import Sequence

NEVER = 1 << 62
"""A gap that no traffic ends."""
AIM = 0.95
"""Of the rows that may be chosen so many are aimed at, so that chance seldom uses up a second's before it is over."""


class Choosing:
    """Chooses rows with gaps that are geometric, so that each is chosen with the same probability: `rate` by the
    traffic of the second before, and at most one in `one_in`.

    What was chosen in a second is bounded too, by rows and by bytes. Until the next one nothing is chosen then: which
    rows these are depends on when they come, and never on what they hold.

    `ran` may be called from several threads. What they count at the very same moment may be off by a batch."""

    def __init__(
        self, rate: float, one_in: int = 1, *, most_bytes: int = NEVER, chance: random.Random | None = None
    ) -> None:
        """`rate` in rows a second, `most_bytes` in bytes a second. A rate below 1 is kept on average, and no second has
        more than one row."""
        self._rate, self._ceiling, self._most_bytes = rate, 1.0 / one_in, most_bytes
        self._random = (chance or random.Random()).random
        self._guard = threading.Lock()
        self._share = self._ceiling
        self._seen = 0
        self._told = 0
        self._chosen = self._bytes = 0
        """Of the current second."""
        self._size = 0.0
        """Bytes of a row, as they were on average."""
        self._gap = self._left = self._draw()
        """Rows from the last one that was chosen to the next, and how many of them are still to come."""

    def ran(self, rows: int) -> Sequence[int] | None:
        """So many rows have run: the places of those that are chosen, rising; None where none is."""
        # No more than this is done for most batches.
        left = self._left - rows
        if left > 0:
            self._left = left
            return None
        return self._choose(rows)

    def count(self, size: int) -> None:
        """A row that was chosen has so many bytes."""
        self._bytes += size

    @property
    def share(self) -> float:
        """The probability with which a row is chosen now."""
        return self._share

    def turn(self, seconds: float) -> None:
        """A span of so many seconds, about one, is over: what was seen in it says how probable a row is from now on."""
        with self._guard:
            seen = self._count() - self._told
            self._told += seen
            if self._chosen:
                self._size = self._bytes / self._chosen
            self._chosen = self._bytes = 0
            self._share = self._wanted(seen / seconds)
            # Whatever the gap has come to by now, how much of it is left does not depend on that.
            self._begin(self._draw())

    def seen(self) -> int:
        """Rows so far."""
        with self._guard:
            return self._count()

    def _wanted(self, traffic: float) -> float:
        most = float(self._rate)
        if self._size:
            most = min(most, self._most_bytes / self._size)
        return self._ceiling if traffic <= most else min(self._ceiling, AIM * most / traffic)

    def _choose(self, rows: int) -> Sequence[int] | None:
        with self._guard:
            place = self._left - 1
            chosen: list[int] = []
            while place < rows:
                if self._chosen >= self._rate or self._bytes >= self._most_bytes:
                    # The next second begins a gap of its own.
                    self._begin(NEVER, rows)
                    return chosen or None
                self._chosen += 1
                chosen.append(place)
                place += self._draw()
            self._begin(place + 1, rows)
            return chosen or None

    def _begin(self, gap: int, rows: int = 0) -> None:
        """The next row that is chosen is the `gap`th from the beginning of a batch of so many `rows`."""
        self._seen += self._gap - self._left
        self._gap, self._left = gap, gap - rows

    def _count(self) -> int:
        return self._seen + self._gap - self._left

    def _draw(self) -> int:
        """A gap: 1 is the next row. Devroye (1986), X.2: the logarithm of a uniform number, over that of a failure."""
        if self._share >= 1.0:
            return 1
        return 1 + int(math.log(1.0 - self._random()) / math.log1p(-self._share))
