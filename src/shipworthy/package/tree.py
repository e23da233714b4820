"""A package as a folder: its members listed and read without following a link."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Protocol

from ..errors import PackageError, TamperedPackage
from .members import check_members, misnamed

CHUNK = 1 << 20


class Tree(Protocol):
    """Members by name, wherever they are kept."""

    where: str
    """What errors call it."""

    def sizes(self) -> Mapping[str, int]:
        """Every member with its size in bytes. Raises TamperedPackage for anything that is no plain file."""
        ...

    def folders(self) -> set[str]:
        """Every folder, also one without a member. Called after `sizes`."""
        ...

    def chunks(self, name: str) -> Iterator[bytes]:
        """The bytes of a member, in order."""
        ...


class Folder:
    """The folder form."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.where = str(root)
        self._folders: set[str] = set()

    def sizes(self) -> dict[str, int]:
        found: dict[str, int] = {}
        self._folders.clear()
        for name, status in self._walk():
            reason = misnamed(name)
            if reason is not None:
                raise TamperedPackage(f"{self.where}/{name!r}", reason)
            if stat.S_ISDIR(status.st_mode):
                self._folders.add(name)
            elif stat.S_ISREG(status.st_mode):
                found[name] = status.st_size
            else:
                kind = "a symbolic link" if stat.S_ISLNK(status.st_mode) else "no regular file"
                raise TamperedPackage(f"{self.where}/{name}", f"is {kind}; a package holds files only")
        check_members(self.where, found)
        return found

    def folders(self) -> set[str]:
        return set(self._folders)

    def _walk(self) -> Iterator[tuple[str, os.stat_result]]:
        waiting = [""]
        while waiting:
            prefix = waiting.pop()
            try:
                with os.scandir(self.root / prefix) as entries:
                    inside = [(entry.name, entry.stat(follow_symlinks=False)) for entry in entries]
            except OSError as error:
                raise unreadable(str(self.root / prefix), error) from None
            for name, status in sorted(inside, key=lambda pair: pair[0]):
                yield prefix + name, status
                if stat.S_ISDIR(status.st_mode):
                    waiting.append(f"{prefix}{name}/")

    def chunks(self, name: str) -> Iterator[bytes]:
        try:
            handle = os.open(self.root / name, os.O_RDONLY | os.O_NOFOLLOW)
            with os.fdopen(handle, "rb") as file:
                while chunk := file.read(CHUNK):
                    yield chunk
        except OSError as error:
            raise unreadable(f"{self.where}/{name}", error) from None


def unreadable(culprit: str, error: OSError | ValueError) -> PackageError:
    """A file that the system does not let us read."""
    return PackageError(culprit, f"cannot be read: {told(error)}", "check the path and its permissions")


def told(error: OSError | ValueError) -> str:
    """What the system says, without the path and the number."""
    return getattr(error, "strerror", None) or str(error)
