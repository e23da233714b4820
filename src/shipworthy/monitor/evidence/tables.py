"""Tests of counts: whether a window has its classes, or its zeros and ones, in the shares of the reference.

Both are permutation tests. Under the null, given how many of each class reference and window have together, the
window's are a draw without replacement: multivariate hypergeometric, whatever the true shares are."""

from __future__ import annotations

import numpy as np

from .factorials import log_factorials
from .order import Floats, Integers

EXPECTED = 5.0
"""Fewest that a class should have in a window; rarer ones count together."""
_ENOUGH = 20
"""Exceedances after which resampling stops."""
_STEPS = (200, 2_000, 20_000, 200_000)
"""Resamples at which it looks."""
_MOST = 2_000_000
"""Resamples: some seconds. No p-value between what they can tell and what a bound shows is then the smallest one."""
_PIECE = 1 << 18
"""Counts that are drawn at once, which bounds the memory."""


def grouped(reference: Integers, window: Integers) -> tuple[Integers, Integers]:
    """The counts of both, [classes] each, with rare classes counted together, [groups] each.

    What is rare is decided by the counts of both together: they are the same for all permutations, so the choice
    spoils nothing."""
    together = reference + window
    expected = together * (window.sum() / together.sum())
    order = np.argsort(-together, kind="stable")
    order = order[together[order] > 0]
    common = int((expected[order] >= EXPECTED).sum())
    rest = order[common:]
    if len(rest) and expected[rest].sum() < EXPECTED:
        common -= 1
    place = np.minimum(np.arange(len(order)), max(0, common))
    size = int(place[-1]) + 1
    return (
        np.bincount(place, reference[order], size).astype(np.int64),
        np.bincount(place, window[order], size).astype(np.int64),
    )


def chi_square(reference: Integers, window: Integers, random: np.random.Generator, smallest: float) -> float:
    """p of the chi-square distance of counts [classes] of a reference and of a window, by resampling; it can be as
    small as `smallest` / 2, or as half a millionth where that is more.

    Resamples are drawn until 20 of them are at least as far as the window, or as many as `smallest` needs are used:
    p is then 20/drawn, or (exceedances + 1)/(drawn + 1). (Besag and Clifford, "Sequential Monte Carlo p-values",
    Biometrika 78, 1991.) Where a bound shows that it is far smaller, nothing is drawn."""
    before, now = grouped(reference, window)
    if len(before) < 2:
        return 1.0
    together = before + now
    observed = float(_distance(now, together)) * (1 - 1e-12)
    bound = _bound(together, int(now.sum()), observed)
    if bound <= smallest / 100:
        return bound
    limit = min(int(np.ceil(2 / smallest)), _MOST)
    drawn = exceeded = 0
    for step in (*(step for step in _STEPS if step < limit), limit):
        further = _as_far(together, int(now.sum()), step - drawn, observed, random)
        if exceeded + len(further) >= _ENOUGH:
            return float(_ENOUGH / (drawn + further[_ENOUGH - exceeded - 1] + 1))
        drawn, exceeded = step, exceeded + len(further)
    return (exceeded + 1) / (drawn + 1)


def _as_far(together: Integers, draws: int, number: int, observed: float, random: np.random.Generator) -> Integers:
    """Which of so many resamples are at least as far as what was observed, rising."""
    found = []
    piece = max(1, _PIECE // len(together))
    for at in range(0, number, piece):
        counts = random.multivariate_hypergeometric(together, draws, min(piece, number - at), method="marginals")
        found.append(at + np.flatnonzero(_distance(counts, together) >= observed))
    return np.concatenate(found)


def _distance(counts: Integers, together: Integers) -> Floats:
    """The chi-square distance up to a factor that is the same for all resamples: [..., groups] -> [...]."""
    expected = together * (counts.sum(axis=-1, keepdims=True) / together.sum())
    distance: Floats = ((counts - expected) ** 2 / together).sum(axis=-1)
    return distance


def _bound(together: Integers, draws: int, observed: float) -> float:
    """At least the probability of this distance: one of k groups must have a k-th of it, and each of them has an exact
    probability of that."""
    total = 0.0
    for ones in together.tolist():
        count, probability = _hypergeometric(ones, int(together.sum()), draws)
        share = (count - ones * draws / together.sum()) ** 2 / ones
        total += float(probability[share >= observed / len(together)].sum())
    return total


def hypergeometric(reference: tuple[int, int], window: tuple[int, int]) -> float:
    """Two-sided p of (ones, all) of a reference and of a window: Fisher's exact test. The sum of the probabilities of
    all counts of ones that are no likelier than the window's."""
    count, probability = _hypergeometric(reference[0] + window[0], reference[1] + window[1], window[1])
    own = probability[window[0] - count[0]]
    return float(min(1.0, probability[probability <= own * (1 + 1e-7)].sum()))


def _hypergeometric(ones: int, every: int, draws: int) -> tuple[Integers, Floats]:
    """How many ones there may be among `draws` of `every`, and with what probability."""
    logs = log_factorials(every)
    count = np.arange(max(0, draws - (every - ones)), min(ones, draws) + 1)
    ways = -(logs[count] + logs[ones - count] + logs[draws - count] + logs[every - ones - draws + count])
    ways += logs[ones] + logs[every - ones] + logs[draws] + logs[every - draws] - logs[every]
    return count, np.exp(ways)
