"""Rollouts simulated many at once: what comes in, and when evidence of it first passes its bar.

A stream is asked for its next steps, of all experiments at once, and gives arrays [experiments, steps]. Experiments
that have ended are left out of what follows."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol, TypeAlias

import numpy as np
import numpy.typing as npt

from shipworthy.rollout.evidence import paired, unpaired
from shipworthy.rollout.evidence.bets import bar, mix

Array: TypeAlias = npt.NDArray[Any]
Rate: TypeAlias = Callable[[Array], Array]
"""A share or a loss by the number of the step: [steps] -> [steps]."""
_CELLS = 1 << 21
"""Factors held at a time, for the caches' sake."""


class Stream(Protocol):
    """`at` is the number of each step, [steps], from 0."""

    def __call__(self, rng: np.random.Generator, experiments: int, at: Array) -> Any: ...


class Process(Protocol):
    """Log factors of what a stream gave: [experiments, steps, K], for promotion and for rollback."""

    bets: int

    def begin(self, experiments: int) -> None: ...

    def terms(self, seen: Any) -> tuple[Array, Array]: ...

    def keep(self, going: Array) -> None: ...


@dataclass
class Pairs:
    """Shadow. The stream gives z in {-1, 0, 1}."""

    delta: float
    bets = len(paired.GRID)

    def begin(self, experiments: int) -> None:
        z = np.array([-1.0, 0.0, 1.0])
        self._promote, self._rollback = paired.promote_terms(z, self.delta), paired.rollback_terms(z, self.delta)

    def terms(self, seen: Array) -> tuple[Array, Array]:
        place = seen.astype(np.int8) + 1
        return self._promote[place], self._rollback[place]

    def keep(self, going: Array) -> None:
        """Nothing is remembered."""


@dataclass
class Requests:
    """Canary. The stream gives (new, share, y)."""

    delta: float
    bets = len(unpaired.GRID)

    def begin(self, experiments: int) -> None:
        self._loss = np.zeros((experiments, 1))
        self._count = 0

    def terms(self, seen: tuple[Array, Array, Array]) -> tuple[Array, Array]:
        new, share, y = seen
        b = unpaired.guesses(y, self._loss, self._count)  # type: ignore[arg-type]  # one sum for each experiment
        bets = unpaired.scores(new, share, y, b, self.delta)[..., None] * unpaired.GRID
        self._loss = self._loss + y.sum(axis=1, keepdims=True)
        self._count += y.shape[1]
        return np.log1p(-bets), np.log1p(bets)

    def keep(self, going: Array) -> None:
        self._loss = self._loss[going]


def first(paths: Array, alpha: float) -> Array:
    """Where log E first reaches ln(1/alpha): [experiments, steps, K] -> [experiments], `steps` where it never does."""
    target = bar(alpha)
    # The mean of K wealths is at most the largest, so few places are looked at closely.
    passed = paths.max(axis=-1) >= target
    passed[passed] = mix(paths[passed]) >= target
    found: Array = np.where(passed.any(axis=1), passed.argmax(axis=1), paths.shape[1])
    return found


@dataclass(frozen=True)
class Ended:
    """When each experiment ended, [experiments]: samples used, 0 where it did not within the limit."""

    promoted: Array
    rolled_back: Array

    @property
    def decided(self) -> Array:
        return self.samples > 0

    @property
    def samples(self) -> Array:
        """Of those decided, 0 of the others."""
        return np.maximum(self.promoted, self.rolled_back)


