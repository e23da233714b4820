"""Points in time: bounded, on one grid for all nodes, and losing nothing of what they add up."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from shipworthy.monitor.timeline import MOST, Timeline, together, width

GAPS = st.lists(st.floats(0, 5000), min_size=1, max_size=60)


def line(times: list[float], *, steady: bool = False) -> Timeline:
    found = Timeline(steady=steady)
    for place, at in enumerate(times):
        found.add(at, np.array([[float(place)]]), evidence=float(place), log_p=None)
    return found


@settings(max_examples=40)
@given(gaps=GAPS)
def test_nothing_is_lost_and_points_rise(gaps: list[float]) -> None:
    times = np.cumsum(gaps).tolist()
    points = line(times).points(times[-1])
    assert sum(point.scored for point in points) == len(times)
    assert sum(point.scored * point.means[0] for point in points) == pytest.approx(sum(range(len(times))))
    assert (np.diff([point.at for point in points]) > 0).all()
    assert max(point.evidence for point in points) == len(times) - 1


@settings(max_examples=40)
@given(gaps=GAPS, nodes=st.integers(1, 4))
def test_nodes_together_have_the_points_of_one_that_saw_all(gaps: list[float], nodes: int) -> None:
    times = np.cumsum(gaps).tolist()
    now = times[-1] + 10
    whole = line(times).points(now)
    each = [Timeline() for _ in range(nodes)]
    for place, at in enumerate(times):
        each[place % nodes].add(at, np.array([[float(place)]]), evidence=float(place))
    points = together([node.points(now) for node in each], now)
    assert [(point.at, point.scored, point.evidence) for point in points] == [
        (point.at, point.scored, point.evidence) for point in whole
    ]
    for one, other in zip(points, whole, strict=True):
        assert one.means == pytest.approx(other.means)


def test_a_year_has_few_points_and_the_last_minute_is_fine() -> None:
    found = Timeline()
    ages = np.unique(np.concatenate([np.geomspace(1, 3.15e7, 4_000), np.arange(1, 120)]))[::-1]
    for age in ages:
        found.add(4e7 - float(age), np.zeros((1, 1)), evidence=0.0)
    points = found.points(4e7)
    assert len(points) <= MOST
    recent = [point.at for point in points if point.at >= 4e7 - 30]
    assert len(recent) >= 29
    assert sum(point.scored for point in points) == len(ages)


def test_a_point_is_as_wide_as_a_thirty_second_of_its_age_at_most() -> None:
    for age in (1, 32, 63, 64, 1000, 86_400, 3e7):
        assert width(age) <= max(1.0, age / 32)
        assert np.log2(width(age)) % 1 == 0


def test_a_file_has_points_of_one_width() -> None:
    found = Timeline(steady=True)
    for row in range(0, 400_000, 250):
        found.add(float(row), np.zeros((250, 1)), evidence=0.0)
    points = found.points(4e5)
    assert 300 <= len(points) <= MOST
    assert len({point.scored for point in points[:-1]}) == 1 and sum(point.scored for point in points) == 400_000


def test_the_time_of_a_row() -> None:
    found = Timeline()
    for second in range(100):
        found.add(1000.0 + second, np.zeros((10, 1)), evidence=0.0)
    assert found.time_of(5, 1099.9) == pytest.approx(1099.4, abs=0.1)
    assert found.time_of(105, 1100.0) == pytest.approx(1089.5, abs=0.1)
    assert found.time_of(5000, 1100.0) == 1000.0


def test_a_row_before_a_pause_is_not_in_it() -> None:
    found = Timeline()
    for at in (1000.0, 1001.0, 9000.0):
        found.add(at, np.zeros((10, 1)), evidence=0.0)
    assert 1000 <= found.time_of(15, 9000.5) <= 1001 + 2 * width(8000)


def test_missing_values_have_no_mean() -> None:
    found = Timeline()
    found.add(5.0, np.array([[np.nan, 1.0], [np.nan, 3.0]]), evidence=0.5, log_p=2.0)
    (point,) = found.points(5.0)
    assert np.isnan(point.means[0]) and point.means[1] == 2.0
    assert (point.evidence, point.log_p) == (0.5, 2.0)
    (hidden,) = found.points(5.0, fewest=3)
    assert np.isnan(hidden.means).all()


def test_a_clock_that_is_set_back_adds_to_the_last_point() -> None:
    found = line([100.0, 50.0, 101.0])
    assert [(point.at, point.scored) for point in found.points(101.0)] == [(100.0, 2), (101.0, 1)]
