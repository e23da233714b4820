"""How charts look, and how they become a specification or a picture."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

from ..errors import MissingExtra

if TYPE_CHECKING:
    import altair as alt

FONT = "ui-sans-serif, system-ui, 'Segoe UI', 'Helvetica Neue', 'Liberation Sans', sans-serif"

# On the page, the style sheet overrides the ink of text, axes and grids, so that they follow light and dark.
INK, MUTED, LINE = "#1f2733", "#667080", "#e4e1da"


def altair() -> Any:
    """The library; raises MissingExtra where it is not installed."""
    try:
        import altair
    except ImportError as error:
        raise MissingExtra("the report", "altair", "build") from error
    return altair


def drawn(values: Iterable[Mapping[str, Any]]) -> Any:
    """An alt.Chart; its builders take what they are given, so nothing is gained by their types."""
    alt = altair()
    return alt.Chart(alt.Data(values=[dict(value) for value in values]))


def layered(*charts: Any, description: str, height: int) -> alt.LayerChart:
    layered: alt.LayerChart = (
        altair().layer(*charts).properties(width="container", height=height, description=description)
    )
    return layered


def chart_spec(chart: alt.LayerChart) -> dict[str, Any]:
    """Vega-Lite JSON with the report's looks; its data is inside."""
    # Half of the time of a page would be spent on proving what tests prove.
    spec: dict[str, Any] = chart.to_dict(validate=False)
    # The schema's address would be the page's only link to another host's file.
    spec.pop("$schema", None)
    spec["config"] = _config()
    return spec


def chart_png(chart: alt.LayerChart, *, width: int, height: int, scale: float) -> bytes:
    """PNG on white, `width` × `height` points at `scale` pixels each."""
    try:
        import vl_convert
    except ImportError as error:
        raise MissingExtra("the report", "vl_convert", "build") from error
    spec = chart_spec(chart.properties(width=width, height=height))
    spec["background"], spec["padding"] = "#ffffff", 18
    png: bytes = vl_convert.vegalite_to_png(spec, scale=scale)
    return png


def _config() -> dict[str, Any]:
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
