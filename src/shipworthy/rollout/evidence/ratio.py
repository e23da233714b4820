"""Guardrails and sample-ratio mismatch: on which version do events fall, given that there are any?

Requests go to the new version with probability pi; an event (an error, a slow answer) has probability t1 there and t0
on the old version. Given an event, it is on the new version with probability

    pi t1/(pi t1 + (1 - pi) t0) = pi r/(pi r + 1 - pi) = q_r,    r = t1/t0

whatever the rate itself is, and however it moves. A bet on r against the null "t1 <= rho t0" multiplies, at each event,
by q_r/q_rho where it is on the new version and by (1 - q_r)/(1 - q_rho) where it is on the old one. With the true
probability q the expectation is q q_r/q_rho + (1 - q)(1 - q_r)/(1 - q_rho): exactly 1 at q = q_rho, and for r > rho
growing in q, hence at most 1 for all q <= q_rho. Requests without an event do not move it. (Lindon and Malek, "Anytime-
valid inference for multinomial count data", NeurIPS 2022.)

With m_r = 1 + pi (r - 1) this is ln(m_rho/m_r), and ln(r/rho) more where the event is on the new version: a sum over
events, so counts by share are enough, whoever has counted.

**Sample ratio.** Every request is an event, rho = 1, and r on both sides of 1: under the null a request goes to the
new version with probability pi itself, and each factor's expectation is exactly 1.

**Pairs** (shadow: both versions did the same work). Each half counts with pi = 1/2. With u = q_r/q_rho - 1 > 0 and
v = (1 - q_r)/(1 - q_rho) - 1 < 0 the expected factor of a pair is 1 + t1 u + t0 v + t11 u v, t11 being the probability
that both halves are events. At pi = 1/2, rho u + v = 0, so t1 u + t0 v <= 0 where t1 <= rho t0, and u v < 0: at most 1,
however the halves depend on each other, and conservative where they are slow together."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from .bets import Floats, log_e

RHO = 1.5
"""By how many times the new version may have more errors, or more slow answers."""
GUARDED = (1.25, 1.5, 2.0, 3.0, 5.0, 10.0, 30.0)
"""The alternatives of guardrails, as multiples of rho."""
_OFF = (1.02, 1.05, 1.1, 1.2, 1.5, 2.0, 3.0)
MISMATCHED = (*(1 / r for r in reversed(_OFF)), *_OFF)
"""The alternatives of a sample ratio, whose rho is 1."""


class Ratio:
    """Evidence that events fall on the new version more often than rho allows (or, with alternatives on both sides of
    rho, not as it says). A sum over events: their order does not matter."""

    def __init__(self, rho: float, alternatives: Sequence[float]) -> None:
        """`alternatives` are rates of the new version as multiples of the old one's."""
        self.rho = rho
        self.alternatives = tuple(alternatives)
        self.log_wealth = np.zeros(len(self.alternatives))
        self.requests = np.zeros(2, np.int64)
        """Of the old and of the new version: among them the events were."""
        self.events = np.zeros(2, np.int64)

    @classmethod
    def guardrail(cls, rho: float = RHO) -> Ratio:
        """Of errors or slow answers: null t1 <= rho t0, one sided."""
        return cls(rho, [rho * multiple for multiple in GUARDED])

    @classmethod
    def sample_ratio(cls) -> Ratio:
        """Of requests as such: null "drawn with the share that was logged", two sided."""
        return cls(1.0, MISMATCHED)

    def observe(self, new: npt.ArrayLike, share: npt.ArrayLike, event: npt.ArrayLike = True) -> None:
        """Requests, each [n]: to which version, the probability that it is the new one (or one number for all), and
        whether there was an event. Those with a share of 0 or 1 compare nothing and are skipped."""
        arms = np.atleast_1d(np.asarray(new, bool))
        shares = np.broadcast_to(np.asarray(share, np.float64), arms.shape)
        events = np.broadcast_to(np.asarray(event, bool), arms.shape)
        if len(shares) and (shares == shares[0]).all():
            # Nearly always; and to sort ten thousands takes milliseconds.
            values, place = shares[:1], np.zeros(len(shares), np.intp)
        else:
            values, place = np.unique(shares, return_inverse=True)
        size = len(values)
        for value, old_requests, new_requests, old_events, new_events in zip(
            values.tolist(),
            np.bincount(place[~arms], minlength=size).tolist(),
            np.bincount(place[arms], minlength=size).tolist(),
            np.bincount(place[~arms & events], minlength=size).tolist(),
            np.bincount(place[arms & events], minlength=size).tolist(),
            strict=True,
        ):
            self.count(value, (old_events, new_events), (old_requests, new_requests))

    def count(self, share: float, events: tuple[int, int], requests: tuple[int, int] | None = None) -> None:
        """The same by counts at one share: events of the old and of the new version, among so many requests of each
        (by default every request is an event)."""
        if not 0 < share < 1:
            return
        old, new = events
        self.log_wealth += old * self.terms(share, new=False) + new * self.terms(share, new=True)
        self.events += np.array(events)
        self.requests += np.array(events if requests is None else requests)

    def pairs(self, old_event: npt.ArrayLike, new_event: npt.ArrayLike) -> None:
        """Work that both versions did, each [n]: whether there was an event on the old and on the new one."""
        old, new = np.atleast_1d(np.asarray(old_event, bool)), np.atleast_1d(np.asarray(new_event, bool))
        assert old.shape == new.shape
        self.count(0.5, (int(old.sum()), int(new.sum())), (len(old), len(new)))

    def terms(self, share: npt.ArrayLike, *, new: bool) -> Floats:
        """Log factors of an event on that version: [...] -> [..., K]."""
        pi = np.asarray(share, np.float64)[..., None]
        r = np.array(self.alternatives)
        terms: Floats = np.log1p(pi * (self.rho - 1)) - np.log1p(pi * (r - 1))
        if new:
            terms = terms + np.log(r / self.rho)
        return terms

    @property
    def log_e(self) -> float:
        return log_e(self.log_wealth)

    def to_record(self) -> dict[str, Any]:
        return {
            "rho": self.rho,
            "alternatives": list(self.alternatives),
            "log_wealth": self.log_wealth.tolist(),
            "requests": self.requests.tolist(),
            "events": self.events.tolist(),
        }

    @classmethod
    def from_record(cls, record: dict[str, Any]) -> Ratio:
        made = cls(record["rho"], record["alternatives"])
        made.log_wealth = np.array(record["log_wealth"], np.float64)
        made.requests = np.array(record["requests"], np.int64)
        made.events = np.array(record["events"], np.int64)
        return made
