"""The bucket that a busy server should run."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Collection
from math import ceil

from .curve import Curve

WORTH = 1.02
"""A larger batch must answer more rows a second by this factor, or it only makes requests wait for one another."""


def best(curve: Curve, slacks: Collection[float], streams: float, now: int) -> int:
    """The bucket that answers the most rows a second in time when the queue never empties.

    A request waits there for a stream, one of `streams` that end in turn, and then for its own batch. What leaves less
    time than that is not answered in time by this bucket, so a bucket counts with the share of requests (`slacks`,
    seconds from arrival to deadline) that leave enough: a few impatient callers do not make the server slow for all,
    and many do not wait for a large batch. The smallest, where nothing is fast enough for anybody. The
    bucket of `now` stays where others are hardly better."""
    ordered = sorted(slacks)
    chosen, most = curve.buckets[0], 0.0
    crowd = curve.beside(max(0, ceil(streams) - 1))
    for bucket in curve.buckets:
        seconds = curve.mean(bucket) * crowd
        needed = seconds * (1.0 + 1.0 / streams) * (1.0 + curve.spread)
        patient = len(ordered) - bisect_left(ordered, needed) if ordered else 1
        rate = patient * bucket / seconds * (WORTH if bucket == now else 1.0)
        if rate > most * WORTH:
            chosen, most = bucket, rate
    return chosen
