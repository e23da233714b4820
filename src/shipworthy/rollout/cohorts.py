"""Requests that have ended, by the second in which they came, told when all of that second had time to end.

Of the slower of two versions more requests are on their way at any moment. What has ended by now would look as if that
version lost answers; of those that came half a minute ago, both have ended all that they ever will."""

from __future__ import annotations

from collections import defaultdict

SETTLED_S = 30.0
"""So long after a second what came in it is told. What ends later counts as lost."""


class Cohorts:
    """Those of one arm. Holds a number for each second, and the digests of callers who gave a key."""

    __slots__ = ("_closed", "_keyed", "_plain")

    def __init__(self) -> None:
        self._plain: defaultdict[float, int] = defaultdict(int)
        self._keyed: defaultdict[float, list[int]] = defaultdict(list)
        self._closed = float("-inf")
        """The last second that was told."""

    def __bool__(self) -> bool:
        return bool(self._plain or self._keyed)

    def end(self, came: float, digest: int = 0) -> None:
        """A request that came then, in seconds of any clock that stays the same, has ended."""
        second = came // 1.0
        if second <= self._closed:
            return
        if digest:
            self._keyed[second].append(digest)
        else:
            self._plain[second] += 1

    def take(self, now: float) -> tuple[int, list[int]]:
        """Those of the seconds that are over for long enough: number without a key, digests of the others."""
        self._closed = (now - SETTLED_S) // 1.0 - 1.0
        if not self:
            return 0, []
        number = sum(self._plain.pop(second) for second in self._over(self._plain))
        return number, [digest for second in self._over(self._keyed) for digest in self._keyed.pop(second)]

    def _over(self, seconds: defaultdict[float, int] | defaultdict[float, list[int]]) -> list[float]:
        return [second for second in seconds if second <= self._closed]
