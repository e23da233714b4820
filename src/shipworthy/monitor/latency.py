"""Times of answers in bins that grow with them, so that counts add over nodes and take no more memory with traffic."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import accumulate

import numpy as np

from ..contract import Array

_A_DECADE = 32
EDGES_S = 10.0 ** (np.arange(8 * _A_DECADE + 1) / _A_DECADE - 5)
"""From 10 µs to 1000 s; each bin is 7 % wide, so that a quantile is known to within 4 %."""
SIZE = len(EDGES_S) + 1
"""Bins: one for all that is less, and one for all that is more."""
QUANTILES = {"p50": 0.5, "p95": 0.95, "p99": 0.99}


def counts_of(seconds: Array) -> Array:
    """int64 [SIZE]: how many of these seconds [n] lie in each bin. NaN, a time that is not known, is left out."""
    known = seconds[np.isfinite(seconds)]
    return np.bincount(np.searchsorted(EDGES_S, known, "right"), minlength=SIZE)


def quantiles_ms(counts: Sequence[int]) -> dict[str, float]:
    """`p50`, `p95` and `p99` in milliseconds: the middle of the bin, on a logarithmic scale. Empty without counts."""
    sums = list(accumulate(counts))
    if not sums or not sums[-1]:
        return {}
    return {name: _at(sums, share) for name, share in QUANTILES.items()}


def _at(sums: list[int], share: float) -> float:
    wanted = max(1, math.ceil(share * sums[-1]))
    place = next(place for place, so_far in enumerate(sums) if so_far >= wanted)
    low = EDGES_S[max(place - 1, 0)]
    high = EDGES_S[min(place, len(EDGES_S) - 1)]
    return float(math.sqrt(low * high) * 1000)
