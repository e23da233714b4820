"""How the values of each signal are counted, so that counts of the reference and of several nodes can be compared."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ..contract import Array
from ..signals.reference import Reference
from ..signals.signal import Signal
from .sums import sums_of

BINS = 50
"""Each holds about a fiftieth of the reference, so that a KS distance that is read from them is right to .02."""
OTHER = "other"


@dataclass(frozen=True, slots=True)
class Scale:
    """The bins of one signal; the last one is of missing values."""

    edges: Array
    """Rising [k], for numbers; empty for others."""
    classes: tuple[str, ...]
    size: int

    @classmethod
    def of(cls, signal: Signal, scores: Array) -> Scale:
        """`scores` [m] of the reference, missing ones last."""
        known = scores[~np.isnan(scores)]
        if signal.kind == "share":
            return cls(np.empty(0), ("no", "yes"), 3)
        if signal.kind == "class":
            names = signal.classes or (*map(str, range(int(known.max(initial=-1)) + 1)), OTHER)
            return cls(np.empty(0), names, len(names) + 1)
        # The outermost bins are empty in the reference: they are for what it has not.
        edges = np.quantile(known, np.linspace(0, 1, BINS + 1)) if len(known) else np.zeros(1)
        edges[-1] = np.nextafter(edges[-1], np.inf)
        edges = np.unique(edges[np.isfinite(edges)])
        return cls(edges, (), len(edges) + 2)

    def place(self, values: Array) -> Array:
        """The bin of each of these values [n]."""
        missing = np.isnan(values)
        if not self.classes:
            places = np.searchsorted(self.edges, values, "right")
        else:
            last = len(self.classes) - 1
            whole = np.where(missing, 0, np.clip(values, -1, last + 1)).astype(np.int64)
            places = np.where((whole < 0) | (whole > last), last if self.classes[-1] == OTHER else last + 1, whole)
        return np.where(missing, self.size - 1, places)


@dataclass(frozen=True, slots=True)
class Scales:
    """The bins of all signals, one after another."""

    each: tuple[Scale, ...]
    starts: tuple[int, ...]
    size: int
    reference: Array
    """int64 [size]: counts of the reference."""
    mean: Array
    """float64 [signals], of the reference's values that are not missing."""

    @classmethod
    def of(cls, reference: Reference) -> Scales:
        scores = reference.scores
        each = tuple(Scale.of(signal, scores[:, place]) for place, signal in enumerate(reference.signals))
        ends = np.cumsum([scale.size for scale in each]).tolist()
        empty = cls(each, (0, *ends[:-1]), ends[-1] if ends else 0, np.empty(0), np.empty(0))
        sums, present = sums_of(scores)
        mean = np.where(present > 0, sums / np.maximum(present, 1), np.nan)
        return cls(empty.each, empty.starts, empty.size, empty.count(scores), mean)

    def count(self, values: Array) -> Array:
        """int64 [size] of values [n, signals]."""
        places = np.empty(values.shape, np.int64)
        for column, (scale, start) in enumerate(zip(self.each, self.starts, strict=True)):
            places[:, column] = scale.place(values[:, column]) + start
        return np.bincount(places.ravel(), minlength=self.size)

    def part(self, counts: Array, column: int) -> Array:
        """The counts of one signal, of those of all."""
        start = self.starts[column]
        part: Array = counts[start : start + self.each[column].size]
        return part
