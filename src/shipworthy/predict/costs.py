"""What a batch costs: as the package states it, and as it is on this host."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from statistics import median
from typing import TYPE_CHECKING

import numpy as np

from ..contract import Arrays
from ..package import Variant

if TYPE_CHECKING:
    from .predictor import Predictor
    from .streams import Streams

UNKNOWN_S = 1e-3
"""For each row, where a package states nothing: a guess, until the first batch has run."""
BUDGET_S = 0.3
"""So long a calibration takes, all batch sizes together."""
LEAST = 4
"""So many runs of each size by each stream, where they fit: a small one has little of the time to itself."""
RUNS = 25
"""More runs of one size by each stream tell nothing new of a start value."""


def stated_costs(variant: Variant) -> dict[int, float]:
    """Seconds by batch size, rising, of every size of the variant's latency curve and operating points.

    A size between two measured ones is interpolated; one beyond them has the cost for each row of the nearest."""
    rows = {row.batch: row.p50_ms / 1e3 for row in variant.latency if row.p50_ms > 0}
    sizes = sorted({row.batch for row in variant.latency} | {point.batch for point in variant.points} or {1})
    known = sorted(rows)
    if not known:
        return {size: size * UNKNOWN_S for size in sizes}
    return {size: _interpolated(size, known, rows) for size in sizes}


def _interpolated(size: int, known: Sequence[int], seconds: dict[int, float]) -> float:
    if size > known[-1]:
        return seconds[known[-1]] * size / known[-1]
    return float(np.interp(size, known, [seconds[batch] for batch in known]))


def measured_costs(predictor: Predictor, streams: Streams, batches: Mapping[int, Arrays]) -> dict[int, float]:
    """Median seconds by batch size, with all streams busy at once, within a budget.

    The smallest size is measured in any case. Where the next would not fit into what is left, it and those above it
    have what the package states, times how far off that was for the largest size that was measured."""
    stated = predictor.stated_costs
    end = time.perf_counter() + BUDGET_S
    costs: dict[int, float] = {}
    factor = 1.0
    sizes = sorted(stated)
    for place, size in enumerate(sizes):
        left = end - time.perf_counter()
        if costs and stated[size] * factor > left:
            return costs | {other: stated[other] * factor for other in sizes[place:]}
        share = left * stated[size] / sum(stated[other] for other in sizes[place:])
        costs[size] = median(streams.timed(batches[size], runs=RUNS, within_s=share, least=LEAST, least_s=left))
        factor = costs[size] / stated[size]
    return costs
