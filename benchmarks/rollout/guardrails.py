"""How soon the guardrail of errors fires on a ramp."""

from __future__ import annotations

import numpy as np

from shipworthy.rollout.evidence import Ratio

from .results import Delay
from .streams import Array, Rate, first, fixed, ramp

ALPHA = 0.01
LIMIT = 100_000
CELLS = [(base, times) for base in (0.01, 0.001) for times in (2.0, 3.0, 5.0, 10.0)]
"""Error rate of the old version, and how many times that the new one has."""


def requests(rng: np.random.Generator, share: Rate, base: Rate, times: float, steps: int) -> tuple[Array, Array, Array]:
    """new, share, event: [steps] each; the new version's rate is `times` the old one's."""
    at = np.arange(steps)
    shares = share(at)
    new = rng.random(steps) < shares
    return new, shares, rng.random(steps) < base(at) * np.where(new, times, 1)


def passed_at(ratio: Ratio, new: Array, share: Array, event: Array, alpha: float) -> int | None:
    """The request, from 0, at which the process passes its bar; None where it does not."""
    at = np.flatnonzero(event)
    terms = np.where(new[at, None], ratio.terms(share[at], new=True), ratio.terms(share[at], new=False))
    place = int(first(np.cumsum(terms, axis=0)[None], alpha)[0])
    return int(at[place]) if place < len(at) else None


def measure(base: float, times: float, *, runs: int, seed: int) -> Delay:
    rng = np.random.default_rng(seed)
    found, errors = [], []
    for _ in range(runs):
        stream = requests(rng, ramp, fixed(base), times, LIMIT)
        at = passed_at(Ratio.guardrail(), *stream, ALPHA)
        found.append(LIMIT + 1 if at is None else at + 1)
        errors.append((stream[0] & stream[2])[: found[-1]].sum())
    middle = float(np.median(found))
    return Delay(
        base,
        times,
        runs,
        LIMIT,
        sum(one > LIMIT for one in found),
        middle if middle <= LIMIT else None,
        float(np.median(errors)),
    )
