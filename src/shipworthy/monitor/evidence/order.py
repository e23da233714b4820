"""A total order of values that may tie: pairs (value, u) with u drawn uniformly from [0, 1).

Statistics of ranks are exact for continuous values only. Pairs (value, u) have a continuous distribution in the order
"first by value, then by u", whatever the values are: a class, a column of zeros and ones, a sensor that is stuck. Where
values do not tie, u decides nothing, so nothing is ever added to a value. NaN, a missing value, is larger than all
others.

As a number, a pair is the rank of its value among the distinct values of the reference, plus u."""

from __future__ import annotations

from typing import TypeAlias

import numpy as np
import numpy.typing as npt

Floats: TypeAlias = npt.NDArray[np.float64]
Integers: TypeAlias = npt.NDArray[np.int64]


class Order:
    """One signal's reference, sorted as pairs."""

    def __init__(self, reference: Floats, random: np.random.Generator) -> None:
        """`reference` is [m], in any order; NaN is missing."""
        missing = np.isnan(reference)
        self._levels, level = np.unique(reference[~missing], return_inverse=True)
        pairs = np.full(len(reference), float(len(self._levels)))
        pairs[~missing] = level
        self._pairs: Floats = np.sort(pairs + random.random(len(reference)))

    def rank(self, values: Floats, random: np.random.Generator) -> Integers:
        """How many pairs of the reference are below each value: [n] -> [n], each in 0 to m. A value that ties with the
        reference draws its u from `random`."""
        level = np.searchsorted(self._levels, values)
        known = level < len(self._levels)
        tied = np.isnan(values)
        tied[known] = self._levels[level[known]] == values[known]
        pairs = level.astype(np.float64)
        # NaN sorts behind the last level, which is where missing values of the reference are.
        pairs[tied] += random.random(int(tied.sum()))
        return np.searchsorted(self._pairs, pairs).astype(np.int64)
