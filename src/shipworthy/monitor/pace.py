"""What promises for each scored request mean for each day, at the pace of late."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .options import MonitorOptions
    from .view import Point

LOOKED_BACK_S = 3600.0
SHORTEST_S = 300.0
"""A shorter time says little of a day."""
OFTEN = 0.5
"""So many false alarms a day are worth a word."""
DAY_S = 86_400.0
WANTED_S = 14 * DAY_S
"""What is proposed has each of the two detectors raise one false alarm in this time."""
ENOUGH = 10
"""Scored requests a second that are proposed where there are more: a change of all requests shows within seconds."""


def false_alarms_a_day(scored_a_second: float, options: MonitorOptions) -> float:
    """At most, of both detectors of one version on one node."""
    return scored_a_second * DAY_S * (1 / options.run_length / options.nodes + options.window_rate / options.window)


def pace_notes(points: Sequence[Point], options: MonitorOptions, now: float) -> list[str]:
    """Says it where requests come so fast that false alarms do too: an alarm that is right once a week, and false once
    an hour, is not looked at."""
    recent = [point for point in points if point.at >= now - LOOKED_BACK_S]
    if not recent or now - recent[0].at < SHORTEST_S:
        return []
    pace = sum(point.scored for point in recent) / (now - recent[0].at)
    often = false_alarms_a_day(pace, options)
    if often < OFTEN:
        return []
    wanted = max(1, min(ENOUGH, round(pace))) * WANTED_S
    return [
        f"at the pace of the last hour ({pace:.0f} scored requests a second) up to {often:.2g} alarms a day may be "
        f"false; about one in a week with --monitor-rate {wanted / WANTED_S:.0f} --monitor-run-length {wanted:.0e} "
        f"--monitor-window-rate {options.window / wanted:.0e}"
    ]
