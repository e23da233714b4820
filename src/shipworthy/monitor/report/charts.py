"""The pictures of the page, as Altair charts."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, TypeAlias

from ...pages import altair, drawn, layered
from ..view import Alarm, Quality, SignalView, View
from .axes import at_of, ends, kind, powers, when, x_of
from .histograms import bars
from .sequence import by_hour
from .words import alarms_that_stand

if TYPE_CHECKING:
    import altair as alt

Values: TypeAlias = list[dict[str, Any]]

ALARM, LIVE, REFERENCE, WELL = "#d0603f", "#3a7bd0", "#8a919c", "#0d9b7c"
_FLOOR = 1e-3
"""The least evidence that is drawn: its axis is logarithmic."""
_CEILING = 1e6
"""More is drawn as this: from the alarm on it says nothing new."""
_MARGIN = 52
"""Left of the pictures that stand below one another, so that their times do too."""
_HOURS = "%-d %b %H:%M"
_SIDES = ("reference", "live")


def evidence(view: View) -> alt.LayerChart | None:
    """The evidence over its threshold, with the alarms and the estimated beginning of what they are about."""
    values = [
        {"at": at_of(view, point.at), "evidence": max(_FLOOR, point.evidence), "scored": point.scored}
        for point in view.timeline
    ]
    if not values:
        return None
    values.append({**values[-1], "at": ends(view)[1], "scored": 0})  # the last span reaches until now
    alt = altair()
    top = min(_CEILING, max(10.0, 10.0 ** math.ceil(math.log10(max(value["evidence"] for value in values)))))
    y = alt.Y(
        "evidence:Q",
        title="evidence over its threshold",
        scale=alt.Scale(type="log", domain=[_FLOOR, top], nice=False, clamp=True),
        axis=alt.Axis(values=powers(top), format="~g", minExtent=_MARGIN),
    )
    tip = [when(view, "at"), alt.Tooltip("evidence:Q", format=".3g"), alt.Tooltip("scored:Q", format=",")]
    base = drawn(values).encode(x=x_of(view, "at"))
    line = base.mark_line(color=LIVE, strokeWidth=1.8, interpolate="step-after").encode(y=y, tooltip=tip)
    area = base.mark_area(color=LIVE, opacity=0.12, interpolate="step-after").encode(y=y, y2=alt.datum(_FLOOR))
    threshold = [{"y": 1.0, "text": "an alarm is raised here"}]
    rule = drawn(threshold).mark_rule(color=ALARM, strokeDash=[5, 4], strokeWidth=1.2).encode(y="y:Q")
    words = (
        drawn([{"at": values[0]["at"], **threshold[0]}])
        .mark_text(align="left", baseline="bottom", dy=-4, dx=2, fontSize=11, color=ALARM)
        .encode(x=x_of(view, "at"), y="y:Q", text="text:N")
    )
    marks = _marks(view, values[0]["at"], values[-1]["at"])
    return layered(*marks, area, line, rule, words, description="Evidence of drift over time", height=260)


def windows(view: View) -> alt.LayerChart | None:
    """The smallest corrected p-value of each window, as -log10."""
    values = [{"at": at_of(view, point.at), "log_p": point.log_p} for point in view.timeline if point.log_p is not None]
    if not values or view.promise is None:
        return None
    alt = altair()
    bound = -math.log10(view.promise.window_rate)
    top = max(bound * 1.3, *(value["log_p"] for value in values))
    y = alt.Y(
        "log_p:Q", title="−log₁₀ p", scale=alt.Scale(domain=[0, top]), axis=alt.Axis(tickCount=4, minExtent=_MARGIN)
    )
    tip = [when(view, "at"), alt.Tooltip("log_p:Q", title="-log10 p", format=".2f")]
    colour = alt.condition(alt.datum.log_p > bound, alt.value(ALARM), alt.value(LIVE))
    dots = drawn(values).mark_circle(size=34, opacity=0.85).encode(x=x_of(view, "at"), y=y, color=colour, tooltip=tip)
    rule = drawn([{"y": bound}]).mark_rule(color=ALARM, strokeDash=[5, 4], strokeWidth=1.2).encode(y="y:Q")
    first, last = (at_of(view, view.timeline[place].at) for place in (0, -1))
    marks = _marks(view, first, last, named=False)
    return layered(*marks, rule, dots, description="p-values of windows over time", height=120)


def histogram(signal: SignalView) -> alt.LayerChart:
    """Reference and live on one axis, each with an area of one."""
    alt = altair()
    x = alt.X("low:Q", title=signal.unit or signal.title, scale=alt.Scale(nice=False, zero=False))
    drawn_bars = bars(signal)
    reference = [bar for bar in drawn_bars if bar["side"] == "reference"]
    live = [bar for bar in drawn_bars if bar["side"] == "live"]
    y = alt.Y("height:Q", title=None, axis=alt.Axis(labels=False, grid=False))
    tip = ["side:N", "what:N", alt.Tooltip("share:Q", format=".2%")]
    filled = (
        drawn(reference)
        .mark_rect(opacity=0.45)
        .encode(x=x, x2="high:Q", y=y, y2=alt.datum(0), color=_side(), tooltip=tip)
    )
    outline = (
        drawn(live).mark_rect(opacity=0.42).encode(x=x, x2="high:Q", y=y, y2=alt.datum(0), color=_side(), tooltip=tip)
    )
    beyond = [bar for bar in drawn_bars if bar["beyond"]]
    said = drawn(beyond).mark_text(baseline="bottom", dy=-3, fontSize=11).encode(x="low:Q", y=y, text="beyond:N")
    return layered(filled, outline, said, description=f"{signal.title}: reference and live", height=170)


def shares(signal: SignalView, most: int = 24) -> alt.LayerChart:
    """Two bars for each class, those that moved most first where there are too many."""
    alt = altair()
    totals = [max(1, sum(counts)) for counts in (signal.reference, signal.live)]
    names = (*signal.classes, "missing")
    found = [
        (name, reference / totals[0], live / totals[1])
        for name, reference, live in zip(names, signal.reference, signal.live, strict=True)
        if name != "missing" or reference or live
    ]
    if len(found) > most:
        found = sorted(found, key=lambda one: -abs(one[2] - one[1]))[:most]
    values = [
        {"class": name, "side": side, "share": share}
        for name, *both in found
        for side, share in zip(_SIDES, both, strict=True)
    ]
    bar = (
        drawn(values)
        .mark_bar(opacity=0.9)
        .encode(
            x=alt.X("class:N", sort=[name for name, *_ in found], title=None, axis=alt.Axis(labelAngle=0, grid=False)),
            xOffset=alt.XOffset("side:N", sort=list(_SIDES)),
            y=alt.Y("share:Q", title=None, axis=alt.Axis(format="%", tickCount=4)),
            color=_side(),
            tooltip=["class:N", "side:N", alt.Tooltip("share:Q", format=".2%")],
        )
    )
    return layered(bar, description=f"{signal.title}: shares", height=170)


def means(view: View, place: int) -> alt.LayerChart | None:
    """The mean of one signal over time, beside that of the reference."""
    signal = view.signals[place]
    values = [
        {"at": at_of(view, point.at), "mean": point.means[place]}
        for point in view.timeline
        if place < len(point.means) and math.isfinite(point.means[place])
    ]
    if len(values) < 2:
        return None
    alt = altair()
    y = alt.Y("mean:Q", title="mean", scale=alt.Scale(zero=False), axis=alt.Axis(tickCount=4))
    tip = [when(view, "at"), alt.Tooltip("mean:Q", format=".4g")]
    line = drawn(values).mark_line(color=LIVE, strokeWidth=1.6).encode(x=x_of(view, "at"), y=y, tooltip=tip)
    layers = [*_marks(view, values[0]["at"], values[-1]["at"], named=False), line]
    if math.isfinite(signal.reference_mean):
        rule = drawn([{"mean": signal.reference_mean}]).mark_rule(color=REFERENCE, strokeDash=[4, 3], strokeWidth=1.4)
        layers.append(rule.encode(y="mean:Q"))
    return layered(*layers, description=f"Mean of {signal.title} over time", height=110)


def quality(told: Quality) -> alt.LayerChart | None:
    """The mean of each hour, with what is proven of all of them, and the level that was accepted."""
    hours = [hour for hour in told.by_hour if hour[0] > 0]  # what is older than all hours that are kept has none
    values = [{"at": at * 1000, "labels": labels, "value": value} for at, labels, value in hours]
    if not values:
        return None
    alt = altair()
    proven = [{"at": at * 1000, "low": low, "high": high} for at, low, high in by_hour(told) if at > 0]
    lowest = min(told.lower, told.level or 1.0, *(value["value"] for value in values))
    scale = alt.Scale(domain=[max(0.0, lowest - 0.04), 1.0], zero=False, nice=False)
    y = alt.Y("value:Q", title=told.metric, scale=scale, axis=alt.Axis(tickCount=5))
    when = alt.Tooltip("utcyearmonthdatehours(at):T", title="UTC")
    tip = [when, alt.Tooltip("value:Q", format=".3f"), alt.Tooltip("labels:Q", format=",")]
    size = alt.Size("labels:Q", scale=alt.Scale(range=[20, 160]), legend=None)
    x = alt.X(
        "at:T", title=None, scale=alt.Scale(type="utc"), axis=alt.Axis(grid=False, labelOverlap=True, format=_HOURS)
    )
    base = drawn(values).encode(x=x, y=y)
    bound = {"y": alt.Y("low:Q", title=told.metric, scale=scale), "y2": "high:Q"}
    if proven:
        band = drawn(proven).mark_area(color=LIVE, opacity=0.15).encode(x=x, **bound)
    else:
        band = drawn([{"low": told.lower, "high": told.upper}]).mark_rect(color=LIVE, opacity=0.13).encode(**bound)
    dots = base.mark_circle(color=LIVE, opacity=0.9).encode(size=size, tooltip=tip)
    layers = [band, base.mark_line(color=LIVE, strokeWidth=1.3), dots]
    if told.level is not None:
        rule = drawn([{"level": told.level}]).mark_rule(color=ALARM, strokeDash=[5, 4], strokeWidth=1.3)
        layers.append(rule.encode(y=alt.Y("level:Q", title=told.metric, scale=scale)))
    return layered(*layers, description=f"{told.metric} over time", height=240)


def _marks(view: View, first: float, last: float, *, named: bool = True) -> list[Any]:
    """A band from the estimated beginning to the alarm, for those alarms that can be seen; names beside the first."""
    alt = altair()
    found: list[Any] = []
    for place, alarm in enumerate(_drawn_alarms(view)):
        began, raised = max(first, at_of(view, alarm.began)), min(last, at_of(view, alarm.raised))
        if raised < first or began > last:
            continue
        x = x_of(view, "from")
        band = drawn([{"from": began, "to": raised}]).mark_rect(color=ALARM, opacity=0.1)
        found.append(band.encode(x=x, x2="to:" + kind(view)))
        for at, dash in ((began, [2, 3]), (raised, [1, 0])):
            line = drawn([{"from": at}]).mark_rule(color=ALARM, strokeDash=dash, strokeWidth=1.3)
            found.append(line.encode(x=x))
        if named and place == 0:
            for at, text, align, dx in (
                (began, "estimated beginning", "right", -5),
                (raised, "alarm", "left", 5),
            ):
                words = drawn([{"from": at, "text": text}]).mark_text(
                    align=align, dx=dx, dy=10, baseline="top", fontSize=11.5, fontWeight=600, color=ALARM
                )
                found.append(words.encode(x=x, y=alt.value(0), text="text:N"))
    return found


def _drawn_alarms(view: View) -> Sequence[Alarm]:
    """Those that stand, the first one first; one for each detector."""
    by_detector: dict[str, Alarm] = {}
    for alarm in sorted(alarms_that_stand(view), key=lambda one: one.raised):
        by_detector.setdefault(alarm.detector, alarm)
    return list(by_detector.values())[:1]


def _side() -> Any:
    alt = altair()
    scale = alt.Scale(domain=list(_SIDES), range=[REFERENCE, LIVE])
    return alt.Color("side:N", scale=scale, legend=None)
