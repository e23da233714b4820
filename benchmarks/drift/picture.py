"""The picture of the results: how soon each shift is seen at equal rate, a column for each share of requests."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .. import theme
from .cells import NONE
from .results import OURS, Result
from .streams import CAP

if TYPE_CHECKING:
    import altair as alt

_WINDOWS, _PEER, _BEST = "#8ccfbf", "#c3cbd6", "#5b7fa8"
_KINDS = ("Shipworthy, both", "Shipworthy, one of both", "the best other one", "others")
_COLOURS = (theme.OURS, _WINDOWS, _BEST, _PEER)
_WIDTH, _STEP = 250, 22
_TICKS = [10, 100, 1000, CAP]


def write(folder: Path, rows: Sequence[Result]) -> None:
    """results.svg and results.png."""
    made = chart([row for row in rows if row.setting == "equal" and row.shift != NONE])
    made.save(str(folder / "results.svg"))
    made.save(str(folder / "results.png"), scale_factor=2)


def chart(rows: Sequence[Result]) -> alt.HConcatChart:
    import altair as alt

    shares = sorted({row.share for row in rows})
    panels = [_panel([row for row in rows if row.share == share], share, names=share == shares[0]) for share in shares]
    title = theme.title(
        "How soon drift is seen, at equal rates of false alarms",
        "Median samples until the alarm; 5 % of undrifted streams of 5,000 alarm. On the right edge: not seen",
    )
    joined: alt.HConcatChart = alt.hconcat(*panels, spacing=18, title=title).configure(**theme.config(names=True))
    return joined


def _panel(rows: Sequence[Result], share: float, *, names: bool) -> Any:
    import altair as alt

    values = _values(rows)
    order = list(dict.fromkeys(value["shift"] for value in values))
    base = alt.Chart(alt.Data(values=values)).encode(  # type: ignore[no-untyped-call]
        y=alt.Y("shift:N", sort=order, title=None, axis=alt.Axis(labels=names, labelLimit=240, grid=True)),
        x=alt.X(
            "delay:Q",
            title="samples",
            scale=alt.Scale(type="log", domain=[8, CAP * 1.15], nice=False),
            axis=alt.Axis(values=_TICKS, format=",", labelExpr=f"datum.value >= {CAP} ? 'not seen' : datum.label"),
        ),
    )
    colour = alt.Color(
        "kind:N",
        scale=alt.Scale(domain=list(_KINDS), range=list(_COLOURS)),
        legend=alt.Legend(title=None, orient="bottom", symbolType="circle", labelFontSize=12, labelColor=theme.INK)
        if names
        else None,
    )
    sizes = alt.Size("size:Q", scale=None)
    points = base.mark_point(filled=True, opacity=1).encode(color=colour, size=sizes)
    heading = alt.TitleParams(f"{share:.0%} affected".replace("%", " %"), anchor="start", fontSize=13, offset=8)
    return points.properties(width=_WIDTH, height=alt.Step(_STEP), title=heading)


def _values(rows: Sequence[Result]) -> list[dict[str, Any]]:
    """Those that matter most come last, and stand on top."""
    found = []
    for shift in dict.fromkeys((row.data, row.shift) for row in rows):
        here = [row for row in rows if (row.data, row.shift) == shift]
        best = min((row for row in here if not row.ours), key=lambda row: (row.median_delay, -row.power))
        for row in here:
            kind = 3 if row is not best and not row.ours else 2 if row is best else 0 if row.detector == OURS else 1
            found.append(
                {
                    "shift": f"{row.data}: {row.shift}",
                    "delay": row.median_delay,
                    "kind": _KINDS[kind],
                    "size": (95, 60, 60, 26)[kind],
                    "layer": -kind,
                }
            )
    order = list(dict.fromkeys(value["shift"] for value in found))
    return sorted(found, key=lambda value: (order.index(value["shift"]), value["layer"]))
