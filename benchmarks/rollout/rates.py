"""How often verdicts are wrong at the boundary, beside a z-test on the same streams."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy.stats import binomtest  # type: ignore[import-untyped]

from . import naive
from .results import Rate, Verdict
from .streams import Pairs, Process, Requests, Stream, canary, diurnal, first, fixed, losses_differ, ramp, sticky

ALPHA = 0.05
SIDES: tuple[Verdict, Verdict] = ("promote", "rollback")
_BLOCK = 50


@dataclass(frozen=True)
class Boundary:
    """A stream whose true difference is the delta of the process."""

    setting: str
    stream: Stream
    process: Process
    samples: int


BOUNDARIES = (
    Boundary("shadow, 1 % disagree", losses_differ(0.01, 0.01), Pairs(0.01), 20_000),
    Boundary("shadow, 5 % disagree", losses_differ(0.05, 0.01), Pairs(0.01), 20_000),
    Boundary("shadow, 20 % disagree", losses_differ(0.2, 0.01), Pairs(0.01), 20_000),
    Boundary("canary, share .5", canary(fixed(0.5), fixed(0.1), 0.02), Requests(0.02), 20_000),
    Boundary("canary, share .05", canary(fixed(0.05), fixed(0.1), 0.02), Requests(0.02), 20_000),
    Boundary("canary, ramp, loss rises by day", canary(ramp, diurnal(0.02, 0.3, 60_000), 0.02), Requests(0.02), 30_000),
    Boundary("canary, ramp, loss falls by day", canary(ramp, diurnal(0.3, 0.02, 60_000), 0.02), Requests(0.02), 30_000),
    Boundary("100 sticky callers, every request", sticky(100, 0.02, once=False), Requests(0.02), 20_000),
    Boundary("10,000 sticky callers, first of each", sticky(10_000, 0.02, once=True), Requests(0.02), 20_000),
)


def measure(boundary: Boundary, *, experiments: int, seed: int) -> list[Rate]:
    """Of promotion and of rollback. `experiments` is rounded up to whole blocks of 50."""
    rng = np.random.default_rng(seed)
    wrong, fooled, done = np.zeros(2, int), np.zeros(2, int), 0
    for _ in range(0, experiments, _BLOCK):
        boundary.process.begin(_BLOCK)
        seen = boundary.stream(rng, _BLOCK, np.arange(boundary.samples))
        for side, terms in enumerate(boundary.process.terms(seen)):
            wrong[side] += (first(np.cumsum(terms, axis=1), ALPHA) < boundary.samples).sum()
        fooled += [passed.sum() for passed in _naive(boundary.process)(seen)]
        done += _BLOCK
    found = []
    for side, verdict in enumerate(SIDES):
        interval = binomtest(int(wrong[side]), done).proportion_ci(0.95, "exact")
        rate = int(wrong[side]), float(interval.low), float(interval.high), float(fooled[side] / done)
        found.append(Rate(boundary.setting, verdict, done, boundary.samples, *rate))
    return found


def _naive(process: Process) -> Callable[[Any], tuple[Any, Any]]:
    if isinstance(process, Pairs):
        return lambda z: naive.pairs_pass(z, process.delta)
    assert isinstance(process, Requests)

    def pooled(seen: Any) -> tuple[Any, Any]:
        new, share, y = seen
        drawn = np.broadcast_to(share, y.shape) > 0
        return naive.requests_pass(new, y, process.delta, drawn)

    return pooled
