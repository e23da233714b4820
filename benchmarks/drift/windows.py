"""What windows of a stream are compared with a reference by: the statistics of the peers, for many streams at once.

Each is exactly what the peer's library computes; `agreement` compares them with the libraries."""

from __future__ import annotations

from functools import lru_cache

import numpy as np
from scipy import stats  # type: ignore[import-untyped]

from .streams import CAP, REFERENCE, Scene
from .subjects import Array

LEAST = 1e-300
"""Of a p-value, before its logarithm is taken."""
_EMPTY = 1e-4
"""A share of nothing counts as so much in the population stability index, as is usual."""


def reference_shares(scene: Scene, values: Array) -> tuple[Array, Array]:
    """The reference's cumulative distribution at each value of the streams, up to it and below it: [streams, CAP] each,
    times REFERENCE. `values` is of the rows of the table."""
    levels, ranks = np.unique(values, return_inverse=True)
    upto, below = np.empty(scene.streams.shape, np.int32), np.empty(scene.streams.shape, np.int32)
    for stream, (reference, drawn) in enumerate(zip(scene.references, scene.streams, strict=True)):
        counts = np.bincount(ranks[reference], minlength=len(levels))
        sums, seen = np.cumsum(counts), ranks[drawn]
        upto[stream] = sums[seen]
        below[stream] = (sums - counts)[seen]
    return upto, below


def lattice_distances(upto: Array, below: Array) -> Array:
    """KS distances between windows [..., n] and the reference, times n and REFERENCE: [...]."""
    n = upto.shape[-1]
    # Both grow with the value, so each is sorted by itself.
    upto, below = np.sort(upto, axis=-1), np.sort(below, axis=-1)
    steps = REFERENCE * np.arange(n + 1, dtype=np.int32)
    above = (steps[1:] - n * upto).max(axis=-1)
    return np.asarray(np.maximum(above, (n * below - steps[:-1]).max(axis=-1)))


def ks_distances(scene: Scene, values: Array, window: int) -> Array:
    """[streams, windows], times `window` and REFERENCE."""
    shares = (each.reshape(len(scene), -1, window) for each in reference_shares(scene, values))
    return lattice_distances(*shares)


