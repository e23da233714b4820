"""How many samples a decision takes, against the figures that were computed for the same formulas elsewhere."""

from __future__ import annotations

import numpy as np
import pytest
from benchmarks.rollout.streams import Pairs, Requests, canary, fixed, losses_differ, ramp, run

SLACK = 1.3
FEW = 1.6
"""The mean of few runs scatters by itself."""


def near(found: float, expected: float, slack: float) -> bool:
    return expected / slack <= found <= expected * slack


@pytest.mark.parametrize(
    ("gain", "expected"),
    [
        (-0.02, {0.02: 1364, 0.05: 4159, 0.10: 8789}),
        (0.0, {0.02: 1921, 0.05: 4049, 0.10: 7436}),
        (0.01, {0.02: 562, 0.05: 1019, 0.10: 1930}),
        (0.02, {0.02: 232, 0.05: 506, 0.10: 922}),
    ],
)
def test_pairs_until_a_decision(gain: float, expected: dict[float, float], effort: float) -> None:
    runs = max(20, round(400 * effort))
    for disagreement, mean in expected.items():
        ended = run(losses_differ(disagreement, -gain), Pairs(0.01), experiments=runs, limit=100_000, seed=51)
        right = ended.rolled_back if gain < 0 else ended.promoted
        assert (right > 0).mean() >= 0.95
        assert near(ended.samples.mean(), mean, SLACK if effort == 1 else FEW)


def test_pairs_at_the_boundary_stay_undecided(effort: float) -> None:
    runs = max(40, round(200 * effort))
    ended = run(losses_differ(0.05, 0.01), Pairs(0.01), experiments=runs, limit=20_000, seed=52)
    assert ended.decided.mean() <= 0.1 + 3 * np.sqrt(0.09 / runs)


@pytest.mark.parametrize(
    ("difference", "delta", "half", "on_ramp"),
    [
        (0.03, 0.01, 8_400, 20_000),
        pytest.param(0.0, 0.01, 29_000, 34_000, marks=pytest.mark.full),
        (0.0, 0.02, 7_800, 17_700),
        (-0.02, 0.01, 3_000, 12_500),
    ],
)
def test_requests_until_a_decision(difference: float, delta: float, half: float, on_ramp: float, effort: float) -> None:
    runs = max(20, round(200 * effort))
    for share, expected in ((fixed(0.5), half), (ramp, on_ramp)):
        ended = run(canary(share, fixed(0.1), difference), Requests(delta), experiments=runs, limit=300_000, seed=53)
        assert ended.decided.all()
        right = ended.rolled_back if difference > 0 else ended.promoted
        assert (right > 0).mean() >= 0.9
        assert near(ended.samples.mean(), expected, SLACK if effort == 1 else FEW)
