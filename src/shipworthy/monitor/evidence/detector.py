"""The sequential detector: bets on each scored request, and an alarm when their wealth could hardly be luck.

For each signal, from the counts N_b of its bins before the request (`bins`), q = N_b/N is the probability of the bin
that it came into, if it is exchangeable with all before it. A bet is a factor e_b with sum of q_b e_b = 1: fair.

- six tilts: e = 1 + t (mid - 1/2), with mid = (N below + N_b/2)/N and t of ±.3, ±.9, ±1.8. Since the mean of mid is
  1/2, they are fair; they win where values grow or shrink.
- three histograms: e = (p q + r_b)/(p + sum of r)/q, with r the recent counts, which fade with half-lives of 100, 400
  and 2,000; p is 50, 50 and 200, and the slowest one looks at pairs of bins. Both parts are shares that add to 1; they
  win where values gather anywhere.
- twelve tails: e = (1 - s) + s [b among the outermost n]/(share of those), at either side, with n of 1, 3 and 5 and s
  of .03 and .1. They win where a share s of the requests comes from outside of what is usual.

After each request, M = (M + 1) e for each bet, as if a new bet of 1 began with every request (Shiryaev and Roberts).
R, the statistic of a signal, is .2 of the mean M of the tilts, .3 of that of the histograms and .5 of that of the
tails. R_t - t is a martingale,
so P(R >= S c at any time up to N) <= N/(S c) by Doob's inequality, and over S signals at most N/c: the bound of each
adds to those of the others, however they depend. Stopping at the alarm gives a mean time of at least c. (Shin, Ramdas
and Rinaldo, "E-detectors", arXiv 2203.03532; Vovk, Nouretdinov and Gammerman on conformal test martingales.)

The counts go on with each request. Ranks against a reference that stays as it was are not exchangeable: what is common
to all of them is the luck of the reference, and a bet finds it."""

from __future__ import annotations

import itertools

import numpy as np
import numpy.typing as npt

from .bins import BINS
from .order import Floats, Integers

TILTS: Floats = np.array([-1.8, -0.9, -0.3, 0.3, 0.9, 1.8])
HISTOGRAMS = ((100.0, 50.0, 1), (400.0, 50.0, 1), (2000.0, 200.0, 2))
"""Half-life, samples that the reference counts for beside the recent ones, and bins that are counted together."""
TAILS = (1, 3, 5)
"""Outermost bins, of either side."""
SHARES = (0.03, 0.1)
MOST = 1e200
"""Of a bet's M; far above any threshold, far below the largest float."""
_KINDS = (len(TILTS), len(HISTOGRAMS), 2 * len(TAILS) * len(SHARES))
BETS = sum(_KINDS)
WEIGHTS: Floats = np.repeat(np.array([0.2, 0.3, 0.5]) / _KINDS, _KINDS)
_BLOCK = 1 << 14
"""Bins of a block, which is worked out at once: what it needs fits into a cache."""


