"""Quality in a canary: each request was answered by one version, drawn with a known probability.

A = 1 where the new version answered, pi = the probability of that as it was logged with the request, y = loss in
[0, 1], b = any guess of y made before it (here the mean of past losses, shrunk: (1 + sum)/(10 + number)), and

    x = (A - pi)(y - b) - pi (1 - pi) delta

With mean losses t1 of the new version and t0 of the old one at this request, E[(A - pi)(y - b)] is
pi (1 - pi)(t1 - b) - (1 - pi) pi (t0 - b) = pi (1 - pi)(t1 - t0): b falls out, and so does any drift that both versions
share. So E x = pi (1 - pi)(t1 - t0 - delta), and

- rollback bets against "t1 - t0 <= delta":  factor 1 + f x, expectation at most 1
- promote bets against "t1 - t0 >= delta":   factor 1 - f x, expectation at most 1

Factors are positive: |x| <= max(pi, 1 - pi) + pi (1 - pi) delta < 1. They are fair for every pi that was fixed before
the request, so a ramp does no harm, where pooled counts of a ramp would compare mornings with evenings (Simpson).
With delta = 0 and constant b it is the test of a covariance by betting (Waudby-Smith and Ramdas, arXiv 2010.09686;
Turner, Ly and Grünwald, "Generic E-variables for exact sequential k-sample tests", arXiv 2106.02693, for the 2 x 2
table).

**It needs that requests are assigned one by one.** Where a caller's key decides, count the first outcome of each key:
the later ones are the same draw of A again."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from .bets import Floats, log_e, reach

GRID: Floats = np.geomspace(0.01, 0.95, 12)
PRIOR_LOSS, PRIOR_COUNT = 1.0, 10.0
_CHUNK = 1 << 15


def guesses(y: Floats, loss: float, count: float) -> Floats:
    """b of each request, from what came before it: [..., n] -> [..., n]; `loss` and `count` came before them all."""
    before = np.cumsum(y, axis=-1) - y
    b: Floats = (PRIOR_LOSS + loss + before) / (PRIOR_COUNT + count + np.arange(y.shape[-1]))
    return b


def scores(new: npt.ArrayLike, share: Floats, y: Floats, b: Floats, delta: float) -> Floats:
    """x of each request, as above; all [...]."""
    x: Floats = (np.asarray(new, np.float64) - share) * (y - b) - share * (1 - share) * delta
    return x


class Unpaired:
    """Evidence of requests that one version answered, counted in their order, each with the b of those before it."""

    def __init__(self, delta: float) -> None:
        """`delta` in [0, 1): by how much the new version's mean loss may be above the old one's."""
        assert 0 <= delta < 1
        self.delta = delta
        self.promote = np.zeros(len(GRID))
        self.rollback = np.zeros(len(GRID))
        self.counts = np.zeros(2, np.int64)
        """Requests of the old and of the new version."""
        self.losses = np.zeros(2)
        """Sum of y of each."""

    def observe(self, new: npt.ArrayLike, share: npt.ArrayLike, y: npt.ArrayLike) -> None:
        """Requests in the order of their outcomes, each [n]: who answered, the probability that it was the new version
        (or one number for all), the loss in [0, 1]. Those with a share of 0 or 1 compare nothing and are skipped."""
        losses = np.asarray(y, np.float64)
        shares = np.broadcast_to(np.asarray(share, np.float64), losses.shape)
        arms = np.broadcast_to(np.asarray(new, bool), losses.shape)
        assert ((losses >= 0) & (losses <= 1)).all(), "a loss is in [0, 1]"
        drawn = (shares > 0) & (shares < 1)
        losses, shares, arms = losses[drawn], shares[drawn], arms[drawn]
        for start in range(0, len(losses), _CHUNK):
            part = slice(start, start + _CHUNK)
            self._observe(arms[part], shares[part], losses[part])

    def _observe(self, new: npt.NDArray[np.bool_], share: Floats, y: Floats) -> None:
        b = guesses(y, float(self.losses.sum()), float(self.counts.sum()))
        bets = GRID * scores(new, share, y, b, self.delta)[:, None]
        self.rollback += np.log1p(bets).sum(axis=0)
        self.promote += np.log1p(-bets).sum(axis=0)
        self.counts += np.array([(~new).sum(), new.sum()])
        self.losses += np.array([y[~new].sum(), y[new].sum()])

    @property
    def log_promote(self) -> float:
        return log_e(self.promote)

    @property
    def log_rollback(self) -> float:
        return log_e(self.rollback)

    def needed(self, alpha: float, share: float) -> int | None:
        """About how many more requests promotion takes at this share where both versions have the mean loss seen.

        From the expansion E log(1 - f x) = f v delta - f^2 v s / 2, with v = pi (1 - pi) and s the spread of y: an
        estimate to show, no part of the evidence."""
        if not 0 < share < 1:
            return None
        v = share * (1 - share)
        mean = float((PRIOR_LOSS + self.losses.sum()) / (PRIOR_COUNT + self.counts.sum()))
        spread = mean * (1 - mean) + v * self.delta**2
        return reach(self.promote, GRID * v * self.delta - GRID**2 * v * spread / 2, alpha)

    def to_record(self) -> dict[str, Any]:
        return {
            "delta": self.delta,
            "promote": self.promote.tolist(),
            "rollback": self.rollback.tolist(),
            "counts": self.counts.tolist(),
            "losses": self.losses.tolist(),
        }

    @classmethod
    def from_record(cls, record: dict[str, Any]) -> Unpaired:
        made = cls(record["delta"])
        made.promote = np.array(record["promote"], np.float64)
        made.rollback = np.array(record["rollback"], np.float64)
        made.counts = np.array(record["counts"], np.int64)
        made.losses = np.array(record["losses"], np.float64)
        return made
