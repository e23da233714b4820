"""Packages that the tests read, copy and break."""

from __future__ import annotations

import hashlib
import json
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

STORED = Path(__file__).parent / "stored"
sys.path.insert(0, str(STORED))


@pytest.fixture(scope="session")
def stored() -> Path:
    """The checked-in package of format 1, as a folder."""
    return STORED / "format1"


@pytest.fixture(scope="session")
def stored_ship() -> Path:
    """The checked-in package of format 1, as one file."""
    return STORED / "format1.ship"


@pytest.fixture
def copy(stored: Path, tmp_path: Path) -> Path:
    """A copy of the stored package, to be broken."""
    return Path(shutil.copytree(stored, tmp_path / "copy"))


@pytest.fixture(scope="session")
def reseal() -> Callable[..., None]:
    """Change a package's manifest and hash all anew, as someone could who means harm and knows the format."""

    def changed(folder: Path, change: Callable[[dict[str, Any]], object] = lambda manifest: None) -> None:
        manifest = json.loads((folder / "manifest.json").read_bytes())
        files = [path for path in folder.rglob("*") if path.is_file() and path.name not in ("manifest.json", "DIGEST")]
        manifest["files"] = {
            path.relative_to(folder).as_posix(): {
                "sha256": hashlib.sha256(path.read_bytes()).hexdigest(),
                "size": path.stat().st_size,
            }
            for path in files
        }
        change(manifest)
        text = json.dumps(manifest).encode()
        (folder / "manifest.json").write_bytes(text)
        (folder / "DIGEST").write_text(hashlib.sha256(text).hexdigest() + "\n")

    return changed
