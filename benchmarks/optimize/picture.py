"""The picture of the results: a panel per model, a bar per row, and the interval of its ratio."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .. import theme
from .results import Result
from .rows import ROWS
from .subject import SUBJECTS

if TYPE_CHECKING:
    import altair as alt

_PEER, _EAGER, _FAILED = "#9aa7b8", "#cfd5dc", "#d0603f"
_WIDTH, _STEP, _COLUMNS = 330, 21, 2


def write(folder: Path, rows: Sequence[Result]) -> None:
    """results.svg and results.png."""
    made = chart(rows)
    made.save(str(folder / "results.svg"))
    made.save(str(folder / "results.png"), scale_factor=2)


def chart(rows: Sequence[Result]) -> alt.ConcatChart:
    import altair as alt

    titles = {subject.name: subject.title for subject in SUBJECTS}
    panels = [
        _panel(titles.get(model, model), [row for row in rows if row.model == model])
        for model in dict.fromkeys(row.model for row in rows)
    ]
    title = theme.title(
        "Throughput against eager PyTorch",
        "each at its best operating point, in interleaved rounds; lines are 95 % intervals",
    )
    joined: alt.ConcatChart = alt.concat(*panels, columns=_COLUMNS, spacing=36, title=title).configure(
        **theme.config(names=True)
    )
    return joined


def _panel(title: str, rows: Sequence[Result]) -> Any:
    import altair as alt

    values = [_values(row) for row in rows]
    most = max((row.ratio_high or row.ratio_to_eager or 1.0) for row in rows)
    names = [value["name"] for value in values]
    base = alt.Chart(alt.Data(values=values)).encode(  # type: ignore[no-untyped-call]
        y=alt.Y("name:N", sort=names, title=None, axis=alt.Axis(labelLimit=200))
    )
    scale = alt.Scale(domain=[0, most * 1.22], nice=False)
    bars = base.mark_bar(height=13, cornerRadiusEnd=2).encode(
        x=alt.X("ratio:Q", title="× eager", scale=scale, axis=alt.Axis(tickCount=5)),
        color=alt.Color("colour:N", scale=None),
    )
    spread = base.mark_rule(color=theme.INK, strokeWidth=1.2).encode(x=alt.X("low:Q", scale=scale), x2="high:Q")
    labels = base.mark_text(align="left", dx=6, fontSize=11).encode(
        x=alt.X("high:Q", scale=scale), text="label:N", color=alt.Color("ink:N", scale=None)
    )
    heading = alt.TitleParams(title, anchor="start", fontSize=13, offset=8)
    return alt.layer(bars, spread, labels).properties(width=_WIDTH, height=alt.Step(_STEP), title=heading)


def _values(row: Result) -> dict[str, Any]:
    titles = {one.name: one.title for one in ROWS}
    ratio = row.ratio_to_eager or 0.0
    failed = row.error is not None
    return {
        "name": titles.get(row.row, row.row),
        "ratio": ratio,
        "low": row.ratio_low if row.ratio_low is not None else ratio,
        "high": row.ratio_high if row.ratio_high is not None else ratio,
        "label": "failed" if failed else f"{ratio:.1f}" + (f"  {row.precision}" if row.precision else ""),
        "colour": theme.OURS if row.ours else _EAGER if row.row == "eager" else _PEER,
        "ink": _FAILED if failed else theme.OURS if row.ours else theme.INK,
    }
