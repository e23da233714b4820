"""What was seen when: fine where it is recent, coarse where it is long ago, never more than some hundred points.

A point of age a spans at most a/32, as a power of two of the clock's unit, and begins at a multiple of its span. So the
points of all nodes lie on one grid, and add: a coarser point is the sum of finer ones."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from ..contract import Array
from .sums import sums_of
from .view import Point

MOST = 640
"""Points: 32 for each doubling of the age, which suffices for twenty doublings of 32 s, a year."""
_FINENESS = 32


@dataclass(slots=True)
class Span:
    """Sums, so that two neighbours can be made one."""

    at: float
    scored: int
    sums: Array
    """float64 [signals], of the values that were not missing."""
    present: Array
    """int64 [signals]: how many those were."""
    evidence: float = 0.0
    log_p: float = math.nan
    """NaN where no window ended in it."""

    def add(self, other: Span) -> None:
        self.scored += other.scored
        self.sums = self.sums + other.sums
        self.present = self.present + other.present
        self.evidence = max(self.evidence, other.evidence)
        self.log_p = float(np.fmax(self.log_p, other.log_p))

    def point(self, fewest: int) -> Point:
        """`fewest`: the mean of fewer values is not told."""
        told = np.maximum(self.present, 1)
        means = np.where(self.present >= fewest, self.sums / told, np.nan)
        log_p = None if math.isnan(self.log_p) else self.log_p
        return Point(self.at, self.scored, tuple(means.tolist()), self.evidence, log_p)


def width(age: float) -> float:
    """The span of a point of this age: a power of two, 1 at least."""
    return float(2.0 ** max(0, math.floor(math.log2(max(age, 1.0) / _FINENESS))))


def start(at: float, now: float) -> float:
    """Where the point begins that has what was seen at `at`: a time that is its own start."""
    while True:
        step = width(now - at)
        begin = float(math.floor(at / step) * step)
        if begin == at:
            return begin
        at = begin


class Timeline:
    """Spans of one monitor, oldest first."""

    def __init__(self, *, steady: bool = False) -> None:
        """`steady`: all points are as fine as the number of them allows, for a file that is looked at as a whole."""
        self.steady = steady
        self.spans: list[Span] = []
        self._rows = 1
        """Of a point of a steady one, at least."""

    def add(self, at: float, values: Array, evidence: float, log_p: float | None = None) -> None:
        """Rows [n, signals] that were scored at this time, the largest evidence among them, and that of a window."""
        log = math.nan if log_p is None else log_p
        span = Span(float(math.floor(at)), len(values), *sums_of(values), evidence, log)
        # The same second, or a clock that was set back.
        same = bool(self.spans) and span.at <= self.spans[-1].at
        if same or (self.steady and self.spans and self.spans[-1].scored < self._rows):
            self.spans[-1].add(span)
            return
        self.spans.append(span)
        if len(self.spans) > MOST and self.steady:
            self._rows = 2 * max(each.scored for each in self.spans)
            self.spans = _halved(self.spans)
        elif len(self.spans) > MOST:
            self.spans = thinned(self.spans, at)

    def time_of(self, ago: int, now: float) -> float:
        """When the row was scored that lies so many rows back, as far as the points tell."""
        end = now
        for span in reversed(self.spans):
            if not self.steady:  # nothing may have come for a while after it
                end = min(end, span.at + 2 * width(now - span.at))
            if ago <= span.scored:
                return max(span.at, end - (end - span.at) * ago / max(span.scored, 1))
            ago -= span.scored
            end = span.at
        return end

    def points(self, now: float, fewest: int = 1) -> tuple[Point, ...]:
        spans = self.spans if self.steady else thinned(self.spans, now)
        return tuple(span.point(fewest) for span in spans)


def thinned(spans: Iterable[Span], now: float) -> list[Span]:
    """New spans, neighbours added where their age asks for it; twice as coarse where they are still too many."""
    made: list[Span] = []
    for span in spans:
        at = start(span.at, now)
        copy = Span(at, span.scored, span.sums, span.present, span.evidence, span.log_p)
        if made and at <= made[-1].at:
            made[-1].add(copy)
        else:
            made.append(copy)
    return made if len(made) <= MOST else _halved(made)


def _halved(spans: list[Span]) -> list[Span]:
    made: list[Span] = []
    for place, span in enumerate(spans):
        if place % 2:
            made[-1].add(span)
        else:
            made.append(span)
    return made


def together(timelines: Sequence[Sequence[Point]], now: float) -> tuple[Point, ...]:
    """The points of several nodes on one grid, as one that saw all would have them."""
    found: dict[float, list[Point]] = {}
    for timeline in timelines:
        for point in timeline:
            found.setdefault(start(point.at, now), []).append(point)
    return tuple(_one(at, found[at]) for at in sorted(found))


def _one(at: float, points: list[Point]) -> Point:
    scored = np.array([point.scored for point in points], float)
    means = np.array([point.means for point in points], float)
    known = ~np.isnan(means)
    weights = np.where(known, scored[:, None], 0.0)
    total = weights.sum(0)
    sums = np.where(known, means, 0.0) * weights
    mean = np.where(total > 0, sums.sum(0) / np.maximum(total, 1), np.nan)
    logs = [point.log_p for point in points if point.log_p is not None]
    evidence = max(point.evidence for point in points)
    return Point(at, int(scored.sum()), tuple(mean.tolist()), evidence, max(logs) if logs else None)
