"""Arrays that fit the contract's inputs: cast where that loses nothing, otherwise refused with what to do."""

from __future__ import annotations

from typing import Any

import numpy as np

from ..contract import BATCH, Array, Dim, TensorSpec
from ..errors import DataError


def fit_input(array: Array, spec: TensorSpec, culprit: str, *, numbers: bool = False) -> Array:
    """`array` [n, ...] in the dtype and the shape of `spec`.

    Casts between floats, between integers whose values fit, and from bool; `numbers` also takes integers for floats,
    which is right for columns of a table and wrong for pixels. Raises DataError that says what was expected, what
    was given, and how to get from one to the other."""
    cast = _cast(array, spec.numpy, culprit, numbers=numbers)
    # Bounds of the batch are for what runs at once, not for how many samples there are.
    rows = spec.model_copy(update={"shape": (Dim(BATCH), *spec.shape[1:])})
    misfit = rows.misfit(cast)
    if misfit is not None:
        raise DataError(culprit, misfit, _reshaping(cast, rows))
    if cast.dtype.kind == "f":
        _refuse_nan(cast, culprit)
    return cast


def _cast(array: Array, dtype: np.dtype[Any], culprit: str, *, numbers: bool) -> Array:
    if array.dtype == dtype:
        return array
    source, target = array.dtype.kind, dtype.kind
    if source == "f" and target == "f":
        with np.errstate(over="ignore"):
            floats = array.astype(dtype)
        if np.isfinite(array).sum() != np.isfinite(floats).sum():
            raise DataError(culprit, f"has {array.dtype} values that {dtype} does not hold", "scale them")
        return floats
    if source in "iu" and target in "iu":
        info = np.iinfo(dtype)
        low, high = (int(array.min()), int(array.max())) if array.size else (0, 0)
        if low < info.min or high > info.max:
            raise DataError(culprit, f"has values of {low}..{high}, and {dtype} holds {info.min}..{info.max}")
        return array.astype(dtype)
    if (source == "b" and target in "iuf") or (numbers and source in "iu" and target == "f"):
        return array.astype(dtype)
    raise DataError(culprit, f"expected {dtype}, got {array.dtype}", _casting(array, dtype))


def _casting(array: Array, dtype: np.dtype[Any]) -> str:
    if array.dtype.kind in "iu" and dtype.kind == "f":
        return f'scale it as in training, then cast it with .astype("{dtype}")'
    if array.dtype.kind == "O":
        return "its rows differ in length or type; save one array of numbers"
    if array.dtype.kind in "US":
        return "it holds texts; encode them as in training"
    return f'cast it with .astype("{dtype}"), if no value is lost'


def _reshaping(array: Array, spec: TensorSpec) -> str:
    """What turns the array into the shape that the spec wants, where one step does."""
    rank = len(spec.shape)
    if array.ndim == rank - 1:
        for axis, size in enumerate(spec.shape):
            longer = np.expand_dims(array, axis)
            if (size == 1 or axis == 0) and spec.misfit(longer) is None:
                named = "batch" if axis == 0 else "missing"
                return f"add the {named} axis with np.expand_dims(array, {axis})"
    if array.ndim == rank == 4 and spec.misfit(array.transpose(0, 3, 1, 2)) is None:
        return "move the channels to the front with array.transpose(0, 3, 1, 2)"
    if array.ndim == rank == 4 and spec.misfit(array.transpose(0, 2, 3, 1)) is None:
        return "move the channels to the back with array.transpose(0, 2, 3, 1)"
    if array.ndim == rank + 1:
        for axis in range(1, array.ndim):
            if array.shape[axis] == 1 and spec.misfit(array.squeeze(axis)) is None:
                return f"take the axis of 1 out with array.squeeze({axis})"
    fixed = [size for size in spec.shape[1:] if isinstance(size, int)]
    if len(fixed) == rank - 1 and array.ndim == 2 and array.shape[1] == int(np.prod(fixed)):
        return f"reshape it with array.reshape(-1, {', '.join(map(str, fixed))})"
    return "change the data, or the shape in the contract"


def _refuse_nan(array: Array, culprit: str) -> None:
    bad = np.isnan(array)
    if not bad.any():
        return
    rows = np.flatnonzero(bad.reshape(len(array), -1).any(axis=1))
    reason = f"has NaN in {len(rows)} of {len(array)} samples, first in sample {rows[0]}"
    raise DataError(culprit, reason, "fill or drop them")
