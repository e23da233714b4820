"""The last windows: what live values are, in counts that add."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field

import numpy as np

from ..contract import Array
from .latency import SIZE, counts_of
from .scales import Scales
from .sums import sums_of

WINDOWS = 4
"""Full ones that are looked back at, beside the one that is being filled."""


@dataclass(slots=True)
class Seen:
    """Of the rows of one window."""

    counts: Array
    """int64, in the bins of `Scales`."""
    sums: Array
    """float64 [signals], of values that were not missing."""
    present: Array
    """int64 [signals]: how many those were."""
    latency: Array = field(default_factory=lambda: np.zeros(SIZE, np.int64))
    rows: int = 0
    sure: int = 0
    """Rows that are as confident as the estimate of the accuracy asks for."""

    def add(self, other: Seen) -> None:
        self.counts = self.counts + other.counts
        self.sums = self.sums + other.sums
        self.present = self.present + other.present
        self.latency = self.latency + other.latency
        self.rows += other.rows
        self.sure += other.sure


class Recent:
    """At most `WINDOWS` full windows, and one that is not."""

    def __init__(self, scales: Scales, window: int) -> None:
        self._scales = scales
        self._window = window
        self.windows: deque[Seen] = deque([self._empty()], maxlen=WINDOWS + 1)

    def _empty(self) -> Seen:
        signals = len(self._scales.each)
        return Seen(np.zeros(self._scales.size, np.int64), np.zeros(signals), np.zeros(signals, np.int64))

    def add(self, values: Array, seconds: Array, sure: int) -> None:
        """Rows [n, signals] that do not go beyond the window that is being filled, and how long each took [n]."""
        if self.windows[-1].rows >= self._window:
            self.windows.append(self._empty())
        sums, present = sums_of(values)
        counts = self._scales.count(values)
        self.windows[-1].add(Seen(counts, sums, present, counts_of(seconds), len(values), sure))

    def total(self) -> Seen:
        total = self._empty()
        for window in self.windows:
            total.add(window)
        return total
