"""The limit of the latency guardrail is known before the request it judges."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from shipworthy.rollout.evidence import Threshold


def latencies(seed: int, steps: int) -> tuple[list[float], list[bool]]:
    rng = np.random.default_rng(seed)
    return rng.lognormal(-4, 0.5, steps).tolist(), (rng.random(steps) < 0.3).tolist()


def limits(seconds: list[float], new: list[bool]) -> list[float | None]:
    """The limit that judged each."""
    threshold, found = Threshold(), []
    for one, arm in zip(seconds, new, strict=True):
        found.append(threshold.seconds)
        threshold.slow(one, arm)
    return found


@given(at=st.integers(0, 2_999), factor=st.floats(0.01, 100))
def test_present_and_future_do_not_move_the_limit(at: int, factor: float) -> None:
    seconds, new = latencies(1, 3_000)
    altered = seconds[:at] + [one * factor for one in seconds[at:]]
    assert limits(altered, new)[: at + 1] == limits(seconds, new)[: at + 1]


def test_the_new_version_does_not_move_the_limit() -> None:
    seconds, new = latencies(2, 10_000)
    altered = [one * 50 if arm else one for one, arm in zip(seconds, new, strict=True)]
    assert limits(altered, new) == limits(seconds, new)


def test_the_limit_is_the_p95_of_the_last_of_the_old_version() -> None:
    seconds, _ = latencies(3, 5_000)
    threshold = Threshold()
    for number, one in enumerate(seconds, 1):
        limit = threshold.seconds
        assert threshold.slow(one, new=False) == (None if limit is None else one > limit)
        assert (threshold.seconds is None) == (number < 200)
        if number % 200 == 0:
            past = seconds[max(0, number - 2_000) : number]
            assert threshold.seconds == pytest.approx(np.quantile(past, 0.95, method="lower"))
        elif number > 200:
            assert threshold.seconds == limit


def test_without_enough_of_the_past_nothing_is_judged() -> None:
    threshold = Threshold()
    assert [threshold.slow(1.0, new=False) for _ in range(200)] == [None] * 200
    assert threshold.slow(1.0, new=True) is False
    assert threshold.slow(1.1, new=True) is True
    assert all(threshold.slow(9.0, new=True) for _ in range(500))


def test_a_target_is_the_limit_from_the_first_request_on() -> None:
    threshold = Threshold(0.2)
    assert (threshold.slow(0.2, new=True), threshold.slow(0.21, new=False)) == (False, True)
    for _ in range(1_000):
        threshold.slow(5.0, new=False)
    assert threshold.seconds == 0.2
