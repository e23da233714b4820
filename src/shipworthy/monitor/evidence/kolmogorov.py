"""The distribution of the two-sample Kolmogorov-Smirnov distance, for values that do not tie.

Both samples in one order are a path on a lattice from (0, 0) to (m, n), a step right for each of the first and a step
up for each of the second; under the null all paths are equally likely. The distance is at least d where the path meets
a point with |i/m - j/n| >= d. Paths are counted by where they first meet one: the ways to get there from the inside,
times the ways on from there. All terms are positive, so small probabilities are exact too. (Hodges, "The significance
probability of the Smirnov two-sample test", Arkiv för Matematik 3, 1958.)"""

from __future__ import annotations

import math
from functools import lru_cache

import numpy as np

from .factorials import log_factorials
from .order import Floats, Integers

_FAR = 1e-20
"""Below this, an exact count would decide nothing."""
_SIGNS: Floats = np.where(np.arange(1, 40) % 2, 1.0, -1.0)
_POWERS: Floats = np.array([-2.0 * k * k for k in range(1, 40)])


def lattice_distance(ranks: Integers, m: int) -> int:
    """The distance of a sample from a reference of m, as a whole number: times the least common multiple of m and n.

    `ranks` [n] says how many of the reference are below each value."""
    n = len(ranks)
    common = int(np.gcd(m, n))
    reference, own = np.sort(ranks) * (n // common), np.arange(n + 1) * (m // common)
    return int(max((own[1:] - reference).max(), (reference - own[:-1]).max()))


def p_value(m: int, n: int, distance: int, below: float = 1.0) -> float:
    """P(D >= distance / lcm(m, n)): exact where it is near `below` or less, and else the limit for large samples, which
    is larger than the exact one and takes no time."""
    limit = asymptotic(distance / np.lcm(m, n) * np.sqrt(m * n / (m + n)))
    return limit if limit > 3 * below or limit < _FAR else exact(m, n, distance)


def asymptotic(scaled: float) -> float:
    """The limit of P(D >= d) for scaled = d sqrt(m n/(m + n)) (Kolmogorov 1933)."""
    if scaled < 0.2:
        return 1.0
    return float(min(1.0, 2 * (_SIGNS * np.exp(_POWERS * scaled**2)).sum()))


@lru_cache(maxsize=4096)
def exact(m: int, n: int, distance: int) -> float:
    """P(D >= distance / lcm(m, n)) for samples of m and n; some milliseconds for 1000 and 500."""
    m, n = min(m, n), max(m, n)
    common = int(np.gcd(m, n))
    step, rise = n // common, m // common
    if distance <= 0:
        return 1.0
    # Inside are the points (i, j) with |i step - j rise| < distance: of row i those with low <= j <= high.
    row = np.arange(m + 1) * step
    low = np.maximum(0, (row - distance) // rise + 1)
    high = np.minimum(n, (row + distance - 1) // rise)
    paths, scale = np.ones(high[0] + 1), 0.0
    # Of each row: the paths at its last point inside, from where one more step up is outside; the paths at the points
    # of the row before from where a step right is outside; and the scale of both.
    ends, lost, scales = np.zeros(m + 1), [np.ones(0)] * (m + 1), np.zeros(m + 1)
    ends[0] = 1.0
    for i in range(1, m + 1):
        dropped = low[i] - low[i - 1]
        lost[i], scales[i] = paths[:dropped], scale
        if low[i] > high[i - 1]:
            # The band is too narrow to go on: all paths leave it here.
            break
        entering = np.zeros(high[i] - low[i] + 1)
        entering[: len(paths) - dropped] = paths[dropped:]
        paths = entering.cumsum()
        ends[i] = paths[-1]
        if ends[i] > 1e200:
            scale += math.log(ends[i])
            paths /= ends[i]
    rows = np.arange(m + 1)
    sizes = [len(part) for part in lost]
    right = np.repeat(rows, sizes)
    inside = np.arange(sum(sizes)) - np.repeat(np.cumsum(sizes) - sizes, sizes) + np.repeat(low[rows - 1], sizes)
    at = np.concatenate([rows, right]), np.concatenate([high + 1, inside])
    return _share(m, n, *at, np.concatenate([ends, *lost]), np.concatenate([scales, scales[right]]))


def _share(m: int, n: int, i: Integers, j: Integers, paths: Floats, scales: Floats) -> float:
    """The share of all paths that first leave the band at (i, j), where `paths` exp(`scales`) come to them; all [k]."""
    kept = (paths > 0) & (j <= n)
    i, j = i[kept], j[kept]
    logs = log_factorials(m + n)
    onwards = logs[m + n - i - j] - logs[m - i] - logs[n - j]
    every = logs[m + n] - logs[m] - logs[n]
    return min(1.0, float(np.exp(np.log(paths[kept]) + scales[kept] + onwards - every).sum()))
