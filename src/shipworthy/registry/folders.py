"""Files in a folder that have their name when they are whole and on the disk, and not before."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

LEFT_S = 60.0
"""After how long an empty file was left by a process that ended, which would have written it within milliseconds."""


@contextmanager
def appearing(part: Path, target: Path, *, once: bool = False) -> Iterator[BinaryIO]:
    """A file to write to, called `part` until the end and `target` then; nothing of it stays where that fails.

    With `once` a file that has that name already keeps it."""
    try:
        with part.open("xb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        if once:
            _name_once(part, target)
        else:
            part.replace(target)
    finally:
        part.unlink(missing_ok=True)
    sync_folder(target.parent)


def sync_folder(folder: Path) -> None:
    """A new name is on the disk when its folder is."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _name_once(part: Path, target: Path) -> None:
    try:
        os.link(part, target)
    except FileExistsError:
        free = _is_left(target)
    except OSError:  # a file system without links: the name is taken first, and for a moment the file is empty
        free = _take(target) or _is_left(target)
    else:
        return
    if free:
        part.replace(target)


def _take(target: Path) -> bool:
    try:
        os.close(os.open(target, os.O_WRONLY | os.O_CREAT | os.O_EXCL))
    except FileExistsError:
        return False
    return True


def _is_left(file: Path) -> bool:
    found = file.stat()
    return found.st_size == 0 and time.time() - found.st_mtime > LEFT_S
