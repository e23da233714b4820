"""What goes wrong between notebook and production, found before anything is exported."""

from .explanations import Explanation, explain

__all__ = ["Explanation", "explain"]
