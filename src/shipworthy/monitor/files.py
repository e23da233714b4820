"""Files in a folder or a bucket, each whole or not there."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from ..errors import MissingExtra, MonitorError, ShipworthyError
from ..registry.folders import appearing

LARGEST = 64_000_000
"""Bytes of a file that is read."""
_EXTRAS = {"s3": ("s3fs", "s3"), "s3a": ("s3fs", "s3")}


class Files:
    """By their paths below a place."""

    def __init__(self, place: str) -> None:
        """Nothing is opened before the first use. Raises MonitorError where no place can be called that."""
        self.place = place.rstrip("/")
        self.local = "://" not in self.place
        if (
            not self.place
            or self.place.startswith(("http://", "https://", "file://", "local://"))
            or (not self.local and "::" in self.place)
        ):
            raise MonitorError(self.place or "place", "is no place for states", "give a folder or s3://bucket/prefix")
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
            self._opened, self._root = _open(self.place)
            self._process = os.getpid()
        return self._opened

    def _full(self, path: str) -> str:
        return f"{self._root}/{path}" if path else self._root

    def shown(self, path: str) -> str:
        return f"{self.place}/{path}"

    @contextmanager
    def _told(self, what: str) -> Iterator[None]:
        try:
            yield
        except ShipworthyError:
            raise
        except Exception as error:  # each kind of store raises what its own client library raises
            reason = " ".join(str(error).split()) or type(error).__name__
            remedy = "check the address, the credentials and the permissions"
            raise MonitorError(self.shown(what), reason, remedy) from error


def _private(root: Path, folder: Path) -> None:
    """Make the folder, and all above it up to the root, for its user alone."""
    if folder.is_dir():
        return
    root.parent.mkdir(parents=True, exist_ok=True)
    for each in [*reversed([parent for parent in folder.parents if parent.is_relative_to(root)]), folder]:
        each.mkdir(mode=0o700, exist_ok=True)


def _open(place: str) -> tuple[Any, str]:
    """A file system and the path in it."""
    protocol = place.partition("://")[0]
    if protocol == place:
        from fsspec.implementations.local import LocalFileSystem  # type: ignore[import-untyped]

        files = LocalFileSystem()
        return files, str(files._strip_protocol(place))
    from fsspec.core import url_to_fs  # type: ignore[import-untyped]

    try:
        # A listing that is remembered would hide what others have written or removed.
        files, root = url_to_fs(place, use_listings_cache=False, skip_instance_cache=True)
    except ImportError as error:
        if protocol in _EXTRAS:
            module, extra = _EXTRAS[protocol]
            raise MissingExtra(f"the place {place}", module, extra) from None
        raise MonitorError(place, str(error), "install what it names") from None
    except ValueError as error:
        raise MonitorError(place, str(error), "give a folder or s3://bucket/prefix") from None
    return files, str(root).rstrip("/")
