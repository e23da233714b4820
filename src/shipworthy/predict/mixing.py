"""Whether rows of different callers may share a batch."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from ..contract import Array, Arrays
from ..errors import EngineError
from ..package import Golden

FACTOR = 4
"""By which the neighbours' floats are larger: enough to move a range that is taken over a whole batch."""


def rows_are_independent(run: Callable[[Arrays], dict[str, Array]], golden: Golden, size: int) -> bool:
    """Whether a row has bit-identical outputs in two batches of `size` rows: among copies of itself, and among others.

    The row is one of a single value, of the sizes of the largest golden case, since a wide one would hide the others
    behind it. It differs where an activation's range is taken over the whole batch at run time (int8 with dynamic
    ranges in ONNX Runtime), or a statistic of the batch is part of the model: one caller's numbers would move another's
    answers."""
    largest = max(golden.cases, key=lambda case: sum(array[0].size for array in case.inputs.values()))
    random = np.random.default_rng(0)
    alone, among = {}, {}
    for name, array in largest.inputs.items():
        values = np.sort(np.concatenate([case.inputs[name].ravel() for case in golden.cases]))
        alone[name] = np.full((size, *array.shape[1:]), values[len(values) // 2])
        among[name] = np.concatenate([alone[name][:1], _drawn(values, alone[name][1:].shape, random)])
    try:
        one, other = run(alone), run(among)
    except EngineError:
        # A row that an engine cannot take fails all that share its batch.
        return False
    return all(one[name][:1].tobytes() == other[name][:1].tobytes() for name in one)


def _drawn(values: Array, shape: tuple[int, ...], random: np.random.Generator) -> Array:
    """Values that the input has somewhere in the golden cases, in any order; floats are larger besides."""
    drawn: Array = random.choice(values, shape)
    if values.dtype.kind != "f":
        return drawn
    with np.errstate(over="ignore"):
        larger: Array = drawn * values.dtype.type(FACTOR)
    return larger
