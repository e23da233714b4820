"""The windowed test: a window of scored requests against the reference, over all signals.

Each signal has a p-value of its own: numbers by the exact two-sample Kolmogorov-Smirnov distance, classes by a
chi-square distance that is resampled, shares by Fisher's exact test. All three are exact for values that are
exchangeable with the reference, so p <= a has a probability of at most a, on average over references and windows.
Holm's correction (1979) keeps the rate of a window over all signals, however they depend on each other."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from ...signals.signal import Signal
from . import kolmogorov, tables
from .effects import class_number, count_classes, count_ones, total_variation
from .order import Floats, Integers, Order

TOGETHER = 4
"""Windows that are tested as one, too."""


@dataclass(frozen=True, slots=True)
class WindowResult:
    """What a window says of each signal, [signals] each."""

    p: Floats
    """Uncorrected."""
    corrected: Floats
    """Holm's: rejected where it is at most the rate."""
    rejected: npt.NDArray[np.bool_]
    """Where any is, the window raises an alarm."""
    distance: Floats
    """In [0, 1]: KS distance of numbers, total variation of classes, difference of shares."""
    rows: int
    """Of the window."""


class WindowTest:
    """Takes one full window after the other."""

    def __init__(
        self, scores: Floats, signals: Sequence[Signal], window: int = 500, rate: float = 0.001, seed: int = 0
    ) -> None:
        """`scores` is the reference, [m, signals], NaN where missing; `rate` the probability of a false alarm for each
        window. The seed orders values that tie, and resamples."""
        self.signals = tuple(signals)
        self.window = window
        self.rate = rate
        self._random = np.random.default_rng([seed, 2])
        self._samples = len(scores)
        self._orders: dict[int, Order] = {}
        self._counts: dict[int, Integers] = {}
        for place, signal in enumerate(self.signals):
            column = scores[:, place]
            if signal.kind == "number":
                self._orders[place] = Order(column, self._random)
            elif signal.kind == "class":
                self._counts[place] = count_classes(column, class_number(signal, column))
            else:
                self._counts[place] = np.array([len(column) - count_ones(column), count_ones(column)])

    @property
    def random(self) -> np.random.Generator:
        """Orders values that tie, and resamples: its state is part of what is restored."""
        return self._random

    def test(self, values: Floats) -> WindowResult:
        """`values` is [window, signals], NaN where missing."""
        assert values.shape == (self.window, len(self.signals))
        pairs = [self._one(place, signal, values[:, place]) for place, signal in enumerate(self.signals)]
        p = np.array([pair[0] for pair in pairs])
        corrected = holm(p)
        return WindowResult(p, corrected, corrected <= self.rate, np.array([pair[1] for pair in pairs]), self.window)

    def _one(self, place: int, signal: Signal, values: Floats) -> tuple[float, float]:
        """p and distance."""
        m, n = self._samples, len(values)
        if signal.kind == "number":
            distance = kolmogorov.lattice_distance(self._orders[place].rank(values, self._random), m)
            return kolmogorov.p_value(m, n, distance, 2 * self.rate), distance / int(np.lcm(m, n))
        before = self._counts[place]
        if signal.kind == "class":
            now = count_classes(values, len(before) - 1)
            p = tables.chi_square(before, now, self._random, self.rate / len(self.signals))
            return p, total_variation(before, now)
        ones = count_ones(values)
        return tables.hypergeometric((int(before[1]), m), (ones, n)), abs(ones / n - int(before[1]) / m)


class WindowTests:
    """Each window by itself, and every fourth time all four of them together: what 500 rows are too few for, 2,000 may
    show. Each of the two has half of the rate, so that together they keep it for every window."""

    def __init__(
        self, scores: Floats, signals: Sequence[Signal], window: int = 500, rate: float = 0.001, seed: int = 0
    ) -> None:
        """As `WindowTest`."""
        self.window = window
        self.span = TOGETHER * window
        self._rate = rate
        self._one = WindowTest(scores, signals, window, rate / 2, seed)
        self._all = WindowTest(scores, signals, self.span, rate / 2, seed ^ 1)

    def test(self, values: Floats) -> list[WindowResult]:
        """`values` are all rows since the four windows began, [1 to 4 windows, signals]: of the last window, and of all
        four where they are full. Corrected p-values are corrected for both."""
        found = [self._one.test(values[-self.window :])]
        if len(values) == self.span:
            found.append(self._all.test(values))
        return [replace(each, corrected=np.minimum(2 * each.corrected, 1.0)) for each in found]

    @property
    def randoms(self) -> tuple[np.random.Generator, np.random.Generator]:
        """Order values that tie, and resample: their states are part of what is restored."""
        return self._one.random, self._all.random


def holm(p: Floats) -> Floats:
    """Corrected p-values [k]: rejecting where they are at most a keeps the probability of any false rejection at a."""
    order = np.argsort(p, kind="stable")
    scaled = np.maximum.accumulate(p[order] * np.arange(len(p), 0, -1))
    corrected = np.empty(len(p))
    corrected[order] = np.minimum(scaled, 1.0)
    return corrected
