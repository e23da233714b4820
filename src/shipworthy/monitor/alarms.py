"""The alarms of one monitor: each raised once, and latched until somebody acknowledges it."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from hashlib import blake2b

from .view import Alarm, Detector

MOST = 50
"""Alarms that are remembered. Those that stand are never forgotten, nor what was acknowledged last of each detector:
labels are judged from then on."""


def alarm_id(*parts: object) -> str:
    """16 hexadecimal digits that these parts and no others have."""
    return blake2b("\0".join(map(str, parts)).encode(), digest_size=8).hexdigest()


@dataclass(frozen=True, slots=True)
class Acknowledgement:
    """Somebody has seen to an alarm."""

    alarm: str
    who: str
    why: str
    at: float
    """Seconds since 1970."""
    new_baseline: int = 0
    """So many of the rows that come next are the reference from then on, on each node; 0 keeps the one there is."""


class Alarms:
    def __init__(self, alarms: Iterable[Alarm] = ()) -> None:
        self._by_id = {alarm.id: alarm for alarm in alarms}

    @property
    def newest_first(self) -> tuple[Alarm, ...]:
        return ordered(self._by_id.values())

    def standing(self, detector: Detector) -> Alarm | None:
        """The alarm of this detector that nobody has acknowledged."""
        found = (alarm for alarm in self._by_id.values() if alarm.detector == detector)
        return next((alarm for alarm in found if alarm.acknowledged is None), None)

    @property
    def drifted(self) -> list[Alarm]:
        """Those of drift that nobody has acknowledged."""
        found = [self.standing("sequential"), self.standing("window")]
        return [alarm for alarm in found if alarm is not None]

    def __contains__(self, name: str) -> bool:
        return name in self._by_id

    def add(self, alarm: Alarm) -> None:
        self._by_id[alarm.id] = alarm
        last = {old.detector: old for old in sorted(self._by_id.values(), key=_answered)}
        kept = {old.id for old in (*last.values(), *filter(_stands, self._by_id.values()))}
        others = [old.id for old in ordered(self._by_id.values()) if old.id not in kept]
        for name in others[max(0, MOST - len(kept)) :]:
            del self._by_id[name]

    def acknowledge(self, name: str, at: float, who: str, why: str) -> Alarm | None:
        """The alarm as it is now; None where none of that id stands."""
        alarm = self._by_id.get(name)
        if alarm is None or alarm.acknowledged is not None:
            return None
        self._by_id[name] = replace(alarm, acknowledged=at, who=who, why=why)
        return self._by_id[name]


def ordered(alarms: Iterable[Alarm]) -> tuple[Alarm, ...]:
    """Newest first."""
    return tuple(sorted(alarms, key=lambda alarm: (-alarm.raised, alarm.id)))


def united(alarms: Iterable[Alarm]) -> tuple[Alarm, ...]:
    """Of those with one id, one that was acknowledged, where there is one: the first to be."""
    found: dict[str, Alarm] = {}
    for alarm in alarms:
        other = found.get(alarm.id)
        if other is None or _acknowledged(alarm) < _acknowledged(other):
            found[alarm.id] = alarm
    return ordered(found.values())


def answered(alarms: Iterable[Alarm], said: Iterable[Acknowledgement]) -> tuple[Alarm, ...]:
    """With what was said of those that stand."""
    by_alarm = {one.alarm: one for one in said}
    return tuple(
        replace(alarm, acknowledged=by_alarm[alarm.id].at, who=by_alarm[alarm.id].who, why=by_alarm[alarm.id].why)
        if alarm.acknowledged is None and alarm.id in by_alarm
        else alarm
        for alarm in alarms
    )


def _stands(alarm: Alarm) -> bool:
    return alarm.acknowledged is None


def _answered(alarm: Alarm) -> float:
    return float("-inf") if alarm.acknowledged is None else alarm.acknowledged


def _acknowledged(alarm: Alarm) -> float:
    return float("inf") if alarm.acknowledged is None else alarm.acknowledged
