"""A view as a few lines of text."""

from __future__ import annotations

import math
import time

from .view import Alarm, SignalView, View

_MOST = 6


def told(view: View) -> str:
    """For a terminal or a notebook: what was seen, the alarms that stand, and what has moved most."""
    name = f"{view.model}:{view.version}" if view.version else view.model
    lines = [f"{name}: {view.scored:,} scored of {view.requests:,} requests"]
    if view.collecting is not None:
        lines.append(f"  collecting a reference: {view.collecting[0]:,} of {view.collecting[1]:,} requests")
    standing = [alarm for alarm in view.alarms if alarm.acknowledged is None]
    lines += [line for alarm in standing for line in _alarm(alarm, view.clock)]
    if not standing and view.promise is not None:
        lines.append("  no alarm stands")
    moved = sorted(view.signals, key=lambda signal: (-signal.evidence, -signal.distance))[:_MOST]
    lines += [_signal(signal) for signal in moved] if view.scored else []
    if view.quality is not None and view.quality.value is not None:
        quality = view.quality
        lines.append(
            f"  {quality.metric} {quality.value:.4g} by {quality.labels:,} labels, "
            f"{quality.lower:.4g} to {quality.upper:.4g} at {quality.confidence:.0%}"
        )
    if view.estimate is not None:
        lines.append(f"  accuracy without labels: {view.estimate.value:.3g}, an estimate by {view.estimate.method}")
    lines += [f"  note: {note}" for note in view.notes]
    return "\n".join(lines)


def moment(at: float, clock: str) -> str:
    """A time as a person reads it."""
    return f"row {at:,.0f}" if clock == "rows" else time.strftime("%Y-%m-%d %H:%M:%S UTC", time.gmtime(at))


def number(value: float) -> str:
    """Three digits, whatever its size: 0.0012, 3.42, 12,400, 1e+09."""
    if math.isnan(value):
        return "–"
    return f"{value:,.0f}" if 1000 <= abs(value) < 1e7 else f"{value:.3g}"


def _alarm(alarm: Alarm, clock: str) -> list[str]:
    first = f"  ALARM {alarm.id} ({alarm.severity}), raised {moment(alarm.raised, clock)}"
    return [f"{first}, began about {moment(alarm.began, clock)}", f"    {alarm.summary}"]


def _signal(signal: SignalView) -> str:
    p_value = "" if signal.p_value is None else f", window p {signal.p_value:.2g}"
    return f"  {signal.title}: evidence {signal.evidence:.2g} of 1, distance {signal.distance:.2f}{p_value}"
