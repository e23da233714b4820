"""Memory of models that come and go, back to the system; with glibc's allocator, and nothing with others."""

from __future__ import annotations

import ctypes
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache

_M_TRIM_THRESHOLD = -1
_M_MMAP_THRESHOLD = -3
"""Names of settings in malloc.h."""
_APART = 2**20
_TOGETHER = 2**25
"""The largest that glibc itself comes to, on 64 bits, in a process that frees large blocks; its trim threshold is
twice that."""


@contextmanager
def blocks_apart() -> Iterator[None]:
    """Inside, blocks of a mebibyte and more are mapped one by one, so that freeing a model's weights returns them.

    Else they lie in the arena of whichever thread asked for them, and the end of an arena is never given back.
    Outside, buffers of requests are kept and used again, because mapping them anew costs more than copying them."""
    glibc = _glibc()
    if glibc is None:
        yield
        return
    glibc.mallopt(_M_MMAP_THRESHOLD, _APART)
    try:
        yield
    finally:
        glibc.mallopt(_M_MMAP_THRESHOLD, _TOGETHER)
        glibc.mallopt(_M_TRIM_THRESHOLD, 2 * _TOGETHER)


def give_back() -> None:
    """Have the allocator return its free pages: without it, the size of a process stays at that of its largest moment,
    with the old and the new version of a model side by side. Takes a few milliseconds."""
    glibc = _glibc()
    if glibc is not None:
        glibc.malloc_trim(0)


@cache
def _glibc() -> ctypes.CDLL | None:
    """None with another C library (musl, macOS, Windows)."""
    if not sys.platform.startswith("linux"):
        return None
    library = ctypes.CDLL(None)
    return library if hasattr(library, "malloc_trim") and hasattr(library, "gnu_get_libc_version") else None
