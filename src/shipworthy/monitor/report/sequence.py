"""The confidence sequence of the quality, hour by hour, from what a view has of it."""

from __future__ import annotations

import math

import numpy as np

from ..evidence.quality import interval
from ..view import Quality

_ALIKE = 1e-6


def by_hour(quality: Quality) -> list[tuple[float, float, float]]:
    """Hour, lower and upper bound after all labels until its end.

    A view has the mean of each hour, which says all of right and wrong answers, and not all of losses in between: for
    those the last interval would be another one than the view's, and the list is empty."""
    counts = np.zeros(101)
    found = []
    for at, labels, mean in quality.by_hour:
        right = round(labels * mean)
        counts[0] += right
        counts[100] += labels - right
        low, high = interval(counts, 1 - quality.confidence)
        found.append((at, 1 - high, 1 - low))
    if not found or not all(map(_alike, found[-1][1:], (quality.lower, quality.upper))):
        return []
    return found


def _alike(one: float, other: float) -> bool:
    return math.isclose(one, other, abs_tol=_ALIKE)
