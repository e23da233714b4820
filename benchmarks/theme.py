"""How the pictures of all benchmarks look."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import altair as alt

FONT = "ui-sans-serif, system-ui, 'Segoe UI', 'Helvetica Neue', 'Liberation Sans', sans-serif"
OURS = "#0d9b7c"
INK, MUTED, LINE, GRID = "#1f2733", "#667080", "#cfd5dc", "#e8e6e1"


def title(text: str, subtitle: str, offset: int = 18) -> alt.TitleParams:
    import altair as alt

    return alt.TitleParams(
        text,
        subtitle=subtitle,
        anchor="start",
        fontSize=18,
        subtitleFontSize=12,
        subtitleColor=MUTED,
        offset=offset,
    )


def config(*, names: bool = False, label_size: int = 11) -> dict[str, Any]:
    """Keywords of a chart's `configure`. With `names` the y axis has names instead of numbers."""
    axis = {"domain": False, "ticks": False, "gridColor": GRID, "labelColor": MUTED, "titleColor": MUTED}
    fonts = {"labelFont": FONT, "titleFont": FONT, "labelFontSize": label_size, "titleFontSize": 11}
    every = {**axis, **fonts, "labelPadding": 6}
    axes: dict[str, Any] = {"axis": {**every, "titleFontWeight": "normal"}}
    if names:
        axes = {
            "axisX": {**every, "titleFontWeight": "normal", "grid": True},
            "axisY": {**every, "labelColor": INK, "grid": False},
        }
    return {
        "background": "white",
        "font": FONT,
        "padding": 24,
        "view": {"stroke": None},
        **axes,
        "title": {"font": FONT, "color": INK, "subtitleFont": FONT},
    }
