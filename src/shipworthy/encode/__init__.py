"""What callers send (JSON, images, texts, records) to arrays; the same code at build time and when serving."""

from .codec import Codec
from .images import MAX_PIXELS
from .stacking import stack

__all__ = ["MAX_PIXELS", "Codec", "stack"]
