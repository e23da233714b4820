"""Timed loops: what they count, and that errors of a caller's thread are not lost."""

from __future__ import annotations

import gc
import threading
import time

import numpy as np
import pytest

from shipworthy.contract import Array, Arrays
from shipworthy.measure.timing import closed_loop, warm_up

_FEEDS = {"x": np.zeros(1)}


def _sleeper(seconds: float, seen: list[int] | None = None) -> object:
    def run(feeds: Arrays) -> dict[str, Array]:
        if seen is not None:
            seen.append(threading.get_ident())
        time.sleep(seconds)
        return dict(feeds)

    return run


def test_one_stream_runs_for_the_time_and_counts_every_run() -> None:
    loop = closed_loop(_sleeper(0.01), _FEEDS, streams=1, seconds=0.1, least=1)
    assert 5 <= len(loop.times) <= 10
    assert loop.rate == pytest.approx(len(loop.times) / sum(loop.times))
    assert min(loop.times) >= 0.01


def test_a_slow_run_is_made_the_least_number_of_times() -> None:
    assert len(closed_loop(_sleeper(0.03), _FEEDS, streams=1, seconds=0.0, least=3).times) == 3


def test_streams_run_at_the_same_time() -> None:
    seen: list[int] = []
    loop = closed_loop(_sleeper(0.02, seen), _FEEDS, streams=3, seconds=0.1, least=2)
    assert len(set(seen)) == 3
    assert loop.rate == pytest.approx(3 / np.mean(loop.times), rel=0.2)
    assert loop.rate > 80


def test_the_error_of_a_stream_comes_through() -> None:
    def run(feeds: Arrays) -> dict[str, Array]:
        raise ValueError("broken kernel")

    with pytest.raises(ValueError, match="broken kernel"):
        closed_loop(run, _FEEDS, streams=2, seconds=0.05, least=1)


def test_collection_is_off_while_timing_and_on_again_after() -> None:
    states: list[bool] = []

    def run(feeds: Arrays) -> dict[str, Array]:
        states.append(gc.isenabled())
        return dict(feeds)

    closed_loop(run, _FEEDS, streams=1, seconds=0.0, least=2)
    assert states == [False, False]
    assert gc.isenabled()


def test_warm_up_reaches_both_time_and_runs() -> None:
    seen: list[int] = []
    warm_up(_sleeper(0.01, seen), _FEEDS, seconds=0.0, least=4)
    assert len(seen) == 4
    warm_up(_sleeper(0.01, seen), _FEEDS, seconds=0.05, least=1)
    assert len(seen) >= 8
