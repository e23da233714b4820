"""What monitors remember, in a folder or a bucket: for each model, version and node a state, a view and samples, and
for each version what was acknowledged.

    <place>/<model>/<version>/<node>/state, view.json, samples
    <place>/<model>/<version>/acknowledged/<alarm>.json

Each file is whole or not there. A folder can be looked into by its user alone: it may hold what was asked."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote, unquote

from ..errors import MissingExtra, MonitorError, ShipworthyError
from ..registry.folders import appearing
from .record import text_of, view_of_text
from .samples import Sample
from .samples_file import Kept, read_samples
from .view import View

STATE, VIEW, SAMPLES, ACKNOWLEDGED = "state", "view.json", "samples", "acknowledged"
LARGEST = 64_000_000
"""Bytes of a file that is read."""
_EXTRAS = {"s3": ("s3fs", "s3"), "s3a": ("s3fs", "s3")}
_LONGEST_NAME = 200


@dataclass(frozen=True, slots=True)
class Acknowledgement:
    """Somebody has seen to an alarm."""

    alarm: str
    who: str
    why: str
    at: float
    """Seconds since 1970."""


def part_of(name: str) -> str:
    """A name as one part of a path: nothing in it leads elsewhere, and no two names become one. Raises MonitorError
    for a name that is empty or too long."""
    part = quote(name, safe="")
    part = part.replace(".", "%2E") if part.startswith(".") else part
    if not part or len(part) > _LONGEST_NAME or part == ACKNOWLEDGED:
        raise MonitorError(
            repr(name[:80]), "cannot be the name of a state", "give a shorter name of letters and digits"
        )
    return part


class States:
    """A place: a folder, or what fsspec knows by a URL. May be used by several processes; of a node one writes."""

    def __init__(self, place: str | Path) -> None:
        """Nothing is opened before the first use. Raises MonitorError where no place can be called that."""
        self.place = str(place).rstrip("/")
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

    def models(self) -> list[str]:
        return [unquote(name) for name in self._folders("")]

    def versions(self, model: str) -> list[str]:
        return [unquote(name) for name in self._folders(part_of(model))]

    def nodes(self, model: str, version: str) -> list[str]:
        folders = self._folders(_path(model, version))
        return [unquote(name) for name in folders if name != ACKNOWLEDGED]

    def write(
        self,
        model: str,
        version: str,
        node: str,
        *,
        state: bytes | None = None,
        view: View | None = None,
        samples: bytes | None = None,
    ) -> None:
        """What is given, each file whole. Empty samples remove those that were kept."""
        folder = _path(model, version, node)
        if samples is not None:
            if samples:
                self._put(f"{folder}/{SAMPLES}", samples)
            else:
                self._remove(f"{folder}/{SAMPLES}")
        if view is not None:
            self._put(f"{folder}/{VIEW}", text_of(view))
        if state is not None:
            self._put(f"{folder}/{STATE}", state)

    def state(self, model: str, version: str, node: str) -> bytes | None:
        """None where there is none."""
        return self._get(f"{_path(model, version, node)}/{STATE}")

    def view(self, model: str, version: str, node: str) -> View | None:
        """None where there is none. Raises MonitorError where it is damaged."""
        path = f"{_path(model, version, node)}/{VIEW}"
        text = self._get(path)
        return None if text is None else view_of_text(text, self._shown(path))

    def views(self, model: str, version: str | None = None) -> list[View]:
        """Of all nodes, of one version or of all. Raises MonitorError where one is damaged."""
        versions = self.versions(model) if version is None else [version]
        found = [self.view(model, each, node) for each in versions for node in self.nodes(model, each)]
        return [view for view in found if view is not None]

    def sample_bytes(self, model: str, version: str, node: str) -> bytes | None:
        """None where nothing is kept."""
        return self._get(f"{_path(model, version, node)}/{SAMPLES}")

    def kept(self, model: str, version: str | None = None) -> list[tuple[str, Kept]]:
        """The samples of all nodes, with their version, the newest last. Raises MonitorError where a file is
        damaged."""
        found = []
        versions = sorted(self.versions(model), key=_age) if version is None else [version]
        for each in versions:
            for node in self.nodes(model, each):
                data = self.sample_bytes(model, each, node)
                if data is not None:
                    found.append((each, read_samples(data, self._shown(f"{_path(model, each, node)}/{SAMPLES}"))))
        return found

    def samples(self, model: str, version: str | None = None) -> list[tuple[str, list[Sample]]]:
        """The same without what the files say beside."""
        return [(each, kept.samples) for each, kept in self.kept(model, version)]

    def acknowledge(
        self, model: str, version: str, alarm: str, who: str, why: str = "", at: float | None = None
    ) -> None:
        """Every node learns of it when it looks next."""
        said = Acknowledgement(alarm, who, why, time.time() if at is None else at)
        self._put(f"{_path(model, version)}/{ACKNOWLEDGED}/{part_of(alarm)}.json", json.dumps(asdict(said)).encode())

    def acknowledgements(self, model: str, version: str) -> list[Acknowledgement]:
        """Raises MonitorError where one is damaged."""
        folder = f"{_path(model, version)}/{ACKNOWLEDGED}"
        found = []
        for path in self._files(folder):
            text = self._get(path)
            if text is not None:
                found.append(_acknowledgement(text, self._shown(path)))
        return sorted(found, key=lambda said: (said.at, said.alarm))

    def forget(self, model: str, version: str, node: str | None = None) -> None:
        """Remove all that is remembered of a version, or of one node of it."""
        folder = _path(model, version) if node is None else _path(model, version, node)
        with self._told(folder):
            files = self._fs
            if files.exists(self._full(folder)):
                files.rm(self._full(folder), recursive=True)

    def _put(self, path: str, content: bytes) -> None:
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

    def _get(self, path: str) -> bytes | None:
        with self._told(path):
            files = self._fs
            try:
                info = files.info(self._full(path))
                if int(info.get("size") or 0) > LARGEST:
                    raise MonitorError(self._shown(path), f"is larger than {LARGEST} bytes", "remove it")
                content: bytes = files.cat_file(self._full(path))
            except FileNotFoundError:
                return None
            return content

    def _remove(self, path: str) -> None:
        with self._told(path):
            files = self._fs
            try:
                files.rm_file(self._full(path))
            except FileNotFoundError:
                return

    def _folders(self, folder: str) -> list[str]:
        return sorted(name for name, kind in self._list(folder) if kind == "directory")

    def _files(self, folder: str) -> list[str]:
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

    def _shown(self, path: str) -> str:
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
            raise MonitorError(self._shown(what), reason, remedy) from error


def _path(*names: str) -> str:
    return "/".join(map(part_of, names))


def _age(version: str) -> tuple[bool, int, str]:
    """Numbers of a registry in their order, behind the digests of files."""
    return (version.isdecimal(), int(version) if version.isdecimal() else 0, version)


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


def _acknowledgement(text: bytes, where: str) -> Acknowledgement:
    try:
        record = json.loads(text)
        return Acknowledgement(str(record["alarm"]), str(record["who"]), str(record["why"]), float(record["at"]))
    except (ValueError, TypeError, KeyError, RecursionError):
        raise MonitorError(where, "is no acknowledgement", "remove it, and acknowledge the alarm again") from None
