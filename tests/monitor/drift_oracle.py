"""The detector once more, one sample after another in plain Python, as its definition reads."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

TILTS = (-1.8, -0.9, -0.3, 0.3, 0.9, 1.8)
HISTOGRAMS = ((100, 50, 1), (400, 50, 1), (2000, 200, 2))
TAILS = [(low, outermost, share) for outermost in (1, 3, 5) for low in (True, False) for share in (0.03, 0.1)]
WEIGHTS = [0.2 / 6] * 6 + [0.3 / 3] * 3 + [0.5 / 12] * 12


class Oracle:
    """One signal."""

    def __init__(self, counts: npt.ArrayLike, *, frozen: bool = False) -> None:
        """`frozen` keeps the counts of the reference as they are, which breaks the promise."""
        self.counts = [float(count) for count in np.asarray(counts)]
        self.recent = [[0.0] * len(self.counts) for _ in HISTOGRAMS]
        self.wealth = [0.0] * len(WEIGHTS)
        self.cusum = [(1.0, 0)] * len(WEIGHTS)
        self.samples = 0
        self.frozen = frozen

    def factors(self, place: int) -> list[float]:
        """Of each bet, if the next sample comes into bin `place`."""
        total = sum(self.counts)
        q = self.counts[place] / total
        mid = (sum(self.counts[:place]) + self.counts[place] / 2) / total
        tilts = [1 + tilt * (mid - 0.5) for tilt in TILTS]
        histograms = [
            self._histogram(recent, prior, place // width, width)
            for recent, (_, prior, width) in zip(self.recent, HISTOGRAMS, strict=True)
        ]
        assert abs(histograms[0] * q - (50 * q + self.recent[0][place]) / (50 + sum(self.recent[0]))) < 1e-12
        return tilts + histograms + [self._tail(place, *tail) for tail in TAILS]

    def _histogram(self, recent: list[float], prior: float, cell: int, width: int) -> float:
        q = sum(self.counts[cell * width : (cell + 1) * width]) / sum(self.counts)
        return ((prior * q + recent[cell]) / (prior + sum(recent))) / q

    def _tail(self, place: int, low: bool, outermost: int, share: float) -> float:
        bins = range(outermost) if low else range(len(self.counts) - outermost, len(self.counts))
        q = sum(self.counts[one] for one in bins) / sum(self.counts)
        return (1 - share) + (share / q if place in bins else 0.0)

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
        for recent, (half_life, _, width) in zip(self.recent, HISTOGRAMS, strict=True):
            for cell in range(len(recent)):
                recent[cell] *= 0.5 ** (1 / half_life)
            recent[place // width] += 1
        self.samples += 1
        return sum(self.weighted)

    @property
    def weighted(self) -> list[float]:
        """What each bet has of the statistic."""
        return [weight * wealth for weight, wealth in zip(WEIGHTS, self.wealth, strict=True)]

    @property
    def ages(self) -> list[int]:
        """How many samples ago the CUSUM of each bet began."""
        return [self.samples - start for _, start in self.cusum]
