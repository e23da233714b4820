"""Sums of signals, which add over spans of time and over nodes."""

from __future__ import annotations

import numpy as np

from ..contract import Array

LARGEST = 1e200
"""Of a value in a sum: a few numbers near the largest float must not make it infinite."""


def sums_of(values: Array) -> tuple[Array, Array]:
    """float64 [signals], the sums of values [n, signals] that are not missing; and int64 [signals], how many those
    are."""
    known = ~np.isnan(values)
    return np.clip(np.where(known, values, 0.0), -LARGEST, LARGEST).sum(0), known.sum(0)
