"""Pages of one file each, with everything inside: what builds and monitors share of their looks and their charts."""

from .charts import INK, LINE, MUTED, altair, chart_png, chart_spec, drawn, layered
from .html import script_json, templates, vega

__all__ = [
    "INK",
    "LINE",
    "MUTED",
    "altair",
    "chart_png",
    "chart_spec",
    "drawn",
    "layered",
    "script_json",
    "templates",
    "vega",
]
