"""What a promise for each request means for each day."""

from __future__ import annotations

import pytest

from shipworthy.monitor.options import MonitorOptions
from shipworthy.monitor.pace import false_alarms_a_day, pace_notes
from shipworthy.monitor.view import Point

NOW = 1_800_000_000.0


def points(a_second: float, seconds: float = 1800.0) -> list[Point]:
    return [Point(NOW - seconds + at, int(10 * a_second), (), 0.0, None) for at in range(0, int(seconds), 10)]


def test_five_hundred_a_second_are_forty_three_alarms_of_bets_and_eighty_six_of_windows() -> None:
    assert false_alarms_a_day(500, MonitorOptions()) == pytest.approx(43.2 + 86.4)


def test_nodes_share_the_promise_of_the_bets() -> None:
    one, three = (false_alarms_a_day(500, MonitorOptions(nodes=nodes)) for nodes in (1, 3))
    assert one - three == pytest.approx(43.2 * 2 / 3)


def test_a_fast_server_is_told_what_keeps_false_alarms_rare() -> None:
    (note,) = pace_notes(points(500), MonitorOptions(), NOW)
    assert "500 scored requests a second" in note
    assert "--monitor-rate 10 --monitor-run-length 1e+07 --monitor-window-rate 4e-05" in note
    kept = MonitorOptions(rate=10, run_length=1e7, window_rate=4e-5)
    assert false_alarms_a_day(10, kept) == pytest.approx(1 / 7, rel=0.2)
    assert pace_notes(points(10), kept, NOW) == []


@pytest.mark.parametrize(("a_second", "seconds"), [(1.0, 3600.0), (500.0, 60.0)])
def test_a_slow_server_and_one_that_has_just_begun_are_told_nothing(a_second: float, seconds: float) -> None:
    assert pace_notes(points(a_second, seconds), MonitorOptions(), NOW) == []
