"""What a monitor has seen of a model, as one page that works offline."""

from .page import render_html

__all__ = ["render_html"]
