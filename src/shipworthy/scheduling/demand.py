"""What callers ask for: how soon, how much, and what is on its way."""

from __future__ import annotations

from bisect import bisect_left

REMEMBERED = 64
"""So many of the last requests show how much time callers leave."""
FORGET = 1 - 1 / REMEMBERED


class Demand:
    """Requests as they come: the time they leave, and those whose body is still being read."""

    __slots__ = ("_parts", "_place", "_requests", "coming", "slacks")

    def __init__(self) -> None:
        self.slacks: list[float] = []
        """Seconds between arrival and deadline of the last requests, in no order."""
        self.coming: list[float] = []
        """When those were admitted whose parts are not known yet; ascending."""
        self._place = 0
        self._parts = 0.0
        self._requests = 0.0

    def see(self, slack: float) -> bool:
        """A request comes that leaves so much time. Whether all that is remembered is new since it last was true."""
        slacks, place = self.slacks, self._place
        if place < len(slacks):
            slacks[place] = slack
        else:
            slacks.append(slack)
        self._place = place = (place + 1) % REMEMBERED
        return place == 1

    def arrived(self) -> None:
        """One of those that come is known now.

        It is taken for the newest of them: one whose body comes slowly keeps its place at the front."""
        if self.coming:
            self.coming.pop()
        self._requests = self._requests * FORGET + 1.0
        self._parts *= FORGET

    def offered(self, work: float) -> None:
        """Rows that a request brought, in multiples of what the curve's rows cost."""
        self._parts += work

    def rows(self) -> float:
        """Of a usual request, in multiples of what the curve's rows cost."""
        return self._parts / self._requests if self._parts and self._requests else 1.0

    def work(self, since: float, most: float) -> float:
        """Rows that come, of requests that were admitted after `since`; a body that takes longer is not waited for.

        Of one request at most `most` count, as the rest of a large one stands behind what comes meanwhile."""
        coming = self.coming
        if not coming:
            return 0.0
        count = len(coming) - (bisect_left(coming, since) if coming[0] < since else 0)
        return count * min(most, self.rows())
