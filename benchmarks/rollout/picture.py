"""The picture of the results: samples until a verdict, by true difference, of a shadow and of canaries."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .. import theme
from .results import Power

if TYPE_CHECKING:
    import altair as alt

SHOWN = ("shadow, 5 % disagree", "canary, share .5", "canary, ramp")
_COLOURS = (theme.OURS, "#5b7fa8", "#b98a3e")
_WIDTH, _STEP = 620, 22
_TICKS = [10, 100, 1_000, 10_000, 100_000, 1_000_000]


def write(folder: Path, cells: Sequence[Power]) -> None:
    """results.svg and results.png."""
    made = chart([cell for cell in cells if cell.setting in SHOWN])
    made.save(str(folder / "results.svg"))
    made.save(str(folder / "results.png"), scale_factor=2)


def chart(cells: Sequence[Power]) -> alt.LayerChart:
    import altair as alt

    values = [_value(cell) for cell in cells]
    order = [_difference(difference) for difference in sorted({cell.difference for cell in cells})]
    base = alt.Chart(alt.Data(values=values)).encode(  # type: ignore[no-untyped-call]
        y=alt.Y("difference:N", sort=order, title=None),
        yOffset=alt.YOffset("setting:N", sort=list(SHOWN)),
        color=alt.Color(
            "setting:N",
            scale=alt.Scale(domain=list(SHOWN), range=list(_COLOURS)),
            legend=alt.Legend(title=None, orient="top", symbolType="circle", labelFontSize=12, labelColor=theme.INK),
        ),
    )
    x = alt.X(
        "low:Q", title="samples until a verdict", scale=alt.Scale(type="log"), axis=alt.Axis(format="~s", values=_TICKS)
    )
    text = base.mark_text(align="left", dx=7, fontSize=11)
    layers = (
        base.mark_rule(strokeWidth=2).encode(x=x, x2="high:Q"),
        base.mark_point(filled=True, size=60, opacity=1).encode(x="median:Q"),
        text.encode(x="high:Q", text=alt.Text("median:Q", format=",")),
    )
    title = theme.title(
        "A shadow decides with far fewer samples than a canary",
        "Median, and range of four fifths of runs; margin 0.5 points, loss of the old version in canaries .10",
        offset=12,
    )
    made: alt.LayerChart = (
        alt.layer(*layers)
        .properties(width=_WIDTH, height=_STEP * len(SHOWN) * len(order), title=title)
        .configure(**theme.config(label_size=12))
    )
    return made


def _value(cell: Power) -> dict[str, Any]:
    return {
        "setting": cell.setting,
        "difference": _difference(cell.difference),
        "median": cell.median or cell.limit,
        "low": cell.low,
        "high": cell.high or cell.limit,
    }


def _difference(difference: float) -> str:
    if not difference:
        return "equal"
    points = f"{abs(100 * difference):g} point{'' if abs(difference) == 0.01 else 's'}"
    return f"{points} {'worse' if difference > 0 else 'better'}"
