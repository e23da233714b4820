"""What labels say of a mean loss in [0, 1], however often one looks.

A bet on "the mean is above m" multiplies at each loss x by 1 + g (x - m)/m, with g from a fixed grid in (0, 1): its
expectation is 1 where the mean is m, less where it is below, and it is 1 - g > 0 at worst. The mean K of the bets'
wealths is at least 1/a at any time with probability at most a (Ville). A confidence sequence holds all m that neither
this nor its mirror image, on 1 - x, has refuted with a/2 each. As g is fixed, wealth depends on nothing but how often
each loss came: counts of workers and nodes add. (Waudby-Smith and Ramdas, "Estimating means of bounded random variables
by betting", arXiv 2010.09686, section 4, with fixed bets.)

Losses are counted in 101 cells: 0 and 1 have one each, exact, and the 99 between hold ((k - 1)/99, k/99]. A lower bound
takes each loss as the lower end of its cell, an upper bound as the upper end."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from .order import Floats, Integers

ALARM = 0.01
"""Probability that the alarm "below the accepted level" ever is false."""
CONFIDENCE = 0.95
"""Of the interval that is shown."""
CELLS = 101
LOWER: Floats = np.concatenate([[0.0], np.arange(99) / 99, [1.0]])
UPPER: Floats = np.concatenate([[0.0], np.arange(1, 100) / 99, [1.0]])
GRID: Floats = np.geomspace(1e-4, 0.95, 19)
"""Small ones are for many labels: at n labels the best g is of the order of n^-1/2."""


def count(losses: npt.ArrayLike) -> Integers:
    """Losses in [0, 1], [n], as counts [101]. A loss that is NaN counts as 1."""
    return np.bincount(cells_of(losses).ravel(), minlength=CELLS).astype(np.int64)


def cells_of(losses: npt.ArrayLike) -> Integers:
    """The cell of each loss, [...] -> [...]."""
    values = np.nan_to_num(np.asarray(losses, np.float64), nan=1.0)
    assert ((values >= 0) & (values <= 1)).all(), "a loss is in [0, 1]"
    between = np.clip(np.ceil(values * 99), 1, 99)
    # Rounding must not take a loss over the edge of its cell.
    between = np.clip(np.where(between / 99 < values, between + 1, between), 1, 99)
    between = np.where((between - 1) / 99 > values, between - 1, between)
    return np.where(values == 0, 0, np.where(values == 1, CELLS - 1, between)).astype(np.int64)


def mean(counts: npt.ArrayLike) -> float | None:
    """Of the losses, to half a hundredth; exact where all are 0 or 1. None where there are none."""
    numbers = np.asarray(counts, np.float64)
    return float(numbers @ (LOWER + UPPER) / 2 / numbers.sum()) if numbers.sum() else None


def interval(counts: npt.ArrayLike, alpha: float = 1 - CONFIDENCE) -> tuple[float, float]:
    """Lower and upper bound of the mean loss: both hold at all times at once with probability at least 1 - alpha."""
    numbers = np.asarray(counts, np.float64)
    if not numbers.sum():
        return 0.0, 1.0
    bar, seen = float(np.log(2 / alpha)), numbers > 0  # of right and wrong there are two cells
    numbers = numbers[seen]
    return _refuted(numbers, LOWER[seen], bar), 1 - _refuted(numbers, 1 - UPPER[seen], bar)


def log_below(counts: npt.ArrayLike, level: float) -> float:
    """The log of the evidence for "the mean of 1 - loss is below `level`": proven at alpha where it is at least
    ln(1/alpha). 0 without labels."""
    return float(logs_below(counts, level))


def logs_below(counts: npt.ArrayLike, level: float) -> Floats:
    """The same of several counts at once: [..., 101] -> [...]."""
    return _log_wealth(np.asarray(counts, np.float64), LOWER, 1 - level)


def _log_wealth(counts: Floats, values: Floats, bound: float) -> Floats:
    """Log of the mean wealth of bets on "the mean of `values` is above `bound`": [..., 101] -> [...]."""
    if bound >= 1:
        return np.zeros(counts.shape[:-1])
    if bound <= 0:
        # Any loss at all refutes it, and nothing else does.
        return np.where((bound < 0) | counts[..., values > 0].any(-1), np.inf, 0.0)
    wealth = counts @ np.log1p(GRID * (values[:, None] - bound) / bound)
    mixed: Floats = np.logaddexp.reduce(wealth, axis=-1) - np.log(len(GRID))
    return mixed


def _refuted(counts: Floats, values: Floats, bar: float) -> float:
    """The largest mean that is refuted, and with it all below: each bet's wealth falls where the mean rises."""
    low, high = 0.0, 1.0
    for _ in range(50):
        middle = (low + high) / 2
        if _log_wealth(counts, values, middle) >= bar:
            low = middle
        else:
            high = middle
    return low
