"""The picture of the results: goodput against offered load, a line for each server, and what its steps ranged over."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .. import theme
from .open_loop import WORKLOAD
from .results import Result

if TYPE_CHECKING:
    import altair as alt

_PEERS = ("#5b7fa8", "#b98a3e", "#8d6aa8", "#a85b6c", "#6b7f3e", "#7a6a5a", "#3e8a9c")
"""From the first again, where there are more."""
_WIDTH, _HEIGHT = 620, 340
_LABEL = 0.06
"""Height of a name, as a share of the highest point."""


def write(folder: Path, rows: Sequence[Result]) -> None:
    """results.svg and results.png; nothing where no server was under open load."""
    climbed = [row for row in rows if row.workload == WORKLOAD and row.goodput_rps is not None]
    if climbed:
        made = chart(climbed)
        made.save(str(folder / "results.svg"))
        made.save(str(folder / "results.png"), scale_factor=2)


def chart(rows: Sequence[Result]) -> alt.LayerChart:
    """Of rows of the open load."""
    import altair as alt

    names = sorted({row.server for row in rows}, key=lambda name: not any(r.ours for r in rows if r.server == name))
    peers = itertools.cycle(_PEERS)
    colours = [theme.OURS if any(row.ours for row in rows if row.server == name) else next(peers) for name in names]
    capacity = max(row.capacity_rps or 0.0 for row in rows)
    most = max(row.offered_rps or 0.0 for row in rows)
    highest = max(capacity, *(_point(row)["high"] for row in rows))
    x = alt.X("offered:Q", title="offered load, requests/s", scale=alt.Scale(domain=[0, most * 1.16], nice=False))
    y = alt.Y("goodput:Q", title="answered within the target, requests/s", scale=alt.Scale(domain=[0, highest * 1.15]))
    colour = alt.Color("server:N", scale=alt.Scale(domain=names, range=colours), legend=None)
    base = alt.Chart(_data([_point(row) for row in rows])).encode(x=x, y=y, color=colour)
    ideal = [{"offered": at, "goodput": at} for at in (0.0, capacity)] + [{"offered": most, "goodput": capacity}]
    ends = [_point(max((r for r in rows if r.server == name), key=lambda r: r.offered_rps or 0.0)) for name in names]
    layers = (
        alt.Chart(_data(ideal)).mark_line(color=theme.LINE, strokeWidth=1.2, strokeDash=[4, 4]).encode(x=x, y=y),
        base.mark_line(strokeWidth=2.2),
        base.mark_rule(strokeWidth=1.2, opacity=0.7).encode(y=alt.Y("low:Q"), y2="high:Q"),
        base.mark_point(filled=True, size=46, opacity=1),
        alt.Chart(_data(_apart(ends, gap=_LABEL * highest)))
        .mark_text(align="left", dx=9, fontSize=12)
        .encode(x=x, y=alt.Y("label:Q"), text="server:N", color=colour),
    )
    target = rows[0].target_ms or 0.0
    title = theme.title(
        f"Answers within {target:g} ms as load rises",
        f"ResNet-50 int8, 150 KB bodies, Poisson arrivals; dashed: what is offered, up to {capacity:.0f}/s",
    )
    made: alt.LayerChart = (
        alt.layer(*layers).properties(width=_WIDTH, height=_HEIGHT, title=title).configure(**theme.config())
    )
    return made


def _data(values: list[dict[str, Any]]) -> Any:
    import altair as alt

    return alt.Data(values=values)  # type: ignore[no-untyped-call]


def _point(row: Result) -> dict[str, Any]:
    low = row.goodput_rps if row.goodput_low_rps is None else row.goodput_low_rps
    high = row.goodput_rps if row.goodput_high_rps is None else row.goodput_high_rps
    return {"server": row.server, "offered": row.offered_rps, "goodput": row.goodput_rps, "low": low, "high": high}


def _apart(ends: Sequence[dict[str, Any]], gap: float) -> list[dict[str, Any]]:
    """Where the names of the lines stand: at their ends, and none on another."""
    placed: list[dict[str, Any]] = []
    for end in sorted(ends, key=lambda end: -end["goodput"]):
        below = placed[-1]["label"] - gap if placed else end["goodput"]
        placed.append({**end, "label": min(end["goodput"], below)})
    return placed
