"""What is fitted on calibration data, in one pass over it."""

from __future__ import annotations

import numpy as np

from ..contract import Array

FLOOR = 0.05
"""Of the overall deviation: an element that hardly varies (the margin of an image) must not rule the distance."""
SLACK = 0.25
"""Of the range of the calibration data: so far beyond either end a value still counts as within."""
DIRECTIONS = 4
"""Principal directions that are watched of an embedding."""
_SKETCH = 32
_SEED = 0x51


class Moments:
    """Mean and variance of each column, by the pairwise update of Chan, Golub and LeVeque (1983). What is not finite is
    left out."""

    def __init__(self) -> None:
        self._count: Array = np.zeros(0)
        self._mean: Array = np.zeros(0)
        self._square: Array = np.zeros(0)

    def see(self, table: Array) -> None:
        """float64 [n, k]; k is the same at every call."""
        if not len(self._count):
            self._count, self._mean, self._square = (np.zeros(table.shape[1]) for _ in range(3))
        valid = np.isfinite(table)
        count = valid.sum(0).astype(np.float64)
        mean = np.where(valid, table, 0.0).sum(0) / np.maximum(count, 1)
        square = np.square(np.where(valid, table - mean, 0.0)).sum(0)
        total = np.maximum(self._count + count, 1)
        apart = mean - self._mean
        self._square += square + np.square(apart) * self._count * count / total
        self._mean += apart * count / total
        self._count += count

    @property
    def mean(self) -> Array:
        """0 where it is too large to be told."""
        return np.where(np.isfinite(self._mean), self._mean, 0.0)

    def deviation(self, *, alike: bool) -> Array:
        """Of each column, never 0: infinite where nothing varies, or too much to be told, so that such a column adds
        nothing to a distance.

        Columns that are `alike` (pixels) have one unit, and a floor: sqrt(σ² + ε²) with ε = 0.05 of the deviation of
        all of them together."""
        variance = self._square / np.maximum(self._count, 1)
        if alike and (total := self._count.sum()):
            middle = (self._count * self._mean).sum() / total
            overall = (self._square + self._count * np.square(self._mean - middle)).sum() / total
            variance = variance + FLOOR**2 * overall
        deviation: Array = np.sqrt(variance)
        # Rounding of the mean is no deviation.
        nothing = deviation <= 1e-12 * np.abs(self._mean)
        return np.where(nothing | ~np.isfinite(self._mean) | np.isnan(deviation), np.inf, deviation)


class Range:
    """The least and the greatest finite value of each column."""

    def __init__(self) -> None:
        self._low: Array = np.zeros(0)
        self._high: Array = np.zeros(0)

    def see(self, table: Array) -> None:
        """float64 [n, k]; k is the same at every call."""
        valid = np.isfinite(table)
        low = np.where(valid, table, np.inf).min(0, initial=np.inf)
        high = np.where(valid, table, -np.inf).max(0, initial=-np.inf)
        if len(self._low):
            low, high = np.minimum(low, self._low), np.maximum(high, self._high)
        self._low, self._high = low, high

    def bounds(self) -> Array:
        """[2, k]: a quarter of the range is added at both ends, since the data is only a sample. Infinite where no
        value was seen."""
        seen = self._low <= self._high
        low, high = np.where(seen, self._low, 0.0), np.where(seen, self._high, 0.0)
        slack = SLACK * (high - low) + 1e-6 * np.maximum(np.abs(low), np.abs(high))
        return np.stack([np.where(seen, low - slack, -np.inf), np.where(seen, high + slack, np.inf)])


class Directions:
    """Principal directions by a sketch of the covariance (Tropp, Yurtsever, Udell and Cevher 2017: Nyström), which
    takes one pass, and 32 numbers for each column however many there are."""

    def __init__(self) -> None:
        self._probe: Array = np.zeros((0, 0))
        self._sketch: Array = np.zeros((0, 0))
        self._sum: Array = np.zeros(0)
        self._count = 0

    def see(self, table: Array) -> None:
        """float64 [n, k]; k is the same at every call. Rows that are not finite are left out."""
        table = table[np.isfinite(table).all(axis=1)]
        if not self._count:
            columns = table.shape[1]
            probe = np.random.default_rng([_SEED, columns]).standard_normal((columns, min(_SKETCH, columns)))
            self._probe = np.linalg.qr(probe)[0]
            self._sketch, self._sum = np.zeros_like(self._probe), np.zeros(columns)
        self._sketch += table.T @ (table @ self._probe)
        self._sum += table.sum(0)
        self._count += len(table)

    def found(self) -> Array:
        """[k, 4], or fewer columns where fewer directions vary."""
        if self._count < 2 or not (np.isfinite(self._sketch).all() and np.isfinite(self._sum).all()):
            return np.zeros((len(self._sum), 0))
        mean = self._sum / self._count
        sketch = self._sketch / self._count - np.outer(mean, mean @ self._probe)
        inner = self._probe.T @ sketch
        values, vectors = np.linalg.eigh((inner + inner.T) / 2)
        kept = values > 1e-9 * max(values.max(initial=0.0), 1e-300)
        root = sketch @ (vectors[:, kept] / np.sqrt(values[kept]))
        found, strength, _ = np.linalg.svd(root, full_matrices=False)
        directions: Array = found[:, :DIRECTIONS][:, strength[:DIRECTIONS] > 0]
        # The sign of an eigenvector is an accident of the library: the largest element is made positive.
        signs = np.sign(directions[np.abs(directions).argmax(0), np.arange(directions.shape[1])])
        directions *= signs
        return directions
