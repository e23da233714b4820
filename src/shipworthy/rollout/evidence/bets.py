"""What all processes of evidence share: a few fixed bets, mixed, with Ville's inequality.

A bet multiplies its wealth at every observation by a factor whose expectation, given the past, is at most 1 where the
null holds. Wealth is then a nonnegative supermartingale that starts at 1, and so is the mean E of the wealths of K
bets. Ville (1939): P(E >= 1/alpha at any time) <= alpha. So one may look after every observation, and stop when one
likes. (Waudby-Smith and Ramdas, "Estimating means of bounded random variables by betting", arXiv 2010.09686; Grünwald,
de Heide and Koolen, "Safe testing", arXiv 1906.07801.)

The bets are fixed, not learnt from the stream: where the traffic alternates, bets that follow the running mean are
fooled by a null that holds for the mean only.
"""

from __future__ import annotations

from typing import TypeAlias

import numpy as np
import numpy.typing as npt

Floats: TypeAlias = npt.NDArray[np.float64]


def mix(log_wealth: Floats) -> Floats:
    """log of the mean wealth over the last axis: [..., K] -> [...]."""
    highest = log_wealth.max(axis=-1)
    means: Floats = np.log(np.exp(log_wealth - highest[..., None]).mean(axis=-1)) + highest
    return means


def log_e(log_wealth: Floats) -> float:
    """log E of one process: [K] -> its mix."""
    return float(mix(log_wealth))


def bar(alpha: float) -> float:
    """What log E has to reach: ln(1/alpha)."""
    return float(-np.log(alpha))


def reach(log_wealth: Floats, growth: Floats, alpha: float) -> int | None:
    """The fewest steps, each adding `growth` [K], after which log E is at the bar; None where a million million are
    not enough."""
    target = bar(alpha)
    if log_e(log_wealth) >= target:
        return 0
    low, high = 0, 1
    while log_e(log_wealth + high * growth) < target:
        low, high = high, high * 2
        if high > 10**12:
            return None
    while high - low > 1:
        middle = (low + high) // 2
        if log_e(log_wealth + middle * growth) < target:
            low = middle
        else:
            high = middle
    return high
