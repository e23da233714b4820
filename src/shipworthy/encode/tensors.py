"""Nested lists of numbers to tensors, strictly.

* A float input takes integers and floats; the value must be finite and must not overflow the dtype.
* An integer input takes integers in range, and floats without a fraction: JSON has one type of number, and some
  writers send 5 as 5.0. A fraction is refused, never rounded.
* A bool input takes true and false. true and false are no numbers.
* A numpy array is not converted: its dtype and shape must be the input's. Its values are the caller's own.
  Numpy's scalars inside lists count as the numbers that they are.

Nothing here recurses, so no depth of nesting can exhaust the stack.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import chain
from typing import Any

import numpy as np

from ..contract import Array, TensorSpec
from ..contract.tensors import Size
from .faults import FieldError, kind

_LISTS: tuple[type, ...] = (list, tuple)
_NUMBERS, _TRUTHS = frozenset((int, float)), frozenset((bool,))


class TensorCodec:
    """Turns nested lists, or an array, into the array of one input."""

    def __init__(self, name: str, spec: TensorSpec) -> None:
        self.feeds: tuple[str, ...] = (name,)
        self._spec = spec

    def takes(self, value: object) -> bool:
        return True

    def encode(self, value: Any) -> dict[str, Array]:
        return {self.feeds[0]: to_tensor(value, self._spec)}


def to_tensor(value: object, spec: TensorSpec) -> Array:
    """The array of one instance, of dtype `spec.dtype` and shape `spec.shape[1:]`; FieldError where it does not fit."""
    if isinstance(value, np.ndarray | np.generic):
        array = np.asarray(value)
        misfit = spec.misfit(array, instance=True)
        if misfit is not None:
            raise FieldError(misfit)
        return array
    shape, flat = _flatten(value, spec)
    return to_array(flat, spec.numpy, shape).reshape(shape)


def to_array(flat: Sequence[object], dtype: np.dtype[Any], shape: tuple[int, ...]) -> Array:
    """Numbers to a flat array of `dtype`; `shape` only serves to name the place of a fault."""
    kinds = set(map(type, flat))
    allowed = _TRUTHS if dtype.kind == "b" else _NUMBERS
    if not kinds <= allowed and any(issubclass(found, np.generic) for found in kinds):
        flat = [item.item() if isinstance(item, np.generic) else item for item in flat]
        kinds = set(map(type, flat))
    if not kinds <= allowed:
        place = next(i for i, item in enumerate(flat) if type(item) not in allowed)
        wanted = "true or false" if dtype.kind == "b" else "a number"
        raise FieldError(f"expected {wanted}, got {kind(flat[place])}" + at(place, shape))
    if dtype.kind == "b":
        return np.array(flat, dtype=dtype)
    return _floats(flat, dtype, shape) if dtype.kind == "f" else _integers(flat, dtype, shape)


def at(place: int, shape: tuple[int, ...]) -> str:
    """` at [0][3]`: where the item at flat position `place` stands; nothing where there is only one place."""
    where = "".join(f"[{index}]" for index in np.unravel_index(place, shape))
    return f" at {where}" if where else ""


def _flatten(value: object, spec: TensorSpec) -> tuple[tuple[int, ...], list[Any]]:
    """Open the nested lists level by level; the shape, and the items of the innermost level."""
    level: list[Any] = [value]
    shape: tuple[int, ...] = ()
    for dim in spec.shape[1:]:
        if not set(map(type, level)) <= set(_LISTS):
            place = next(i for i, item in enumerate(level) if type(item) not in _LISTS)
            raise FieldError(f"expected {_show(spec)}, got {kind(level[place])} instead of a list" + at(place, shape))
        shape = (*shape, _length(level, dim, shape, spec))
        level = list(chain.from_iterable(level))
    return shape, level


def _length(level: list[Any], dim: Size, shape: tuple[int, ...], spec: TensorSpec) -> int:
    """The common length of the lists of a level, which must be a size that `dim` takes."""
    if not level:  # an outer dimension has size 0
        return dim if isinstance(dim, int) else dim.min
    wanted = dim if isinstance(dim, int) else len(level[0])
    for place, size in enumerate(map(len, level)):
        if size != wanted:
            raise FieldError(f"expected {_show(spec)}, got a list of {size} instead of {wanted}" + at(place, shape))
    if not isinstance(dim, int) and not dim.holds(wanted):
        raise FieldError(f"expected {_show(spec)}, got a list of {wanted}" + at(0, shape))
    return wanted


def _floats(flat: Sequence[Any], dtype: np.dtype[Any], shape: tuple[int, ...]) -> Array:
    try:
        wide = np.array(flat, dtype=np.float64)
    except OverflowError:
        wide = np.array([_to_float(item) for item in flat])
    with np.errstate(over="ignore"):
        narrow = wide.astype(dtype)
    finite = np.isfinite(narrow)
    if not finite.all():
        place = int(np.argmin(finite))
        lost = type(flat[place]) is int or np.isfinite(wide[place])
        reason = f"the number overflows {dtype}" if lost else "the number is not finite"
        raise FieldError(reason + at(place, shape))
    return narrow


def _to_float(number: int | float) -> float:
    try:
        return float(number)
    except OverflowError:
        return float("inf")


def _integers(flat: Sequence[Any], dtype: np.dtype[Any], shape: tuple[int, ...]) -> Array:
    whole = (
        [_to_int(item, place, dtype, shape) for place, item in enumerate(flat)] if float in map(type, flat) else flat
    )
    info = np.iinfo(dtype)
    try:
        wide = np.array(whole, dtype=np.int64)
        outside = (wide < info.min) | (wide > info.max)
    except OverflowError:
        outside = np.array([not info.min <= item <= info.max for item in whole])
    if outside.any():
        place = at(int(np.argmax(outside)), shape)
        raise FieldError(f"the number is outside {info.min}..{info.max} of {dtype}" + place)
    return wide.astype(dtype)


def _to_int(number: int | float, place: int, dtype: np.dtype[Any], shape: tuple[int, ...]) -> int:
    if isinstance(number, float) and not number.is_integer():
        raise FieldError(f"the input is {dtype}, and the number is not whole" + at(place, shape))
    return int(number)


def _show(spec: TensorSpec) -> str:
    return f"{spec.dtype} [{', '.join(map(str, spec.shape[1:]))}]"
