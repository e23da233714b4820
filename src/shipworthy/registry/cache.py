"""Packages that were pulled, by digest, in the user's cache folder. It may be emptied at any time."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from uuid import uuid4

from ..errors import PackageError, RegistryError, TamperedPackage
from ..package.audit import audit, open_tree
from ..package.members import DIGEST
from ..package.ship import ShipWriter
from .blobs import Blobs
from .versions import Blob


def cache_folder() -> Path:
    """`$XDG_CACHE_HOME/shipworthy/packages`, else below `~/.cache`. Raises RegistryError for a user without a home."""
    base = os.environ.get("XDG_CACHE_HOME", "")
    try:
        root = Path(base) if Path(base).is_absolute() else Path("~/.cache").expanduser()
    except RuntimeError as error:
        reason = f"has no place: {' '.join(str(error).split())}"
        remedy = "set XDG_CACHE_HOME to a folder that may be written to"
        raise RegistryError("the cache of packages", reason, remedy) from None
    return root / "shipworthy" / "packages"


def cached(digest: str) -> Path | None:
    """The package's file where it is in the cache and whole; a damaged one is removed.

    Raises RegistryError where the cache may not be used."""
    file = cache_folder() / f"{digest}.ship"
    with writing(file, "check the permissions, or set XDG_CACHE_HOME to another folder"):
        if not file.is_file():
            return None
        try:
            check(file, digest)
        except FileNotFoundError:  # the cache was emptied at this moment
            return None
        except PackageError:
            file.unlink(missing_ok=True)
            return None
    return file


def check(file: Path, digest: str) -> None:
    """Audit a `.ship` file. Raises TamperedPackage where it is not whole, or another package."""
    with open_tree(file) as tree:
        found = audit(tree).digest
    if found != digest:
        raise TamperedPackage(str(file), f"has the digest {found}, not {digest}", "pull it again")


def assemble(blobs: Blobs, members: tuple[Blob, ...], digest: str, file: Path) -> Path:
    """Put a package together, byte for byte as `write_ship` does, audit it, and give it its name.

    A file of that name is written over. Raises TamperedPackage naming the blob that is not what it was, RegistryError
    where nothing can be written, and where what has that name is no plain file."""
    with writing(file):
        check_plain(file)
        file.parent.mkdir(parents=True, exist_ok=True)
        part = file.with_name(f".{file.name}.{uuid4().hex[:12]}.part")
        try:
            with part.open("xb") as out:
                writer = ShipWriter(out)
                for name, size, chunks in _members(blobs, members, digest):
                    writer.add(name, size, chunks)
                writer.finish()
            check(part, digest)
            part.replace(file)
        finally:
            part.unlink(missing_ok=True)
    return file


@contextmanager
def writing(file: Path, remedy: str = "make room, check the permissions, or name another place") -> Iterator[None]:
    """Whatever the system says against writing there becomes a RegistryError."""
    try:
        yield
    except OSError as error:
        raise RegistryError(str(file), f"cannot be written: {error.strerror or error}", remedy) from None


def check_plain(file: Path) -> None:
    """Raises RegistryError where a device, a pipe or a folder would be replaced by a file."""
    if file.exists() and not file.is_file():
        raise RegistryError(str(file), "is no plain file", "give the name of a file")


def _members(blobs: Blobs, members: tuple[Blob, ...], digest: str) -> Iterator[tuple[str, int, Iterator[bytes]]]:
    label = f"{digest}\n".encode("ascii")
    found = [(member.path, member.size, blobs.chunks(member.sha256, member.size)) for member in members]
    yield from sorted([*found, (DIGEST, len(label), iter((label,)))], key=lambda entry: entry[0])
