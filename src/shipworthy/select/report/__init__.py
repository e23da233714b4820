"""A build record as people read it: one HTML page that needs no network, a Markdown card, a table for the terminal."""


from .charts import chart_png
from .page import render_html

__all__ = ["chart_png","render_html"]
