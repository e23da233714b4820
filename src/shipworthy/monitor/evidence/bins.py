"""Bins between quantiles of the reference: what the sequential detector sees of a value.

Of m reference values in order, those at the places k_i = round(f_i (m + 1)) are the edges, where m suffices. The f_i
leave a thirty-second at each end, divided at .004, .008 and .016, and 24 equal bins between: a few rows of many that
are unlike the usual lie far out, and would be lost in a wider bin. A new value that is exchangeable with the reference
has each of the m + 1 ranks with the same probability, so it falls into bin b with probability exactly
(k_{b+1} - k_b)/(m + 1), whatever the distribution is. After some more values the probability is N_b/N, with N_b the gap
of the bin plus the values that have come into it: a Pólya urn (the shares of the gaps between order statistics have a
Dirichlet distribution, and counts update it)."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from ...errors import MonitorError
from ...signals.signal import Signal
from .order import Floats, Integers, Order

BINS = 32
_ENDS = (0.0, 0.004, 0.008, 0.016)
FRACTIONS: Floats = np.concatenate([_ENDS, np.linspace(1 / 32, 31 / 32, 25), 1 - np.array(_ENDS[::-1])])
"""f_i, of the edges, 0 and 1 included."""


def cuts_of(samples: int) -> Integers:
    """k_i of so many samples, at least 32: [33], rising, so that no bin is empty."""
    place = np.arange(BINS + 1)
    beyond = np.clip(np.round(FRACTIONS * (samples + 1)).astype(np.int64) - place, 0, samples + 1 - BINS)
    cuts: Integers = np.maximum.accumulate(beyond) + place
    return cuts


class Bins:
    """The bins of each signal that the detector bets on (`Signal.scored`)."""

    columns: Integers
    """Places of those signals among all of them, [S]."""
    counts: Integers
    """Reference counts in gaps, [S, 32]: m + 1 in all, for each signal."""

    def __init__(self, columns: Integers, orders: Sequence[Order], samples: int) -> None:
        cuts = cuts_of(samples)
        self.columns = columns
        self.counts = np.tile(np.diff(cuts), (len(columns), 1))
        self._orders = orders
        self._bin = np.searchsorted(cuts[1:], np.arange(samples + 1), side="right").astype(np.int8)

    @classmethod
    def of(cls, scores: Floats, signals: Sequence[Signal], seed: int = 0) -> Bins:
        """`scores` is [m, signals], NaN where missing. The seed orders values that tie; the same seed makes the same
        bins. Raises MonitorError below 32 samples: a bin would be empty."""
        if len(scores) < BINS:
            raise MonitorError(
                "reference", f"has {len(scores)} samples; the detector needs {BINS}", "give it more, better 1000"
            )
        columns = np.flatnonzero([signal.scored for signal in signals]).astype(np.int64)
        random = np.random.default_rng(seed)
        return cls(columns, [Order(scores[:, column], random) for column in columns], len(scores))

    def place(self, values: Floats, random: np.random.Generator) -> npt.NDArray[np.int8]:
        """The bins of new values of all signals: [n, signals] -> [n, S], each in 0 to 31. `random` decides ties; it
        must not be the stream of the seed that ordered the reference."""
        placed = np.empty((len(values), len(self.columns)), np.int8)
        for place, (column, order) in enumerate(zip(self.columns, self._orders, strict=True)):
            placed[:, place] = self._bin[order.rank(values[:, column], random)]
        return placed
