"""How much earlier than its deadline a request has to be predicted to be taken on."""

from __future__ import annotations

LATE = 0.004
"""The share of requests that may be late, of those that were taken on with little to spare."""
STEP = 0.25
"""How far one late batch moves the margin."""
MEMORY = 256
"""Requests over which the share of refusals is averaged."""
FIRST, MOST = 0.4, 1.5


class Margin:
    """A margin in multiples of a batch's duration, such that a share of `LATE` is answered too late.

    It rises where requests were late and falls, by the little that balances it, where they were answered in time with
    no more to spare than the margin asks for (adaptive conformal inference, Gibbs and Candès 2021). Requests with time
    to spare prove nothing. As only the sign of a miss counts, one very slow batch moves it no further than another."""

    __slots__ = ("factor", "taken")

    def __init__(self, factor: float = FIRST, taken: float = 1.0) -> None:
        self.factor = factor
        self.taken = taken
        """The share of the last requests that were taken on."""

    def decided(self, refused: bool) -> None:
        """A request was refused or taken on."""
        self.taken += ((not refused) - self.taken) / MEMORY

    def observe(self, late: float) -> None:
        """Of the requests in a batch that had little to spare, the share `late` missed its deadline.

        Where many are refused, each late one has taken the place of another that would have been in time, and a wider
        margin costs nothing: the fewer are taken on, the fewer may be late."""
        self.factor = min(MOST, max(0.0, self.factor + STEP * (late - LATE * self.taken * self.taken)))
