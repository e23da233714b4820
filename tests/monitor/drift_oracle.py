"""The detector once more, one sample after another in plain Python, as its definition reads."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

TILTS = (-1.8, -0.9, -0.3, 0.3, 0.9, 1.8)
HALF_LIVES = (100, 400)


class Oracle:
    """One signal."""

    def __init__(self, counts: npt.ArrayLike, *, frozen: bool = False) -> None:
        """`frozen` keeps the counts of the reference as they are, which breaks the promise."""
        self.counts = [float(count) for count in np.asarray(counts)]
        self.recent = [[0.0] * len(self.counts) for _ in HALF_LIVES]
        self.wealth = [0.0] * 8
        self.cusum = [(1.0, 0)] * 8
        self.samples = 0
        self.frozen = frozen

    def factors(self, place: int) -> list[float]:
        """Of each bet, if the next sample comes into bin `place`."""
        total = sum(self.counts)
        q = self.counts[place] / total
        mid = (sum(self.counts[:place]) + self.counts[place] / 2) / total
        tilts = [1 + tilt * (mid - 0.5) for tilt in TILTS]
        return tilts + [((50 * q + recent[place]) / (50 + sum(recent))) / q for recent in self.recent]

    def add(self, place: int) -> float:
        """The statistic after a sample."""
        for bet, factor in enumerate(self.factors(place)):
            self.wealth[bet] = min(1e200, (self.wealth[bet] + 1) * factor)
            value, start = self.cusum[bet]
            if value <= 1:
                value, start = 1.0, self.samples
            self.cusum[bet] = (value * factor, start)
        if not self.frozen:
            self.counts[place] += 1
        for recent, half_life in zip(self.recent, HALF_LIVES, strict=True):
            for bin_ in range(len(recent)):
                recent[bin_] *= 0.5 ** (1 / half_life)
            recent[place] += 1
        self.samples += 1
        return sum(self.wealth[:6]) / 12 + sum(self.wealth[6:]) / 4

    @property
    def ages(self) -> list[int]:
        """How many samples ago the CUSUM of each bet began."""
        return [self.samples - start for _, start in self.cusum]
