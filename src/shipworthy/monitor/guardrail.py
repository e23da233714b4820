"""Whether an alarm tells against a challenger: it has one, and the champion, who gets the same traffic, has none."""

from __future__ import annotations

import math
from dataclasses import asdict
from typing import Any

from .view import Alarm, Moved, View

PATIENCE = 2
"""What has moved for both is seen by both, but not at once: the champion must have had so many times the scored
requests that the challenger's alarm took."""

MOST = 20
"""Signals and classes of an alarm that a history keeps."""


def lone_alarm(challenger: View, champion: View) -> Alarm | None:
    """The challenger's first standing alarm of the sequential detector, where none of drift stands for the champion and
    there was time for one.

    Windows count only for the champion: one of them in a thousand is false, so a busy challenger that is fine would
    soon have an alarm. Of a change of the traffic both get their share, so it is no fault of a version. How often the
    champion misses what the challenger has seen is not promised; that there is hardly an alarm without a change is, as
    for any alarm. What labels say is compared by the rollout itself."""
    standing = [alarm for alarm in _standing(challenger) if alarm.detector == "sequential"]
    if not standing or _standing(champion) or champion.promise is None:
        return None
    alarm = min(standing, key=lambda one: one.raised)
    took = _touched(challenger, alarm.began, alarm.raised)
    return alarm if _since(champion, alarm.began) >= PATIENCE * took else None


def told_of(alarm: Alarm) -> dict[str, Any]:
    """What the history of a rollout keeps of it, as JSON: what moved most, and nothing of what was asked."""
    kept = ("id", "node", "detector", "raised", "began", "scored", "severity", "summary")
    said = {name: getattr(alarm, name) for name in kept}
    return {"alarm": {**said, "classes": list(alarm.classes[:MOST]), "moved": list(map(_told, alarm.moved[:MOST]))}}


def _told(moved: Moved) -> dict[str, Any]:
    values = asdict(moved).items()
    return {name: None if isinstance(value, float) and not math.isfinite(value) else value for name, value in values}


def _standing(view: View) -> list[Alarm]:
    return [alarm for alarm in view.alarms if alarm.acknowledged is None and alarm.detector != "quality"]


def _touched(view: View, began: float, ended: float) -> int:
    """Scored requests of all points that have a part in that time, which may be shorter than any: at least as many as
    came in it."""
    points = view.timeline
    ends = [point.at for point in points[1:]] + [float("inf")]
    return sum(point.scored for point, end in zip(points, ends, strict=True) if point.at <= ended and end > began)


def _since(view: View, began: float) -> int:
    """Scored requests of points that began since then: at most as many as came."""
    return sum(point.scored for point in view.timeline if point.at >= began)
