"""What callers send (JSON, images, texts, records) to arrays; the same code at build time and when serving."""

from .codec import Codec
from .images import MAX_PIXELS
from .padding import Padding
from .rows import Rows
from .stacking import stack

__all__ = ["MAX_PIXELS", "Codec", "Padding", "Rows", "stack"]
