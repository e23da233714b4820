"""Files in a folder or a bucket, each whole or not there."""

from __future__ import annotations

import os
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

from ..errors import MonitorError
from ..registry.filesystems import FORMS, is_place, open_place, told
from ..registry.folders import appearing

LARGEST = 64_000_000
"""Bytes of a file that is read."""
_STAMPS = ("ETag", "etag", "LastModified", "mtime", "ino", "created")
"""What file systems say of a file that was written anew."""


class Files:
    """By their paths below a place."""

    def __init__(self, place: str) -> None:
        """Nothing is opened before the first use. Raises MonitorError where no place can be called that."""
        self.place = place.rstrip("/")
        self.local = "://" not in self.place
        if not is_place(self.place):
            raise MonitorError(self.place or "place", "is no place for states", FORMS)
        self._opened: Any = None
        self._root = ""
        self._process = 0

    def put(self, path: str, content: bytes) -> None:
        with self._told(path):
            files = self._fs
            full = self._full(path)
            if not self.local:
                files.pipe_file(full, content)  # a bucket shows a file when it is whole
                return
            target = Path(full)
            _private(Path(self._root), target.parent)
            part = target.with_name(f".{target.name}.{os.getpid()}")
            part.unlink(missing_ok=True)  # of a process that ended while it wrote
            with appearing(part, target) as file:
                os.fchmod(file.fileno(), 0o600)
                file.write(content)

    def get(self, path: str) -> bytes | None:
        with self._told(path):
            files = self._fs
            try:
                info = files.info(self._full(path))
                if int(info.get("size") or 0) > LARGEST:
                    raise MonitorError(self.shown(path), f"is larger than {LARGEST} bytes", "remove it")
                content: bytes = files.cat_file(self._full(path))
            except FileNotFoundError:
                return None
            return content

    def stamp(self, path: str) -> str | None:
        """Another one where the content is another one; empty where the store does not say, None where there is no
        file."""
        with self._told(path):
            files = self._fs
            try:
                info = files.info(self._full(path))
            except FileNotFoundError:
                return None
        known = [str(info[key]) for key in _STAMPS if info.get(key) is not None]
        return " ".join([*known, str(info.get("size"))]) if known else ""

    def remove(self, path: str) -> None:
        with self._told(path):
            files = self._fs
            try:
                files.rm_file(self._full(path))
            except FileNotFoundError:
                return

    def remove_all(self, folder: str) -> None:
        with self._told(folder):
            files = self._fs
            if files.exists(self._full(folder)):
                files.rm(self._full(folder), recursive=True)

    def folders(self, folder: str) -> list[str]:
        return sorted(name for name, kind in self._list(folder) if kind == "directory" and not name.startswith("."))

    def files(self, folder: str) -> list[str]:
        names = sorted(name for name, kind in self._list(folder) if kind == "file" and not name.startswith("."))
        return [f"{folder}/{name}" for name in names]

    def _list(self, folder: str) -> list[tuple[str, str]]:
        with self._told(folder or self.place):
            files = self._fs
            try:
                entries = files.ls(self._full(folder), detail=True)
            except (FileNotFoundError, NotADirectoryError):
                return []
            own = self._full(folder).rstrip("/")
            named = [(str(entry["name"]).rstrip("/"), str(entry["type"])) for entry in entries]
            return [(name.rpartition("/")[2], kind) for name, kind in named if name.lstrip("/") != own.lstrip("/")]

    @property
    def _fs(self) -> Any:
        if self._opened is None or self._process != os.getpid():
            # The threads and sockets of a store do not survive a fork.
            self._opened, self._root = open_place(self.place, "the place", MonitorError)
            self._process = os.getpid()
        return self._opened

    def _full(self, path: str) -> str:
        return f"{self._root}/{path}" if path else self._root

    def shown(self, path: str) -> str:
        return f"{self.place}/{path}"

    def _told(self, what: str) -> AbstractContextManager[None]:
        return told(self.shown(what), MonitorError)


def _private(root: Path, folder: Path) -> None:
    """Make the folder, and all above it up to the root, for its user alone."""
    if folder.is_dir():
        return
    root.parent.mkdir(parents=True, exist_ok=True)
    for each in [*reversed([parent for parent in folder.parents if parent.is_relative_to(root)]), folder]:
        each.mkdir(mode=0o700, exist_ok=True)
