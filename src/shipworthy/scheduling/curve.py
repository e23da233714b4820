"""What a batch costs: the measured latency curve, corrected by what is seen."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Mapping

GAIN, GAIN_STEADY = 1 / 8, 1 / 32
"""How far one observation moves the speed: while it is off, and when runs only vary about it."""
GAIN_SPREAD = 1 / 16
OFF = 0.7
"""It is off where the errors have one sign: where their mean is more than this share of their mean size (the tracking
signal of Trigg and Leach 1967)."""
OWN = 1 / 4
"""A bucket's own correction moves by this share of what the speed moves."""
SLOWEST, FASTEST = 1.0, -0.5
"""One observation counts as at most twice or half of what was expected: a hiccup is not a new curve."""
SETTLE = 16
"""Every so many batches, the own corrections of buckets that do not run go by a part `FADE` to those of buckets that
do: otherwise one that once looked slow would never be tried again."""
FADE = 1 / 4
FRESH = 64
"""A bucket runs no more where it is not among the last so many batches."""


class Curve:
    """Seconds of a batch by its bucket: the sizes that were measured, which are the only ones that are run.

    A bucket takes what was measured, times a speed that all buckets share (another host, a neighbour and heat slow
    them alike), times its own correction."""

    def __init__(self, seconds: Mapping[int, float]) -> None:
        """`seconds` by bucket, at least one; all above zero."""
        assert seconds and all(size > 0 and cost > 0 for size, cost in seconds.items())
        self.buckets = tuple(sorted(seconds))
        self.largest = self.buckets[-1]
        self.spread = 1 / 8
        """Mean deviation of a run from its estimate, as a share of the estimate."""
        self._measured = dict(seconds)
        self._shape = dict(seconds)
        self._speed = 1.0
        self._crowd = [1.0]
        self._bias = 0.0
        self._seen = dict.fromkeys(self.buckets, 0)
        self._count = 0

    def bucket(self, rows: float) -> int:
        """The smallest bucket that holds `rows`, the largest where none does."""
        place = bisect_left(self.buckets, rows)
        return self.buckets[place] if place < len(self.buckets) else self.largest

    def mean(self, bucket: int) -> float:
        """Seconds that a batch of this bucket is expected to take when no other runs."""
        return self._shape[bucket] * self._speed

    def beside(self, others: int) -> float:
        """By how many times a run takes longer that starts beside so many others of its model."""
        crowd = self._crowd
        while len(crowd) <= others:
            crowd.append(crowd[-1])
        return crowd[others]

    def observe(self, bucket: int, seconds: float, others: int = 0) -> None:
        """A batch of this bucket took so long that started beside so many `others`."""
        error = seconds / (self._shape[bucket] * self._speed * self.beside(others)) - 1.0
        if error > SLOWEST:
            error = SLOWEST
        elif error < FASTEST:
            error = FASTEST
        self.spread += GAIN_SPREAD * (abs(error) - self.spread)
        self._bias += GAIN * (error - self._bias)
        move = error * (GAIN if abs(self._bias) > OFF * self.spread else GAIN_STEADY)
        self._speed *= 1.0 + move
        self._shape[bucket] *= 1.0 + OWN * move
        if others:
            self._crowd[others] = max(1.0, self._crowd[others] * (1.0 + GAIN_STEADY * error))
        self._count += 1
        self._seen[bucket] = self._count
        if self._count % SETTLE == 0:
            self._settle()

    def _settle(self) -> None:
        own = {bucket: self._shape[bucket] / measured for bucket, measured in self._measured.items()}
        fresh = [own[bucket] for bucket, seen in self._seen.items() if seen and self._count - seen < FRESH]
        usual = sum(fresh) / len(fresh)
        for bucket, seen in self._seen.items():
            if not seen or self._count - seen >= FRESH:
                self._shape[bucket] += FADE * (usual - own[bucket]) * self._measured[bucket]
