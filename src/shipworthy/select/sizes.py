"""What a candidate's files weigh."""

from __future__ import annotations

import zlib
from pathlib import Path

_PIECE = 1 << 20
_LEVEL = 6


def folder_bytes(folder: Path) -> int:
    return sum(file.stat().st_size for file in _files(folder))


def zipped_bytes(folder: Path) -> int:
    """Each file deflated by itself, as a zip archive holds it."""
    return sum(_deflated(file) for file in _files(folder))


def _files(folder: Path) -> list[Path]:
    return [file for file in folder.rglob("*") if file.is_file()]


def _deflated(file: Path) -> int:
    squeeze, total = zlib.compressobj(_LEVEL), 0
    with file.open("rb") as stream:
        while piece := stream.read(_PIECE):
            total += len(squeeze.compress(piece))
    return total + len(squeeze.flush())
