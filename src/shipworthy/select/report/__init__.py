"""A build record as people read it: one HTML page that needs no network, a Markdown card, a table for the terminal."""

from .card import render_card
from .charts import chart_png
from .page import render_html
from .table import render_table

__all__ = ["chart_png", "render_card", "render_html", "render_table"]
