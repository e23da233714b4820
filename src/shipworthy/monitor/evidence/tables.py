"""Tests of counts: whether a window has its classes, or its zeros and ones, in the shares of the reference.

Both are permutation tests. Under the null, given how many of each class reference and window have together, the
window's are a draw without replacement: multivariate hypergeometric, whatever the true shares are."""

from __future__ import annotations

import numpy as np

from .order import Floats, Integers

EXPECTED = 5.0
"""Fewest that a class should have in a window; rarer ones count together."""
_ENOUGH = 20
"""Exceedances after which resampling stops."""
_STEPS = (200, 2_000, 20_000)
"""Resamples at which it looks; a p-value below 1/20000 of each is not told apart from it."""


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
    small as `smallest` / 4.

    Resamples are drawn until 20 of them are at least as far as the window, or as many as `smallest` needs are used:
    p is then 20/drawn, or (exceedances + 1)/(drawn + 1). (Besag and Clifford, "Sequential Monte Carlo p-values",
    Biometrika 78, 1991.)"""
    before, now = grouped(reference, window)
    if len(before) < 2:
        return 1.0
    together = before + now
    observed = _distance(now, together)
    limit = int(np.ceil(4 / smallest))
    drawn = exceeded = 0
    for step in (*(step for step in _STEPS if step < limit), limit):
        draws = random.multivariate_hypergeometric(together, int(now.sum()), step - drawn)
        further = np.flatnonzero(_distance(draws, together) >= observed * (1 - 1e-12))
        if exceeded + len(further) >= _ENOUGH:
            return float(_ENOUGH / (drawn + further[_ENOUGH - exceeded - 1] + 1))
        drawn, exceeded = step, exceeded + len(further)
    return (exceeded + 1) / (drawn + 1)


def _distance(counts: Integers, together: Integers) -> Floats:
    """The chi-square distance up to a factor that is the same for all resamples: [..., groups] -> [...]."""
    expected = together * (counts.sum(axis=-1, keepdims=True) / together.sum())
    distance: Floats = ((counts - expected) ** 2 / together).sum(axis=-1)
    return distance


def hypergeometric(reference: tuple[int, int], window: tuple[int, int]) -> float:
    """Two-sided p of (ones, all) of a reference and of a window: Fisher's exact test. The sum of the probabilities of
    all counts of ones that are no likelier than the window's."""
    ones, every = reference[0] + window[0], reference[1] + window[1]
    draws = window[1]
    logs = np.concatenate([[0.0], np.cumsum(np.log(np.arange(1, every + 1)))])
    count = np.arange(max(0, draws - (every - ones)), min(ones, draws) + 1)
    terms = -(logs[count] + logs[ones - count] + logs[draws - count] + logs[every - ones - draws + count])
    terms -= terms.max()
    own = terms[window[0] - count[0]]
    likely = np.exp(terms)
    return float(min(1.0, likely[terms <= own + 1e-7].sum() / likely.sum()))
