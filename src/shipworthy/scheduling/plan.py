"""The bucket that a busy server should run, and the one that is worth running now."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Collection, Sequence
from math import ceil, inf

from .curve import Curve
from .groups import Group
from .margin import Margin

WORTH = 1.02
"""A larger batch must answer more rows a second by this factor, or it only makes requests wait for one another."""
SPLIT = 0.8
"""Work is spread over idle streams where that takes less than this share of the time on one of them."""
PLANNED = 0.75
"""A wider margin is not planned for: what makes it so wide are rare delays, no shorter beside smaller batches."""
IMPATIENT = 1.2
"""Up to so many times the least usual slack, a request counts as impatient as others."""


class Plan:
    """What a queue runs when it is busy; made anew now and then from the curve and from what callers ask for."""

    __slots__ = ("bucket", "curve", "patience", "seconds", "short", "streams", "usual")

    def __init__(self, curve: Curve, streams: int) -> None:
        self.curve = curve
        self.streams = streams
        self.bucket = curve.buckets[0]
        self.seconds = curve.mean(self.bucket)
        """That a run of it takes when all streams are busy."""
        self.short = inf
        """Seconds that impatient callers leave."""
        self.usual = 0.0
        """Seconds that nearly all callers leave."""
        self.patience = inf
        """Seconds that a typical request can wait for a core."""

    def renew(self, slacks: Collection[float], share: float, margin: Margin) -> None:
        """`slacks` are the seconds that the last requests left from arrival to deadline; a part `share` of the streams
        can be counted on."""
        ordered = sorted(slacks)
        self.bucket = best(self.curve, ordered, self.streams * share, margin, self.bucket)
        self.refresh()
        if ordered:
            self.usual = ordered[len(ordered) // 8]
            self.short = IMPATIENT * self.usual
            self.patience = ordered[len(ordered) // 2] - self.seconds

    def refresh(self) -> None:
        """The curve has moved."""
        self.seconds = self.curve.mean(self.bucket) * self.curve.beside(self.streams - 1)

    def worth(self, group: Group, now: float, running: int, idle: int, longest: float) -> int:
        """The bucket that answers the most rows of a group a second in time, up to the planned one.

        Where every row would be late whatever runs, the one that answers the most rows. The other arguments are those
        of `Queue.take`."""
        curve, rows = self.curve, group.rows
        if idle > 1 and rows > 1:
            spread = curve.bucket(ceil(rows / idle))
            if curve.mean(spread) < SPLIT * curve.mean(curve.bucket(rows)):
                rows = spread
        slower = group.factor * curve.beside(running)
        chosen, best_rate, fast, fast_rate = 0, 0.0, 0, 0.0
        for bucket in curve.buckets:
            seconds = curve.mean(bucket) * slower
            if fast and (bucket > self.bucket or seconds > longest):
                break
            full = min(rows, bucket)
            timely = full - group.late(now + seconds, full)
            # Whether a full queue runs what was planned is no matter of chance.
            worth = seconds if bucket == self.bucket <= rows else seconds * WORTH
            if timely > best_rate * worth:
                chosen, best_rate = bucket, timely / seconds
            if full > fast_rate * worth:
                fast, fast_rate = bucket, full / seconds
            if bucket >= rows:
                break
        return chosen or fast


def best(curve: Curve, slacks: Sequence[float], streams: float, margin: Margin, now: int) -> int:
    """The bucket that answers the most rows a second in time when the queue never empties.

    A request is taken on while it can wait for a stream, one of `streams` that end in turn, be run, and leave the
    margin. One with less time than for a whole such wait is taken on during a part of it only; where that is too short
    for as many to come as the bucket holds, the engine idles, and the request counts as that part. One that leaves no
    time at all does not count. So a few impatient callers (`slacks`, seconds, ascending) do not make the server slow
    for all, and many do not wait for a large batch. The smallest, where nothing is fast enough for anybody. The bucket
    of `now` stays where others are hardly better."""
    chosen, most = curve.buckets[0], 0.0
    crowd = curve.beside(max(0, ceil(streams) - 1))
    factor = min(margin.factor, PLANNED)
    for bucket in curve.buckets:
        seconds = curve.mean(bucket) * crowd
        timely = _timely(slacks, seconds * (1.0 + factor), seconds / streams * margin.taken) if slacks else 1.0
        rate = timely * bucket / seconds * (WORTH if bucket == now else 1.0)
        if rate > most * WORTH:
            chosen, most = bucket, rate
    return chosen


def _timely(slacks: Sequence[float], needed: float, wait: float) -> float:
    """How many leave `needed` seconds and a `wait`; those that leave a part of the wait count as that part."""
    some, all_of_it = bisect_left(slacks, needed), bisect_left(slacks, needed + wait)
    if some == all_of_it:
        return float(len(slacks) - some)
    return len(slacks) - all_of_it + sum(slack - needed for slack in slacks[some:all_of_it]) / wait
