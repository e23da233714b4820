"""How verdicts look: one palette for light and dark paper, a shape for each so that colour is never alone."""

from __future__ import annotations

from typing import TYPE_CHECKING

from .view import VERDICTS

if TYPE_CHECKING:
    import altair as alt

COLOURS = {
    "chosen": "#0d9b7c",
    "accepted": "#3a7bd0",
    "baseline": "#8a919c",
    "rejected": "#d0603f",
    "skipped": "#b4b9c0",
}
SHAPES = {
    "chosen": "diamond",
    "accepted": "circle",
    "baseline": "square",
    "rejected": "cross",
    "skipped": "triangle-down",
}


def verdict_colour(*, legend: bool) -> alt.Color:
    import altair as alt

    return alt.Color("verdict:N", scale=_scale(COLOURS), legend=alt.Legend() if legend else None)


def verdict_shape(*, legend: bool) -> alt.Shape:
    import altair as alt

    return alt.Shape("verdict:N", scale=_scale(SHAPES), legend=alt.Legend() if legend else None)


def _scale(values: dict[str, str]) -> alt.Scale:
    import altair as alt

    return alt.Scale(domain=list(VERDICTS), range=[values[verdict] for verdict in VERDICTS])
