"""When two results are the same but for rounding."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from ..contract import Array

_ABSOLUTE = 1e-5
_RELATIVE = 1e-4
"""Sums in another order differ by less; what couples samples or freezes a branch differs by more."""

_EPSILONS = 16


def largest_difference(first: Array, second: Array) -> float:
    """max|Δ| of two arrays of one shape, with NaN equal to NaN; inf where only one of them is."""
    a, b = np.asarray(first, dtype=np.float64), np.asarray(second, dtype=np.float64)
    with np.errstate(invalid="ignore"):
        gap = np.abs(a - b)
    gap = np.where((a == b) | (np.isnan(a) & np.isnan(b)), 0.0, gap)
    return float(np.nan_to_num(gap, nan=np.inf, posinf=np.inf).max(initial=0.0))


def tolerance(array: Array) -> float:
    """What rounding explains in values of this size and dtype; 0 for whole numbers."""
    if array.dtype.kind != "f":
        return 0.0
    finite = np.abs(array[np.isfinite(array)])
    relative = max(_RELATIVE, _EPSILONS * float(np.finfo(array.dtype).eps))
    return _ABSOLUTE + relative * float(finite.max(initial=0.0))


def differing(first: Mapping[str, Array], second: Mapping[str, Array]) -> dict[str, float]:
    """The outputs that differ by more than rounding, and by how much; another shape is an infinite difference."""
    found = {}
    for name in first:
        if name not in second or first[name].shape != second[name].shape:
            found[name] = float("inf")
            continue
        gap = largest_difference(first[name], second[name])
        if gap > tolerance(first[name]):
            found[name] = gap
    return found


def show(gaps: Mapping[str, float]) -> str:
    """`logits by 0.31, hidden wholly`."""
    return ", ".join(f"{name} wholly" if gap == float("inf") else f"{name} by {gap:.3g}" for name, gap in gaps.items())
