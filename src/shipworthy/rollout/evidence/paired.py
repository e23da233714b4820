"""Quality in shadow: both versions answered the same request, so their losses are compared pair by pair.

z = loss of the new version - loss of the old one, in [-1, 1]; delta is the margin of non-inferiority.

- rollback bets against "mean z <= delta":  factor 1 + g/(1 + delta) (z - delta)
- promote bets against "mean z >= delta":   factor 1 - g/(1 - delta) (z - delta)

The expectation of the first is 1 + g/(1 + delta) (E z - delta), at most 1 where E z <= delta; likewise the second. At
the worst z (-1 for the first, 1 for the second) they are 1 - g, above 0 for each g below 1. (Waudby-Smith and Ramdas,
arXiv 2010.09686, section 4, with fixed bets in place of learnt ones.)

**Labels that are missing.** Both factors are monotone in z. A pair whose label has not come counts with the z that is
worst for the verdict: +bound for promotion, -bound for rollback, where |z| <= bound is known from the answers alone (1
for classes that differ, min(1, |new - old|/scale) for numbers). What is shown is then at no time above the process
that knows all labels, so its promise holds whichever labels come, and however late, also where that depends on who was
right."""

from __future__ import annotations

from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from .bets import Floats, log_e, reach

GRID: Floats = np.geomspace(0.01, 0.95, 10)
_ROUNDING = 1e-4
"""Answers are float32, and the bound and the loss of a pair may be worked out from them in different precision."""
Values: TypeAlias = float | npt.ArrayLike


def promote_terms(z: Values, delta: float) -> Floats:
    """Log factors of the bets on promotion: [...] -> [..., 10]."""
    terms: Floats = np.log1p(-(GRID / (1 - delta)) * (np.asarray(z, np.float64)[..., None] - delta))
    return terms


def rollback_terms(z: Values, delta: float) -> Floats:
    """Log factors of the bets on rollback: [...] -> [..., 10]."""
    terms: Floats = np.log1p((GRID / (1 + delta)) * (np.asarray(z, np.float64)[..., None] - delta))
    return terms


class Paired:
    """Evidence of pairs. It is a sum over pairs: their order does not matter."""

    def __init__(self, delta: float) -> None:
        """`delta` in (0, 1): by how much the new version's mean loss may be above the old one's."""
        assert 0 < delta < 1
        self.delta = delta
        self.promote = np.zeros(len(GRID))
        self.rollback = np.zeros(len(GRID))
        self.pairs = 0
        self.disagreeing = 0
        """Pairs whose answers differ."""
        self.open = 0
        """Those of them whose label has not come; they count as the worst case."""
        self.worse = 0
        self.better = 0

    def add(self, z: Values, count: int | npt.ArrayLike = 1) -> None:
        """Pairs whose z is known: a number or [n], each `count` times (a number or [n]). Answers that agree: z = 0."""
        values = np.atleast_1d(np.asarray(z, np.float64))
        counts = np.broadcast_to(np.asarray(count, np.int64), values.shape)
        _check(values)
        self._put(values, counts)
        self.pairs += int(counts.sum())
        self.disagreeing += int(counts[values != 0].sum())

    def add_open(self, bound: Values = 1.0, count: int | npt.ArrayLike = 1) -> None:
        """Pairs whose label is not known yet: |z| <= `bound`, a number or [n]. Each counts as the worst case."""
        bounds = np.atleast_1d(np.asarray(bound, np.float64))
        counts = np.broadcast_to(np.asarray(count, np.int64), bounds.shape)
        _check(bounds)
        self.promote += counts @ promote_terms(bounds, self.delta)
        self.rollback += counts @ rollback_terms(-bounds, self.delta)
        total = int(counts.sum())
        self.pairs += total
        self.disagreeing += total
        self.open += total

    def settle(self, bound: Values, z: Values) -> None:
        """The label of open pairs has come: their worst case is taken out and `z` put in. Numbers or [n] both; `bound`
        is the number that `add_open` was given for the pair."""
        values = np.atleast_1d(np.asarray(z, np.float64))
        bounds = np.broadcast_to(np.asarray(bound, np.float64), values.shape)
        assert (np.abs(values) <= bounds + _ROUNDING).all(), "a pair's loss differs by more than its answers allow"
        _check(values)
        self.promote -= promote_terms(bounds, self.delta).sum(axis=0)
        self.rollback -= rollback_terms(-bounds, self.delta).sum(axis=0)
        self._put(values, np.ones(len(values), np.int64))
        self.open -= len(values)

    def _put(self, values: Floats, counts: npt.NDArray[np.int64]) -> None:
        self.promote += counts @ promote_terms(values, self.delta)
        self.rollback += counts @ rollback_terms(values, self.delta)
        self.worse += int(counts[values > 0].sum())
        self.better += int(counts[values < 0].sum())

    @property
    def log_promote(self) -> float:
        return log_e(self.promote)

    @property
    def log_rollback(self) -> float:
        return log_e(self.rollback)

    def needed(self, alpha: float) -> int | None:
        """How many more pairs promotion takes where all of them agree."""
        return reach(self.promote, promote_terms(0.0, self.delta), alpha)

    def to_record(self) -> dict[str, Any]:
        return {
            "delta": self.delta,
            "promote": self.promote.tolist(),
            "rollback": self.rollback.tolist(),
            "pairs": self.pairs,
            "disagreeing": self.disagreeing,
            "open": self.open,
            "worse": self.worse,
            "better": self.better,
        }

    @classmethod
    def from_record(cls, record: dict[str, Any]) -> Paired:
        made = cls(record["delta"])
        made.promote = np.array(record["promote"], np.float64)
        made.rollback = np.array(record["rollback"], np.float64)
        for name in ("pairs", "disagreeing", "open", "worse", "better"):
            setattr(made, name, int(record[name]))
        return made


def _check(values: Floats) -> None:
    assert (np.abs(values) <= 1).all(), "a difference of losses in [0, 1] is in [-1, 1]"
