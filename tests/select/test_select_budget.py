"""How a budget is divided: what the final will take, how long races are, and what a hurried race is worth later."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from shipworthy.contract import Signature
from shipworthy.data import Chunk, Dataset
from shipworthy.evidence import Candidate, ThroughputPoint
from shipworthy.measure import Course, ExportReply, Lap
from shipworthy.runtime import Artifact, OperatingPoint
from shipworthy.select.bench import Bench, Effort
from shipworthy.select.budget import Budget, final_s, paced
from shipworthy.select.results import Exported, Pace, Playoff
from shipworthy.select.tried import Tried
from shipworthy.select.way import Way

_ALONE = OperatingPoint(streams=1, threads=2, batch=8)
_SHARED = OperatingPoint(streams=2, threads=2, batch=8)


def _tried(run_s: float, *, load_s: float | None = 1.0, best: OperatingPoint | None = _SHARED) -> Tried:
    """One whose runs of 8 take so long alone, and 1.6 times as long two at a time."""
    artifact = Artifact("openvino", "fp32", Path("nowhere"), Signature(inputs={}))
    points = (
        ThroughputPoint(point=_ALONE, items_per_s=8 / run_s, p50_ms=1e3 * run_s, p99_ms=1e3 * run_s),
        ThroughputPoint(point=_SHARED, items_per_s=10 / run_s, p50_ms=1.6e3 * run_s, p99_ms=2e3 * run_s),
    )
    pace = Pace(throughput=points, best=best, load_s=load_s)
    candidate = Candidate(engine="openvino", precision="fp32")
    return Tried(candidate, Way(), Exported(reply=ExportReply(artifact=artifact)), pace=pace)


def _bench(*, holdout: int = 0, objective: str = "throughput", course: Course | None = None) -> Bench:
    import numpy as np

    data = Dataset((Chunk({"x": np.zeros((holdout, 1))}),)) if holdout else None
    job = SimpleNamespace(splits=SimpleNamespace(holdout=data), metric=object() if holdout else None)
    contract = SimpleNamespace(target=SimpleNamespace(objective=objective))
    return cast(Bench, SimpleNamespace(job=job, contract=contract, effort=Effort(course=course or Course())))


def test_the_final_is_foreseen_by_its_openings_rounds_and_proofs() -> None:
    # Two processes of 3 s each; a turn of 2 + 1 runs of 0.16 s; ten rounds and one that warms up.
    assert final_s(_bench(), [_tried(0.1), _tried(0.1)]) == pytest.approx(2 * 3 + 11 * 2 * 3 * 0.16)
    # The holdout is answered in one stream, 80 samples a second, by processes of their own.
    proven = final_s(_bench(holdout=400), [_tried(0.1), _tried(0.1)])
    assert proven == pytest.approx(2 * (3 + 400 / 80) + 2 * 3 + 11 * 2 * 3 * 0.16)


def test_no_more_than_four_are_in_the_final() -> None:
    many = [_tried(0.01)] * 9
    assert final_s(_bench(), many) == final_s(_bench(), many[:4]) > final_s(_bench(), many[:3])


def test_long_runs_are_a_turn_by_themselves_and_have_fewer_rounds() -> None:
    assert final_s(_bench(), [_tried(1.0)]) == pytest.approx(3 + 1.6 * (1 + 6))
    assert final_s(_bench(course=Course(longest_s=2.0)), [_tried(1.0)]) == pytest.approx(3 + 1.6 * (1 + 4))


def test_sizes_are_raced_by_nobody() -> None:
    assert final_s(_bench(objective="size"), [_tried(0.1)] * 3) == 0
    assert final_s(_bench(objective="size", holdout=80), [_tried(0.1)]) == pytest.approx(3 + 1)


@pytest.mark.parametrize("accepted", [[], [_tried(0.1, best=None, load_s=None)]])
def test_what_is_not_known_is_no_fault(accepted: list[Tried]) -> None:
    assert 0 <= final_s(_bench(), accepted) < 10


def test_a_race_takes_its_share_of_a_budget_and_its_whole_time_without_one() -> None:
    effort = Effort(course=Course(longest_s=10.0))
    assert paced(effort, Budget()) == effort
    assert paced(effort, Budget("2min", 120.0, 0.0)).course.longest_s == pytest.approx(2.4)
    assert paced(effort, Budget("2min", 120.0, 0.0)).times.long_s == pytest.approx(0.12)
    assert paced(effort, Budget("1h", 3600.0, 0.0)) == effort


@pytest.mark.parametrize(("round_s", "expected"), [(0.1, 10), (1.0, 10), (1.1, 9), (2.4, 4), (60.0, 4), (math.inf, 4)])
def test_rounds_by_their_length(round_s: float, expected: int) -> None:
    assert Course(rounds=10, longest_s=10.0).rounds_of(round_s) == expected
    assert Course(rounds=3, longest_s=10.0).rounds_of(round_s) == 3


def _lap(rounds: int) -> Lap:
    return Lap("a", _ALONE, (1.0,) * rounds, (1.0,) * rounds)


def test_a_race_that_a_budget_cut_short_is_run_again_where_there_is_none() -> None:
    parts: dict[str, Any] = {"job": None, "store": None, "effort": Effort(course=Course(rounds=10)), "progress": None}
    free, pressed = Bench(**parts), Bench(**parts, budgeted=True)
    assert pressed.hurried({"a": _lap(4)})
    assert not pressed.hurried({"a": _lap(10)})
    assert not free.hurried({"a": _lap(4)}), "the candidate is slow, and has all the rounds that it will ever have"
    for kind in (Pace, Playoff):
        assert not free.good_enough(kind(hurried=True))
        assert free.good_enough(kind()) and pressed.good_enough(kind(hurried=True))


def test_efforts_differ_in_nothing_but_the_length_of_races_and_surveys() -> None:
    effort = Effort()
    pressed = paced(effort, Budget("1min", 60.0, 0.0))
    assert replace(pressed, course=effort.course, times=replace(pressed.times, long_s=0.3)) == effort
