"""Where the user wants something written: found wrong before the work, not after it."""

from __future__ import annotations

import os
from pathlib import Path

from ..errors import ShipworthyError


def check_file(path: Path) -> None:
    """Raises ShipworthyError where no file can be written at `path`, as where it is a folder."""
    if path.is_dir():
        raise ShipworthyError(str(path), "is a folder", "give the name of a file")
    check_place(path)


def check_place(path: Path) -> None:
    """Raises ShipworthyError where nothing can be written at `path`."""
    folder = path.parent
    if not folder.is_dir():
        raise ShipworthyError(str(path), f"there is no folder {folder}", f"make it first: mkdir -p {folder}")
    if not os.access(folder, os.W_OK):
        raise ShipworthyError(str(path), f"the folder {folder} cannot be written to", "give another place")
    if path.suffix and path.is_dir():
        raise ShipworthyError(str(path), "is a folder", "give the name of a file")
