"""The axes of time and of evidence that pictures share, and what a moment is on them."""

from __future__ import annotations

import math
from typing import Any

from ...pages import altair
from ..view import View

_DAY_S = 86_400.0
_SHORT_S = 900.0


def powers(top: float) -> list[float]:
    """Of ten, from a thousandth up to `top`."""
    return [10.0**power for power in range(-3, round(math.log10(top)) + 1)]


def at_of(view: View, at: float) -> float:
    """Vega counts milliseconds."""
    return at if view.clock == "rows" else at * 1000


def ends(view: View) -> list[float]:
    """The first and the last moment of the timeline: one axis for all its pictures."""
    return [at_of(view, view.timeline[0].at), at_of(view, max(view.timeline[-1].at, view.updated))]


def kind(view: View) -> str:
    """How Vega calls what moments are: a number of rows, or a time."""
    return "Q" if view.clock == "rows" else "T"


def x_of(view: View, field: str) -> Any:
    """The axis of moments, which are in a field."""
    alt = altair()
    if view.clock == "rows":
        scale = alt.Scale(nice=False, zero=False, domain=ends(view))
        return alt.X(f"{field}:Q", title="row", scale=scale, axis=alt.Axis(grid=False))
    moments = [point.at for point in view.timeline] or [0.0]
    lasting = moments[-1] - moments[0]
    form = "%-d %b" if lasting > 2 * _DAY_S else "%H:%M" if lasting > _SHORT_S else "%H:%M:%S"
    axis = alt.Axis(grid=False, labelOverlap=True, tickCount=8, format=form)
    return alt.X(f"{field}:T", title=None, scale=alt.Scale(type="utc", domain=ends(view), nice=False), axis=axis)


def when(view: View, field: str) -> Any:
    """The same in a tooltip."""
    alt = altair()
    if view.clock == "rows":
        return alt.Tooltip(f"{field}:Q", title="row", format=",")
    return alt.Tooltip(f"utcyearmonthdatehoursminutes({field}):T", title="UTC")
