"""Parts that may share a batch, earliest deadline first."""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Hashable

from .parts import Part


class Group:
    """Parts of one key that wait. They lie in two lists, because most come in order and leave at the front, and the
    number that are due before some time is then one bisection."""

    __slots__ = ("cost", "dues", "factor", "key", "parts", "rows")

    def __init__(self, key: Hashable, factor: float) -> None:
        self.key = key
        self.factor = factor
        """What a row costs, in multiples of what the curve says."""
        self.parts: list[Part] = []
        self.dues: list[float] = []
        self.rows = 0
        self.cost = 0.0
        """Seconds of one stream that its rows were last expected to take; kept by the queue."""

    def put(self, part: Part) -> bool:
        """Whether it is now the first."""
        due, dues = part.due, self.dues
        self.rows += part.rows
        if not dues or due >= dues[-1]:
            dues.append(due)
            self.parts.append(part)
            return len(dues) == 1
        place = bisect_right(dues, due)
        dues.insert(place, due)
        self.parts.insert(place, part)
        return place == 0

    def pull(self, part: Part) -> bool:
        """Take one out of the middle. Whether it was the first."""
        place = bisect_left(self.dues, part.due)
        while self.parts[place] is not part:
            place += 1
        del self.dues[place], self.parts[place]
        self.rows -= part.rows
        return place == 0

    def first(self, rows: int) -> list[Part]:
        """Take the first parts that fit into `rows` together; one at least, whatever its size."""
        parts = self.parts
        if self.rows == len(parts):
            count = total = min(rows, len(parts))
        else:
            count, total = 1, parts[0].rows
            while count < len(parts) and total + parts[count].rows <= rows:
                total += parts[count].rows
                count += 1
        taken = parts[:count]
        del parts[:count], self.dues[:count]
        self.rows -= total
        return taken

    def expire(self, now: float) -> list[Part]:
        """Take parts from the front that are of no use any more."""
        parts = self.parts
        count = 0
        while count < len(parts) and parts[count].expires <= now:
            count += 1
        if not count:
            return []
        gone = parts[:count]
        del parts[:count], self.dues[:count]
        self.rows -= sum(part.rows for part in gone)
        return gone

    def sooner(self, due: float) -> int:
        """Rows that are due no later than `due`."""
        place = bisect_right(self.dues, due)
        if self.rows == len(self.parts):
            return place
        if 2 * place < len(self.parts):
            return sum(part.rows for part in self.parts[:place])
        return self.rows - sum(part.rows for part in self.parts[place:])

    def late(self, by: float, rows: int) -> int:
        """Of the first `rows`, about how many are due before `by`."""
        if self.dues[0] >= by:
            return 0
        place = bisect_left(self.dues, by)
        if self.rows == len(self.parts):
            return min(place, rows)
        # Every part has a row, so no more of them than that are looked at.
        return min(sum(part.rows for part in self.parts[: min(place, rows)]), rows)
