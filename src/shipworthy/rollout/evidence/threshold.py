"""From when on an answer is slow: a target, or what the old version's own past says."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence

REMEMBERED = 2_000
REFRESH = 200
QUANTILE = 0.95


class Threshold:
    """Turns latencies into events for the guardrail.

    Without a target it is the p95 of the last 2,000 latencies of the old version, taken anew when 200 more have come.
    It is made of earlier requests than those it judges, which is all that the guardrail's promise asks of it: where
    the new version is slow at most rho times as often *at any* limit fixed beforehand, it is so at this one. Each
    worker has its own, as the events of all workers add up whatever limit each was judged by."""

    def __init__(self, target: float | None = None) -> None:
        """`target` in seconds."""
        self.seconds = target
        """The limit now; None while there are too few latencies to have one."""
        self._fixed = target is not None
        self._past: deque[float] = deque(maxlen=REMEMBERED)
        self._fresh = 0

    def slow(self, seconds: float, new: bool) -> bool | None:
        """Whether the latency of one answer is above the limit; None where there is none yet.

        It is judged first and remembered then, the old version's only. Of work that both did, ask for the new one
        first: so both are judged by the same limit."""
        limit = self.seconds
        if not (new or self._fixed):
            self.remember((seconds,))
        return None if limit is None else seconds > limit

    def remember(self, seconds: Sequence[float]) -> None:
        """Latencies of the old version that were judged together, by the limit before them."""
        if self._fixed:
            return
        self._past.extend(seconds[-REMEMBERED:])
        self._fresh += len(seconds)
        if self._fresh >= REFRESH:
            self._fresh = 0
            ordered = sorted(self._past)
            self.seconds = ordered[int(QUANTILE * (len(ordered) - 1))]