class Detector:
    """Fed in the order of arrival. Leading axes are independent streams, which proceed together."""

    def __init__(self, counts: npt.ArrayLike, run_length: float, nodes: int = 1) -> None:
        """`counts` is [..., S, 32], from `Bins.counts`; an alarm is false after `run_length` samples on average, or
        more. Where each of `nodes` nodes has a detector of its own, that is for all of them together, with the samples
        of one of them counted."""
        self._first = np.array(counts, np.int64)
        assert self._first.shape[-1] == BINS
        self._shape = self._first.shape[:-1]
        self._threshold = max(1, self._shape[-1]) * run_length * nodes
        self.reset()

    def reset(self) -> None:
        """Begin anew, as after an alarm that somebody has seen to."""
        counts = self._first.reshape(-1, BINS)
        self._counts = counts.copy()
        self._recent = np.zeros((len(counts), len(HISTOGRAMS), BINS))
        self._wealth = np.zeros((len(counts), BETS))
        self._cusum = np.zeros((len(counts), BETS))
        self._age = np.zeros((len(counts), BETS), np.int64)
        self.samples = 0
        """Since the beginning."""

    def update(self, bins: npt.ArrayLike) -> Floats:
        """The evidence after each sample, [..., n], of bins [..., n, S] in 0 to 31: 1 or more raises the alarm."""
        placed = np.asarray(bins)
        flat = np.moveaxis(placed, -2, -1).reshape(len(self._counts), placed.shape[-2])
        length = min(512, max(16, _BLOCK // max(1, len(flat))))
        parts = [self._block(flat[:, at : at + length]) for at in range(0, flat.shape[1], length)]
        statistic = np.concatenate([np.zeros((0, len(flat))), *parts]).reshape(flat.shape[1], *self._shape)
        evidence: Floats = np.moveaxis(statistic.max(axis=-1, initial=0.0), 0, -1) / self._threshold
        return evidence

    @property
    def by_signal(self) -> Floats:
        """The evidence of each signal as it is now, [..., S]: the alarm is raised by the largest."""
        evidence: Floats = (self._wealth @ WEIGHTS).reshape(self._shape) / self._threshold
        return evidence

    @property
    def began(self) -> Integers:
        """How many samples ago the change is estimated to have begun, [...]: where the CUSUM of the bet that has won
        most was last at its beginning (the likeliest point, Page 1954). There must be a signal."""
        bets = (*self._shape[:-1], self._shape[-1] * BETS)
        leading = (self._wealth * WEIGHTS).reshape(bets).argmax(axis=-1)[..., None]
        ages = self._age.reshape(bets)
        return np.take_along_axis(ages, leading, axis=-1)[..., 0]

    def _block(self, bins: npt.NDArray[np.integer]) -> Floats:
        """The statistic after each sample, [n, streams x S], of bins [streams x S, n]."""
        length = bins.shape[1]
        place = bins.astype(np.intp)
        total = self._counts.sum(axis=1)[:, None] + np.arange(length)
        below, inside, paired = self._before(bins, place)
        factors = np.empty((length, len(bins), BETS))
        factors[..., : len(TILTS)] = 1 + TILTS * ((below + inside / 2) / total - 0.5).T[..., None]
        for number, (_, _, width) in enumerate(HISTOGRAMS):
            q = (inside if width == 1 else paired) / total
            factors[..., len(TILTS) + number] = self._histogram(place // width, number, q).T
        self._tails(place, total, factors[..., -_KINDS[2] :])
        self._follow(factors)
        wealth, begun = self._wealth, np.empty_like(self._wealth)
        for row in factors:
            np.add(wealth, 1.0, out=begun)
            np.multiply(begun, row, out=row)
            wealth = np.minimum(row, MOST, out=row)
        self._wealth = wealth.copy()
        self._counts += _occurrences(place)
        self.samples += length
        statistic: Floats = factors @ WEIGHTS
        return statistic

    def _before(self, bins: npt.NDArray[np.integer], place: Integers) -> tuple[Floats, Floats, Floats]:
        """Counts below the bin of each sample, in it, and in its pair, before the sample: [streams x S, n] each."""
        levels = np.arange(BINS + 1, dtype=np.int8)
        lower = (bins.T.astype(np.int8)[..., None] < levels).astype(np.int16)
        for earlier, own in itertools.pairwise(lower):
            np.add(earlier, own, out=own)
        first = np.concatenate([np.zeros((len(bins), 1), np.int64), np.cumsum(self._counts, axis=1)], axis=1)
        rows = np.arange(place.size).reshape(place.T.shape).T * (BINS + 1)

        def under(level: Integers) -> Floats:
            """In bins below this one; the sample itself is among them where its bin is."""
            found: Floats = np.take_along_axis(first, level, axis=1) + lower.ravel().take(rows + level).astype(
                np.float64
            )
            return found

        below: Floats = under(place)
        pair: Integers = place // 2 * 2
        return below, under(place + 1) - 1 - below, under(pair + 2) - 1 - under(pair)

    def _histogram(self, cell: Integers, number: int, q: Floats) -> Floats:
        """The factor of a histogram at each sample, of the cells that they came into: [streams x S, n]. A count at step
        s of the block has faded to fade^(t - 1 - s) before step t, so with weights fade^-(s + 1) all of them are sums,
        scaled by fade^t."""
        half_life, prior, _ = HISTOGRAMS[number]
        fade, length = 0.5 ** (1 / half_life), cell.shape[1]
        scale: Floats = fade ** np.arange(length, dtype=np.float64)
        weight: Floats = 1 / (fade * scale)
        recent = self._recent[:, number]
        came = _sums_before(cell, weight)
        here = scale * (np.take_along_axis(recent, cell, axis=1) + came)
        everywhere = scale * (recent.sum(axis=1)[:, None] + np.cumsum(weight) - weight)
        rows = np.arange(len(cell))[:, None]
        added = np.bincount((rows * BINS + cell).ravel(), np.tile(weight, len(cell)), len(cell) * BINS)
        self._recent[:, number] = fade**length * (recent + added.reshape(-1, BINS))
        factor: Floats = (prior * q + here) / ((prior + everywhere) * q)
        return factor

    def _tails(self, place: Integers, total: Integers, factors: Floats) -> None:
        """Their factors at each sample, into [n, streams x S, tails]."""
        number = 0
        for outermost in TAILS:
            sides = place < outermost, place >= BINS - outermost
            counts = self._counts[:, :outermost], self._counts[:, BINS - outermost :]
            for inside, first in zip(sides, counts, strict=True):
                came: Integers = np.cumsum(inside, axis=1) - inside
                gain = inside * total / (first.sum(axis=1)[:, None] + came)
                for share in SHARES:
                    factors[..., number] = (1 - share + share * gain).T
                    number += 1

    def _follow(self, factors: Floats) -> None:
        """The CUSUM C = max(C, 1) e of each bet, in logarithms, and how long ago it began."""
        length = len(factors)
        walk = np.cumsum(np.log(factors), axis=0)
        low = walk[:-1].min(axis=0, initial=np.inf)
        since = np.minimum(-self._cusum, 0.0)
        held = since <= low
        restarted = length - 1 - walk[:-1].argmin(axis=0) if length > 1 else np.zeros_like(self._age)
        self._age = np.where(held, np.where(self._cusum > 0, self._age, 0) + length, restarted)
        self._cusum = walk[-1] - np.minimum(since, low)

    def state(self) -> dict[str, npt.NDArray[np.generic]]:
        """All that `restore` needs, some 10 kB for six signals."""
        return {
            "counts": self._counts.copy(),
            "recent": self._recent.copy(),
            "wealth": self._wealth.copy(),
            "cusum": self._cusum.copy(),
            "age": self._age.copy(),
            "samples": np.array(self.samples),
        }

    def restore(self, state: dict[str, npt.NDArray[np.generic]]) -> None:
        """Go on where `state` was taken, of a detector with the same shape."""
        for name in ("counts", "recent", "wealth", "cusum", "age"):
            kept = getattr(self, f"_{name}")
            given = np.asarray(state[name], kept.dtype)
            assert given.shape == kept.shape, f"{name}: {given.shape} in the state, {kept.shape} here"
            setattr(self, f"_{name}", given.copy())
        self.samples = int(np.asarray(state["samples"]))


def _occurrences(place: Integers) -> Integers:
    """How often each bin occurs: [rows, n] -> [rows, 32]."""
    rows = np.arange(len(place))[:, None]
    return np.bincount((rows * BINS + place).ravel(), minlength=len(place) * BINS).reshape(-1, BINS)


def _sums_before(place: Integers, weight: Floats) -> Floats:
    """For each step the weights of earlier steps with the same bin, added: [rows, n] -> [rows, n]."""
    order = np.argsort(place.astype(np.int8), axis=1, kind="stable")
    sorted_bins = np.take_along_axis(place, order, axis=1)
    sorted_weights = weight[order]
    before = np.cumsum(sorted_weights, axis=1) - sorted_weights
    first = np.ones(place.shape, bool)
    first[:, 1:] = sorted_bins[:, 1:] != sorted_bins[:, :-1]
    others = np.maximum.accumulate(np.where(first, before, 0.0), axis=1)
    sums = np.empty(place.shape)
    np.put_along_axis(sums, order, before - others, axis=1)
    return sums
