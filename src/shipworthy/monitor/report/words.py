"""What the page says: a headline, a few figures, and moments in time."""

from __future__ import annotations

import math
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Literal

from ..telling import number
from ..view import Alarm, View

Tone = Literal["bad", "wary", "well"]
_WORST = ("slight", "moderate", "large")


@dataclass(frozen=True, slots=True)
class Tile:
    """One figure of the headline, with what it is and what bounds it."""

    label: str
    value: str
    note: str
    tone: Tone | Literal[""] = ""


@dataclass(frozen=True, slots=True)
class Headline:
    """How a version is."""

    tone: Tone
    title: str
    lead: str
    tiles: tuple[Tile, ...]


def headline(view: View) -> Headline:
    standing = alarms_that_stand(view)
    quality = view.quality
    tiles = tuple(tile for tile in (_evidence(view), _quality(view), _estimate(view), _scored(view)) if tile)
    if quality is not None and quality.below:
        drifts = [alarm for alarm in standing if alarm.detector != "quality"]
        lead = f"{quality.labels:,} labels prove that {quality.metric} is below {score(quality.level)}. "
        return Headline("bad", f"{quality.metric} has fallen", lead + _told(view, drifts or standing), tiles)
    if standing:
        worst = max(standing, key=lambda alarm: _WORST.index(alarm.severity))
        title = {"slight": "has drifted slightly", "moderate": "has drifted", "large": "has drifted far"}[
            worst.severity
        ]
        return Headline("bad", title, _told(view, standing), tiles)
    if view.collecting is not None:
        have, wanted = view.collecting
        lead = f"{have:,} of {wanted:,} requests are there; until then nothing is compared, and no alarm can come."
        return Headline("wary", "is collecting its reference", lead, tiles)
    lead = f"In {view.scored:,} scored requests since {moment(view, view.since)} no alarm stands."
    return Headline("well", "is as it was", lead, tiles)


def alarms_that_stand(view: View) -> list[Alarm]:
    return [alarm for alarm in view.alarms if alarm.acknowledged is None]


def moment(view: View, at: float) -> str:
    """`2026-11-22 14:05 UTC`, or a row of a file."""
    if view.clock == "rows":
        return f"row {at:,.0f}"
    return datetime.fromtimestamp(at, UTC).strftime("%Y-%m-%d %H:%M UTC")


def span(view: View, first: float, last: float) -> str:
    """How long one moment is after another: `3 min`, `2.5 h`, `400 rows`."""
    length = max(0.0, last - first)
    if view.clock == "rows":
        return f"{length:,.0f} rows"
    for size, unit in ((86_400, "d"), (3600, "h"), (60, "min")):
        if length >= size:
            return f"{length / size:.2g} {unit}" if length < 10 * size else f"{length / size:.0f} {unit}"
    return f"{length:.0f} s"


def score(value: float | None) -> str:
    return "–" if value is None or math.isnan(value) else f"{value:.3f}"


def evidence(value: float) -> str:
    """More than a million times the threshold says nothing more."""
    return number(value) if value < 1e6 else "> 1,000,000"


def percent(value: float) -> str:
    return f"{100 * value:.3g} %"


def _told(view: View, standing: list[Alarm]) -> str:
    """What moved, and since when: of the alarm that was raised first."""
    if not standing:
        return ""
    first = min(standing, key=lambda alarm: alarm.raised)
    late = span(view, first.began, first.raised)
    when = "" if moment(view, first.began) == moment(view, first.raised) else f", at {moment(view, first.raised)}"
    begun = f"It is estimated to have begun at {moment(view, first.began)}"
    return f"{_what(first)}. {begun}; the alarm came {late} later{when}."


def said(alarm: Alarm) -> str:
    """Its summary, without the name that the page is about."""
    return alarm.summary.removeprefix(f"{alarm.model}:{alarm.version} drifts: ")


def _what(alarm: Alarm) -> str:
    if not alarm.moved:
        return alarm.summary.rstrip(".").removeprefix(f"{alarm.model}:{alarm.version} ")
    others = len(alarm.moved) - 1
    more = f", and {others} more signal{'s' * (others > 1)} moved" if others else ""
    return f"Most moved: {alarm.moved[0].words.rstrip('.')}{more}"


def _evidence(view: View) -> Tile | None:
    if not view.signals:
        return None
    most = max(view.signals, key=lambda signal: signal.evidence)
    tone: Tone = "bad" if most.evidence >= 1 or alarms_that_stand(view) else "well"
    return Tile("evidence of drift over its threshold", evidence(most.evidence), f"most in: {most.title}", tone)


def _quality(view: View) -> Tile | None:
    quality = view.quality
    if quality is None or quality.value is None:
        return None
    accepted = "" if quality.level is None else f"; accepted at {score(quality.level)}"
    note = (
        f"{score(quality.lower)} to {score(quality.upper)} at {percent(quality.confidence)}, at all times at once, "
        f"from {quality.labels:,} labels{accepted}"
    )
    return Tile(f"{quality.metric}, by labels", score(quality.value), note, "bad" if quality.below else "")


def _estimate(view: View) -> Tile | None:
    if view.estimate is None:
        return None
    note = f"an estimate, by {view.estimate.method}; on the reference it is {score(view.estimate.reference)}"
    return Tile("accuracy without labels, estimated", f"≈ {score(view.estimate.value)}", note)


def _scored(view: View) -> Tile:
    lost = f"; {view.unscored:,} were chosen and lost" if view.unscored else ""
    return Tile("requests were scored", f"{view.scored:,}", f"of {view.requests:,} that were answered{lost}")