def ks_p(distances: Array, window: int, reference: int = REFERENCE) -> Array:
    """SciPy's p-values of distances times `window` and `reference`."""
    return np.asarray(_ks_table(window, reference)[distances // np.gcd(window, reference)])


@lru_cache(maxsize=16)
def _ks_table(window: int, reference: int) -> Array:
    """The p-value of every distance that there can be."""
    most = window * reference // int(np.gcd(window, reference))
    found = np.zeros(most + 1)
    for distance in range(most + 1):
        found[distance] = _ks_of(distance, window, reference)
        if found[distance] < 1e-30:
            break
    return found


def _ks_of(distance: int, window: int, reference: int) -> float:
    """As `ks_2samp` has it: exact, and asymptotic where the exact one fails."""
    from scipy.stats._stats_py import _attempt_exact_2kssamp  # type: ignore[import-untyped]

    common = int(np.gcd(window, reference))
    share = distance * common / (window * reference)
    # The larger sample comes first, as there.
    large, small = max(window, reference), min(window, reference)
    worked, share, p = _attempt_exact_2kssamp(large, small, common, share, "two-sided")
    if not worked:
        p = stats.kstwo.sf(share, np.round(large * small / (large + small)))
    return float(np.clip(p, 0, 1))


def class_p(scene: Scene, values: Array, window: int) -> Array:
    """Evidently's p-values of a column of classes: chi-squared, or for two classes a z-test. [streams, windows]"""
    expected, observed = _shares(scene, np.unique(values, return_inverse=True)[1], window)
    expected = expected[:, None]
    if observed.shape[-1] == 2:
        return _z_p(expected[..., 1], observed[..., 1], window)
    seen = (expected > 0) | (observed > 0)
    with np.errstate(divide="ignore", invalid="ignore"):
        terms = np.where(seen, (observed - expected) ** 2 / expected, 0)
    return np.asarray(stats.chi2.sf(window * terms.sum(axis=-1), seen.sum(axis=-1) - 1))


def _z_p(expected: Array, observed: Array, window: int) -> Array:
    pooled = (expected * REFERENCE + observed * window) / (REFERENCE + window)
    wide = np.sqrt(pooled * (1 - pooled) * (1 / REFERENCE + 1 / window))
    apart = np.divide(np.abs(expected - observed), wide, out=np.zeros_like(wide), where=wide > 0)
    return np.asarray(2 * (1 - stats.norm.cdf(apart)))


def wasserstein(scene: Scene, values: Array, window: int) -> Array:
    """Evidently's distance, in the reference's deviations: [streams, windows]. With the same number of quantiles of
    both it is the mean distance between them, so each value of both is repeated until there are as many."""
    n = int(np.lcm(window, REFERENCE))
    found = np.empty((len(scene), CAP // window))
    for stream, (reference, drawn) in enumerate(zip(scene.references, scene.streams, strict=True)):
        ordered = np.sort(values[reference])
        parts = np.sort(values[drawn].reshape(-1, window), axis=1)
        apart = np.abs(np.repeat(parts, n // window, axis=1) - np.repeat(ordered, n // REFERENCE)).mean(axis=1)
        found[stream] = apart / max(float(ordered.std()), 0.001)
    return found


def jensen_shannon(scene: Scene, values: Array, window: int) -> Array:
    """Evidently's distance of a column of classes: [streams, windows]."""
    from scipy.spatial.distance import jensenshannon  # type: ignore[import-untyped]

    expected, observed = _shares(scene, np.unique(values, return_inverse=True)[1], window)
    return np.asarray(jensenshannon(expected[:, None], observed, axis=-1))


def psi(scene: Scene, values: Array, window: int, *, classes: bool) -> Array:
    """The population stability index over the deciles of the reference, or over classes: [streams, windows]."""
    if classes:
        expected, observed = _shares(scene, np.unique(values, return_inverse=True)[1], window)
        expected = np.repeat(expected[:, None], observed.shape[1], axis=1)
    else:
        expected, observed = _decile_shares(scene, values, window)
    expected, observed = np.maximum(expected, _EMPTY), np.maximum(observed, _EMPTY)
    return np.asarray(((observed - expected) * np.log(observed / expected)).sum(axis=-1))


def _shares(scene: Scene, codes: Array, window: int) -> tuple[Array, Array]:
    """Of each code in the references [streams, codes] and in windows [streams, windows, codes]."""
    count = int(codes.max()) + 1
    return _counted(codes[scene.references], count), _counted(
        codes[scene.streams].reshape(len(scene), -1, window), count
    )


def _decile_shares(scene: Scene, values: Array, window: int) -> tuple[Array, Array]:
    codes = np.empty(scene.streams.shape, np.int64)
    own = np.empty(scene.references.shape, np.int64)
    for stream, (reference, drawn) in enumerate(zip(scene.references, scene.streams, strict=True)):
        edges = np.quantile(values[reference], np.arange(1, 10) / 10)
        places = np.searchsorted(edges, values, side="left")
        own[stream], codes[stream] = places[reference], places[drawn]
    observed = _counted(codes.reshape(len(scene), -1, window), 10)
    return np.broadcast_to(_counted(own, 10)[:, None], observed.shape), observed


def _counted(codes: Array, count: int) -> Array:
    """Shares of codes along the last axis: [..., n] -> [..., count]."""
    flat = codes.reshape(-1, codes.shape[-1])
    rows = np.arange(len(flat))[:, None]
    counts = np.bincount((rows * count + flat).ravel(), minlength=len(flat) * count)
    return np.asarray(counts.reshape(*codes.shape[:-1], count) / codes.shape[-1])


def means(scene: Scene, values: Array, window: int) -> Array:
    """How far the mean of each window is from the reference's: [streams, windows]."""
    usual = values[scene.references].mean(axis=1, keepdims=True)
    return np.abs(values[scene.streams].reshape(len(scene), -1, window).mean(axis=2) - usual)


class Kernel:
    """Squared maximum mean discrepancy with a Gaussian kernel, unbiased, as frouros computes it."""

    def __init__(self, inputs: Array, pool: int) -> None:
        """Its width is the median distance between rows of the pool."""
        sample = inputs[:pool][:500].astype(np.float64)
        apart = _squared(sample, sample)[np.triu_indices(len(sample), 1)]
        self.sigma = float(np.sqrt(np.median(apart)))
        self._inputs = inputs
        self._to_pool = self._of(inputs[:pool], inputs)

    def _of(self, left: Array, right: Array) -> Array:
        found = _squared(left, right)
        found /= np.float32(-2 * self.sigma**2)
        return np.asarray(np.exp(found, out=found))

    def distances(self, scene: Scene, window: int) -> Array:
        """[streams, windows]"""
        found = np.empty((len(scene), CAP // window))
        pool = len(self._to_pool)
        for stream, (reference, drawn) in enumerate(zip(scene.references, scene.streams, strict=True)):
            weights = np.bincount(reference, minlength=pool).astype(np.float32)
            near = weights @ self._to_pool
            own = (float(weights @ near[:pool]) - REFERENCE) / (REFERENCE * (REFERENCE - 1))
            for place, part in enumerate(drawn.reshape(-1, window)):
                rows = self._inputs[part]
                inside = (float(self._of(rows, rows).sum(dtype=np.float64)) - window) / (window * (window - 1))
                across = float(near[part].mean(dtype=np.float64)) / REFERENCE
                found[stream, place] = own + inside - 2 * across
        return found


def _squared(left: Array, right: Array) -> Array:
    found: Array = left @ right.T
    found *= -2
    found += (left**2).sum(axis=1)[:, None]
    found += (right**2).sum(axis=1)
    return np.maximum(found, 0, out=found)
