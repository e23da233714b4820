"""What all workers of a server have counted, added up; and the folder in which they do."""

from __future__ import annotations

import fcntl
import mmap
import os
import shutil
import tempfile
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TypeAlias

import numpy as np

from ...contract import Array
from .ledger import MAGIC, SIZE, Key, Ledger, Page

Merge: TypeAlias = Callable[[Sequence[Array]], Array]

PREFIX = "shipworthy-counters-"


@dataclass(frozen=True, slots=True)
class Worker:
    """One slot: who has it, or had it last, and whether that process lives."""

    pid: int
    created: float
    live: bool
    lost: int


class Reader:
    """Sums over the ledgers of a folder, or over one ledger in memory."""

    def __init__(self, source: Path | Ledger) -> None:
        self._source = source
        self._pages: dict[str, tuple[Page, int]] = {}
        self._guard = threading.Lock()

    def read(self) -> Totals:
        """Everything, as it is at this moment: each number is whole, and none is below what an earlier call saw,
        save gauges."""
        with self._guard:
            return Totals([_snapshot(page, live) for page, live in self._all()])

    def close(self) -> None:
        with self._guard:
            for _, descriptor in self._pages.values():
                os.close(descriptor)
            self._pages.clear()

    def _all(self) -> Iterator[tuple[Page, bool]]:
        if isinstance(self._source, Ledger):
            yield self._source.page, True
            return
        for path in sorted(self._source.glob("worker-*.ledger")):
            opened = self._pages.get(path.name) or self._open(path)
            if opened is not None:
                yield opened[0], _locked(opened[1])

    def _open(self, path: Path) -> tuple[Page, int] | None:
        """None where the file is not written in full yet, or is there no more."""
        try:
            descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        except FileNotFoundError:
            return None  # The server ends, and the supervisor has removed its folder.
        if os.fstat(descriptor).st_size == SIZE:
            memory = mmap.mmap(descriptor, SIZE, access=mmap.ACCESS_READ)
            if memory[: len(MAGIC)] == MAGIC:
                self._pages[path.name] = Page(memory), descriptor
                return self._pages[path.name]
            memory.close()
        os.close(descriptor)
        return None


class Totals:
    """The numbers of all workers at one moment."""

    def __init__(self, snapshots: Sequence[tuple[Worker, dict[Key, Array]]]) -> None:
        self.workers = [worker for worker, _ in snapshots]
        self._found: dict[Key, list[Array]] = {}
        for _, series in snapshots:
            for key, values in series.items():
                self._found.setdefault(key, []).append(values)

    def keys(self, name: str) -> list[Key]:
        """The series of that name, sorted by their labels."""
        return sorted(key for key in self._found if key[0] == name)

    def __contains__(self, key: Key) -> bool:
        return key in self._found

    def value(self, key: Key, merge: Merge | None = None) -> Array:
        """The numbers of a series, merged over the workers that have it: added up, or as `merge` does with
        [width] of each. A series that nobody has is a KeyError."""
        found = self._found[key]
        total: Array = np.sum(found, axis=0) if merge is None else merge(found)
        return total


@contextmanager
def counters_folder() -> Iterator[Path]:
    """A folder for the workers of one server, in memory where the system has such a place; removed at the end."""
    with swept_folder(_memory_folder(), PREFIX) as folder:
        yield folder


@contextmanager
def swept_folder(parent: Path, prefix: str) -> Iterator[Path]:
    """A folder in `parent` whose name has this prefix, for its user alone; removed at the end.

    One that an earlier server of this user has left, because it was killed, is removed at the start."""
    _sweep(parent, prefix)
    # Not under its own name before it is locked, or another server that starts just now would sweep it away.
    fresh = Path(tempfile.mkdtemp(prefix="shipworthy-new-", dir=parent))
    descriptor = os.open(fresh / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    fcntl.flock(descriptor, fcntl.LOCK_EX)
    folder = fresh.rename(parent / (prefix + fresh.name.rsplit("-", 1)[1]))
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)
        os.close(descriptor)


def _memory_folder() -> Path:
    shared = Path("/dev/shm")
    return shared if shared.is_dir() and os.access(shared, os.W_OK | os.X_OK) else Path(tempfile.gettempdir())


def _sweep(parent: Path, prefix: str) -> None:
    for folder in parent.glob(prefix + "*"):
        # It may vanish meanwhile: the server that it belongs to, or another that sweeps, removes it too.
        with suppress(OSError):
            if folder.lstat().st_uid == os.geteuid() and not folder.is_symlink() and not _held(folder / "lock"):
                shutil.rmtree(folder)


def _held(path: Path) -> bool:
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        return _locked(descriptor)
    finally:
        os.close(descriptor)


def _locked(descriptor: int) -> bool:
    """Whether a process holds the file. Readers share their lock, so two that ask do not take each other for one."""
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    fcntl.flock(descriptor, fcntl.LOCK_UN)
    return False


def _snapshot(page: Page, live: bool) -> tuple[Worker, dict[Key, Array]]:
    """What a page holds; of a worker that is dead, without its gauges."""
    page.refresh()
    values = page.values[: max((one.place + one.width for one in page.series.values()), default=0)].copy()
    series = {
        key: values[one.place : one.place + one.width] for key, one in page.series.items() if live or not one.gauge
    }
    return Worker(page.pid, page.created, live, page.lost), series
