"""Which axes of an example may have another size: found by running the model on other sizes."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from itertools import combinations
from typing import TypeAlias

import numpy as np

from ..contract import BATCH, Array, Dim

Axis: TypeAlias = tuple[str, int]
"""Input and number of the axis."""
Feeds: TypeAlias = dict[str, Array]
Accepts: TypeAlias = Callable[[Feeds], bool]

_TOKENS = 2048
"""So long a sequence is tried; what takes it is called unbounded."""


@dataclass
class Sizes:
    """The shapes that were found, and two sets of sizes in which all dynamic dimensions differ."""

    shapes: dict[str, tuple[int | Dim, ...]]
    other: dict[Axis, int] = field(default_factory=dict)
    """For every dynamic axis behind the batch, a size other than the example's that the model takes."""


def find_sizes(feeds: Feeds, accepts: Accepts) -> Sizes:
    """Try other sizes of every axis behind the batch: alone, and together with axes of the same size.

    An axis is dynamic where the model takes it one larger and twice as large, or one smaller and half as large: one
    step alone may be what rounding in a strided layer forgives. Bounds are found by bisection."""
    dims: dict[Axis, Dim] = {}
    other: dict[Axis, int] = {}
    for group in _groups(feeds, accepts):
        name, axis = group[0]
        size = feeds[name].shape[axis]
        dim = _bounds(_free_name(_axis_name(feeds[name], name, axis), dims.values()), size, group, feeds, accepts)
        dims |= dict.fromkeys(group, dim)
        other |= dict.fromkeys(group, size + 1 if dim.holds(size + 1) else size - 1)
    shapes = {name: (Dim(BATCH), *_shape(name, array, dims)) for name, array in feeds.items()}
    return Sizes(shapes, other)


def _shape(name: str, array: Array, dims: Mapping[Axis, Dim]) -> Iterator[int | Dim]:
    """The sizes behind the batch."""
    for axis in range(1, array.ndim):
        yield dims[name, axis] if (name, axis) in dims else array.shape[axis]


def resized(feeds: Feeds, sizes: Mapping[Axis, int]) -> Feeds:
    """The feeds cut, or repeated from their beginning, along these axes."""
    result = dict(feeds)
    for (name, axis), size in sizes.items():
        result[name] = np.take(result[name], np.arange(size) % result[name].shape[axis], axis=axis)
    return result


def with_batch(feeds: Feeds, batch: int) -> Feeds:
    """The feeds with so many samples: the first of them, or all of them repeated."""
    return resized(feeds, {(name, 0): batch for name in feeds})


def _groups(feeds: Feeds, accepts: Accepts) -> list[tuple[Axis, ...]]:
    """Axes that vary, those together that must have, or in the example have, one size."""
    axes = [(name, axis) for name, array in feeds.items() for axis in range(1, array.ndim)]
    alone = [axis for axis in axes if _varies((axis,), feeds, accepts)]
    groups: dict[tuple[int, int], tuple[Axis, ...]] = {}
    for name, axis in alone:
        # Inputs that run side by side (token ids and their mask) are meant to be of one length, even where the
        # model does not insist; two axes of one input (height and width) are not.
        key = (axis, feeds[name].shape[axis])
        groups[key] = (*groups.get(key, ()), (name, axis))
    together: list[tuple[Axis, ...]] = []
    left = [axis for axis in axes if axis not in alone]
    for size in sorted({feeds[name].shape[axis] for name, axis in left}):
        same = tuple((name, axis) for name, axis in left if feeds[name].shape[axis] == size)
        together.extend(_tied(same, feeds, accepts))
    return [*groups.values(), *together]


def _tied(same: tuple[Axis, ...], feeds: Feeds, accepts: Accepts) -> Iterable[tuple[Axis, ...]]:
    if len(same) < 2:
        return ()
    if _varies(same, feeds, accepts):
        return (same,)
    return next(((pair,) for pair in combinations(same, 2) if _varies(pair, feeds, accepts)), ())


def _varies(group: tuple[Axis, ...], feeds: Feeds, accepts: Accepts) -> bool:
    name, axis = group[0]
    size = feeds[name].shape[axis]
    up, down = (size + 1, 2 * size + 1), (size - 1, size // 2)
    return any(
        min(sizes) > 0 and all(accepts(resized(feeds, dict.fromkeys(group, other))) for other in sizes)
        for sizes in (up, down)
    )


def _bounds(name: str, size: int, group: tuple[Axis, ...], feeds: Feeds, accepts: Accepts) -> Dim:
    def takes(other: int) -> bool:
        return accepts(resized(feeds, dict.fromkeys(group, other)))

    least = 1 if takes(1) else _edge(takes, fails=1, works=size)
    limit = _TOKENS if feeds[group[0][0]].dtype.kind in "iu" else 4 * size
    most = size
    while most < limit:
        further = min(2 * most, limit)
        if not takes(further):
            return Dim(name, least, _edge(takes, fails=further, works=most))
        most = further
    return Dim(name, least)


def _edge(takes: Callable[[int], bool], fails: int, works: int) -> int:
    """The last size that works on the way from one that does to one that does not."""
    while abs(works - fails) > 1:
        middle = (works + fails) // 2
        if takes(middle):
            works = middle
        else:
            fails = middle
    return works


def _axis_name(array: Array, name: str, axis: int) -> str:
    if array.ndim == 4:
        return ("channels", "height", "width")[axis - 1]
    if array.dtype.kind in "iu" and array.ndim == 2:
        return "tokens"
    if array.ndim == 3:
        return ("steps", "features")[axis - 1]
    return "features" if array.ndim == 2 else f"{name}_{axis}"


def _free_name(name: str, taken: Iterable[Dim]) -> str:
    names = {dim.name for dim in taken}
    if name not in names:
        return name
    return next(f"{name}_{number}" for number in range(2, len(names) + 3) if f"{name}_{number}" not in names)
