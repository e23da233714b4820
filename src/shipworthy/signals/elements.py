"""The numbers of a tensor that are looked at: few enough to be cheap for an image of any size."""

from __future__ import annotations

import math

import numpy as np

from ..contract import Array, Dim, TensorSpec

MOST_ELEMENTS = 1024
"""Of one row. The mean of so many is within a thirtieth of the row's deviation of the mean of all, and the reference is
made of the same ones."""


def thinned(array: Array) -> Array:
    """float64 [n, k] of [n, ...]: evenly spread elements of each row, the same ones for every row of this shape.

    The step shares no factor with a size, so that no column of an image is left out."""
    flat = by_row(array)
    size = flat.shape[1]
    if size > MOST_ELEMENTS:
        step = -(-size // MOST_ELEMENTS)
        while math.gcd(step, size) > 1:
            step += 1
        flat = flat[:, ::step]
    return flat.astype(np.float64)


def by_row(array: Array) -> Array:
    """[n, k] of [n, ...], also where n is 0."""
    return array.reshape(len(array), math.prod(array.shape[1:]))


def pooled(array: Array, spec: TensorSpec) -> Array:
    """float64 [n, k], of which k is the same for all sizes: means over the dynamic axes, then `thinned`.

    Along axes that are together longer than 1,024 every second, third ... is looked at."""
    dynamic = dynamic_axes(spec)
    if not dynamic:
        return thinned(array)
    size = math.prod(array.shape[axis] for axis in dynamic)
    step = max(1, math.ceil((size / MOST_ELEMENTS) ** (1 / len(dynamic))))
    array = array[tuple(slice(None, None, step if axis in dynamic else 1) for axis in range(array.ndim))]
    count = math.prod(array.shape[axis] for axis in dynamic)
    return thinned(np.add.reduce(array, axis=dynamic, dtype=np.float64) / count)


def dynamic_axes(spec: TensorSpec) -> tuple[int, ...]:
    """Those behind the batch whose size differs from request to request."""
    return tuple(axis for axis, size in enumerate(spec.shape) if axis and isinstance(size, Dim))


def fixed_sizes(spec: TensorSpec) -> tuple[int, ...]:
    """Of the other axes behind the batch."""
    return tuple(size for size in spec.shape[1:] if isinstance(size, int))


def row_means(table: Array) -> Array:
    """[n] of [n, k]; without the warning that numpy's own gives where k is 0."""
    means: Array = np.add.reduce(table, axis=1) / table.shape[1]
    return means
