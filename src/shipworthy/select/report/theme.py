"""How the charts look: one palette for light and dark paper, a shape for each verdict so that colour is never alone."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from .view import VERDICTS

if TYPE_CHECKING:
    import altair as alt

FONT = "ui-sans-serif, system-ui, 'Segoe UI', 'Helvetica Neue', 'Liberation Sans', sans-serif"

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

# On the page, the style sheet overrides the ink of text, axes and grids, so that they follow light and dark.
INK, MUTED, LINE = "#1f2733", "#667080", "#e4e1da"


def config() -> dict[str, Any]:
    """A Vega-Lite config: quiet axes, no frame, transparent paper."""
    axis = {
        "domain": False,
        "ticks": False,
        "grid": True,
        "gridColor": LINE,
        "labelColor": MUTED,
        "labelFontSize": 11,
        "labelPadding": 6,
        "titleColor": MUTED,
        "titleFontSize": 11.5,
        "titleFontWeight": "normal",
        "titlePadding": 10,
        "labelFont": FONT,
        "titleFont": FONT,
    }
    legend = {
        "labelColor": MUTED,
        "labelFont": FONT,
        "labelFontSize": 12,
        "title": None,
        "orient": "top",
        "symbolSize": 90,
        "columnPadding": 18,
    }
    return {
        "background": "transparent",
        "font": FONT,
        "view": {"stroke": None},
        "axis": axis,
        "legend": legend,
        "text": {"color": INK, "font": FONT},
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
