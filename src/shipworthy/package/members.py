"""Names of a package's members: what a path inside a package may look like."""

from __future__ import annotations

import re
from collections.abc import Iterable

from ..errors import TamperedPackage

MANIFEST = "manifest.json"
DIGEST = "DIGEST"
GOLDEN = "golden.safetensors"
EVIDENCE = "evidence.json"
REPORT = "report.html"
CARD = "card.md"
VARIANTS = "variants"
ASSETS = "assets"
REFERENCE = "reference"

# Plain ASCII names mean the same on every file system and in every zip tool; a leading dot hides a file, a trailing
# dot is dropped by some systems, and `..` leaves the package.
_PART = re.compile(r"[A-Za-z0-9_+@=~-]([A-Za-z0-9._+@=~-]{0,126}[A-Za-z0-9_+@=~-])?")
LONGEST = 240


def misnamed(name: str) -> str | None:
    """Why `name` cannot be a member's path, or None."""
    if not name.isascii() or not name.isprintable() or "\\" in name or ":" in name:
        return "has characters that a member's path may not have"
    if name.startswith("/"):
        return "is an absolute path"
    parts = name.split("/")
    if ".." in parts:
        return "leaves the package"
    if len(name) > LONGEST or not all(_PART.fullmatch(part) for part in parts):
        return "is no plain relative path of letters, digits and ._+@=~-"
    return None


def check_members(where: str, names: Iterable[str]) -> None:
    """Raise TamperedPackage where a name is unsafe, or where two are one on a file system that ignores case.

    A name that is a file and also a folder of another is refused too."""
    spelt: dict[str, str] = {}
    files = []
    for name in names:
        reason = misnamed(name)
        if reason is not None:
            raise TamperedPackage(f"{where}/{name!r}", reason)
        parts = name.split("/")
        for depth in range(1, len(parts) + 1):
            path = "/".join(parts[:depth])
            other = spelt.setdefault(path.lower(), path)
            if other != path:
                raise TamperedPackage(f"{where}/{name}", f"differs from {other!r} only by case")
        files.append(name)
    folders = set(folders_of(files))
    for name in files:
        if name in folders:
            raise TamperedPackage(f"{where}/{name}", "is named as a file and as a folder")
    if len(set(files)) != len(files):
        raise TamperedPackage(where, "names a member twice")


def folders_of(names: Iterable[str]) -> set[str]:
    """Every folder that the members lie in."""
    folders: set[str] = set()
    for name in names:
        parts = name.split("/")[:-1]
        folders.update("/".join(parts[:depth]) for depth in range(1, len(parts) + 1))
    return folders