def run(stream: Stream, process: Process, *, experiments: int, limit: int, seed: int, alpha: float = 0.05) -> Ended:
    """Each experiment goes on until its first verdict, looked for after every sample; at most `limit` samples."""
    rng = np.random.default_rng(seed)
    process.begin(experiments)
    ended = Ended(np.zeros(experiments, np.int64), np.zeros(experiments, np.int64))
    going = np.arange(experiments)
    wealth = np.zeros((2, experiments, 1, process.bets))
    at = 0
    while at < limit and len(going):
        steps = min(limit - at, max(64, _CELLS // (len(going) * process.bets)))
        both = process.terms(stream(rng, len(going), np.arange(at, at + steps)))
        paths = [np.cumsum(terms, axis=1) + wealth[side] for side, terms in enumerate(both)]
        promote, rollback = (first(path, alpha) for path in paths)
        sooner = promote < rollback
        ended.promoted[going] = np.where(sooner, at + promote + 1, 0)
        ended.rolled_back[going] = np.where(~sooner & (rollback < steps), at + rollback + 1, 0)
        stays = np.minimum(promote, rollback) == steps
        wealth = np.stack([path[stays, -1:] for path in paths])
        going = going[stays]
        process.keep(stays)
        at += steps
    return ended


def share_passed(
    stream: Stream, process: Process, side: int, *, experiments: int, limit: int, seed: int, alpha: float = 0.05
) -> int:
    """How many experiments pass the bar of one process (0 promotion, 1 rollback), whatever the other one says."""
    rng = np.random.default_rng(seed)
    passed = 0
    block = max(1, min(experiments, _CELLS // (limit * process.bets)))
    for start in range(0, experiments, block):
        here = min(block, experiments - start)
        process.begin(here)
        terms = process.terms(stream(rng, here, np.arange(limit)))[side]
        passed += int((first(np.cumsum(terms, axis=1), alpha) < limit).sum())
    return passed


def losses_differ(disagreement: float, difference: float | Rate) -> Stream:
    """Pairs: this share of answers differs in loss, and mean z is `difference` (or a function of the step)."""

    def stream(rng: np.random.Generator, experiments: int, at: Array) -> Array:
        mean = difference(at) if callable(difference) else difference
        worse = (disagreement + mean) / 2
        drawn = rng.random((experiments, len(at)), np.float32)
        return (drawn < worse).astype(np.int8) - ((drawn >= worse) & (drawn < disagreement))

    return stream


def canary(share: Rate, base: Rate, difference: float) -> Stream:
    """Requests: share of the new version and loss of the old one by step; the new one's is `difference` above it."""

    def stream(rng: np.random.Generator, experiments: int, at: Array) -> tuple[Array, Array, Array]:
        shares = share(at)
        new = rng.random((experiments, len(at)), np.float32) < shares
        y = rng.random((experiments, len(at)), np.float32) < base(at) + difference * new
        return new, shares, y.astype(np.float64)

    return stream


def sticky(keys: int, difference: float, *, once: bool) -> Stream:
    """Requests of so many callers, each with its own loss rate (mean .10) and on one version for good, half on each.
    With `once`, the first request of each is compared and the others are left out, as if their share were 0."""

    def stream(rng: np.random.Generator, experiments: int, at: Array) -> tuple[Array, Array, Array]:
        who = rng.integers(keys, size=(experiments, len(at)))
        arm = rng.random((experiments, keys)) < 0.5
        rate = rng.beta(0.5, 4.5, (experiments, keys)) * (1 - difference)
        new = np.take_along_axis(arm, who, axis=1)
        y = rng.random(who.shape) < np.take_along_axis(rate, who, axis=1) + difference * new
        share = np.full(who.shape, 0.5)
        if once:
            for row, callers in enumerate(who):
                repeated = np.ones(len(at), bool)
                repeated[np.unique(callers, return_index=True)[1]] = False
                share[row, repeated], new[row, repeated] = 0.0, False
        return new, share, y.astype(np.float64)

    return stream


def fixed(share: float) -> Rate:
    return lambda at: np.full(len(at), share)


def ramp(at: Array) -> Array:
    """1 % for 5,000 requests, 5 % for 5,000, 25 % for 10,000, then 50 %."""
    return np.select([at < 5_000, at < 10_000, at < 20_000], [0.01, 0.05, 0.25], 0.5)


def diurnal(low: float, high: float, period: int) -> Rate:
    """A rate that goes up and down; it starts low."""
    return lambda at: low + (high - low) * (1 - np.cos(2 * np.pi * at / period)) / 2


def alternating(low: float, high: float, period: int) -> Rate:
    """One rate for half of a period, the other for the other half."""
    return lambda at: np.where(at % period < period // 2, low, high)
