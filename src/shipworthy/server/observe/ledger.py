"""The counters of one worker process, in memory that others can read while it writes.

A server with several workers has one private folder, and in it one file for each worker's slot. A worker writes only
into its own file; whoever is asked for the sum reads them all. A worker that dies leaves its file, and the one that
takes its slot goes on in it, so that no counter ever falls. A server of one process needs no file: its ledger is plain
memory of the same layout.

    header      64 bytes: magic, process id, start of the server, start of the worker, bytes of directory, values, lost
    directory   one record after the other: CRC-32, length of the key, kind, place, width, key
    values      float64, each aligned to its size

Each value is written as one aligned store of 8 bytes, so a reader sees the old or the new one. A record is published by
the store of the directory's length after it is whole; its CRC keeps a reader from trusting one on machines that show
stores of another process in another order. The directory and the values only grow, and both are bounded.

Whether a worker lives is asked of the kernel: it holds a lock (`flock`) on its file, which goes with the process,
however that ends. A process id may be another's by now, and a heartbeat says that a worker was alive.
"""

from __future__ import annotations

import fcntl
import json
import mmap
import os
import struct
import threading
import time
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import TypeAlias

import numpy as np

from ...contract import Array
from ...errors import ServeError

Key: TypeAlias = tuple[str, ...]
"""The name of a series, and then the values of its labels."""

MAGIC = b"SHPLDGR1"
HEADER = 64
DIRECTORY = 640 * 1024
VALUES = 48 * 1024
"""Together they have room for about 300 versions of models; one takes 2 kB of directory and 140 numbers."""
SIZE = HEADER + DIRECTORY + 8 * VALUES
KEY_BYTES = 2000
COUNTER, GAUGE = 0, 1

_RECORD = struct.Struct("<IHHII")
_PID, _CREATED, _STARTED, _USED, _COUNT, _LOST = range(1, 7)
"""Places in the header, in numbers of 8 bytes; the first is the magic."""
_LOCK_WAIT_S = 2.0


@dataclass(frozen=True, slots=True)
class Series:
    """Where the numbers of a series are: `width` of them from `place` on."""

    place: int
    width: int
    gauge: bool


class Page:
    """The memory of one ledger, and what of its directory was read so far."""

    def __init__(self, memory: mmap.mmap) -> None:
        self.memory = memory
        self.header = np.frombuffer(memory, np.uint64, HEADER // 8)
        self.times = np.frombuffer(memory, np.float64, HEADER // 8)
        self.values = np.frombuffer(memory, np.float64, VALUES, HEADER + DIRECTORY)
        self.series: dict[Key, Series] = {}
        self._read = 0

    @property
    def pid(self) -> int:
        return int(self.header[_PID])

    @property
    def created(self) -> float:
        """When the slot was first taken, in seconds since 1970."""
        return float(self.times[_CREATED])

    @property
    def lost(self) -> int:
        """Series for which there was no room."""
        return int(self.header[_LOST])

    def refresh(self) -> None:
        """Read what has been added to the directory."""
        used = min(int(self.header[_USED]), DIRECTORY)
        while self._read + _RECORD.size <= used:
            start = HEADER + self._read + _RECORD.size
            crc, length, kind, place, width = _RECORD.unpack_from(self.memory, start - _RECORD.size)
            key = self.memory[start : start + length]
            if self._read + _RECORD.size + length > used or crc != _crc(kind, place, width, key):
                return  # Not all of it is to be seen yet; the next reading finds it.
            name, *labels = json.loads(key)
            self.series[name, *labels] = Series(place, width, kind == GAUGE)
            self._read += _RECORD.size + length


class Ledger:
    """The series that this process writes. Not to be shared with a process that is forked from it."""

    def __init__(self, page: Page, descriptor: int | None = None) -> None:
        self.page = page
        self._descriptor = descriptor
        self._guard = threading.Lock()
        self._spare: dict[Key, Array] = {}
        page.refresh()
        for series in page.series.values():
            if series.gauge:
                self._view(series)[:] = 0.0
        page.header[_PID] = os.getpid()
        page.times[_STARTED] = time.time()
        if not page.times[_CREATED]:
            page.times[_CREATED] = page.times[_STARTED]

    @classmethod
    def private(cls) -> Ledger:
        """A ledger that only this process can read."""
        return cls(_blank(mmap.mmap(-1, SIZE)))

    @classmethod
    def open(cls, folder: Path, slot: int) -> Ledger:
        """The ledger of a slot, as whoever had it before has left it.

        `folder` must belong to this user alone. Raises ServeError where it does not, where it is full, or where a
        process that lives has the slot."""
        status = folder.stat()
        if status.st_uid != os.geteuid() or status.st_mode & 0o077:
            raise ServeError("folder of the counters", "can be reached by other users", "make it with mode 0700")
        path = path_of(folder, slot)
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
        try:
            _take(descriptor, slot)
            fresh = os.fstat(descriptor).st_size != SIZE
            if fresh:
                # Written in full, for a store into a hole of a full file system would end the process.
                _write_zeros(descriptor)
            memory = mmap.mmap(descriptor, SIZE)
            if fresh or memory[: len(MAGIC)] != MAGIC:
                return cls(_blank(memory), descriptor)
            return cls(Page(memory), descriptor)
        except BaseException:
            os.close(descriptor)
            raise

    def series(self, name: str, labels: tuple[str, ...] = (), width: int = 1, *, gauge: bool = False) -> Array:
        """The numbers of a series, [width] float64, to be written in place; made where there is none yet.

        Gauges start at zero with every process, counters where they were. Where the ledger is full, or the key is
        longer than 2000 bytes, the numbers are this process's own, and nobody reads them; `Page.lost` counts such
        series."""
        key = (name, *labels)
        with self._guard:
            known = self.page.series.get(key)
            if known is not None and known.width == width:
                return self._view(known)
            if key in self._spare:
                return self._spare[key]
            added = self._add(key, width, GAUGE if gauge else COUNTER) if known is None else None
            if added is not None:
                return self._view(added)
            self.page.header[_LOST] += np.uint64(1)
            self._spare[key] = np.zeros(width)
            return self._spare[key]

    def close(self) -> None:
        """Let the slot be taken by another. The numbers stay."""
        if self._descriptor is not None:
            # Said explicitly, for the mapping has a duplicate of the descriptor, which would keep the lock.
            fcntl.flock(self._descriptor, fcntl.LOCK_UN)
            os.close(self._descriptor)
            self._descriptor = None

    def _view(self, series: Series) -> Array:
        return self.page.values[series.place : series.place + series.width]

    def _add(self, key: Key, width: int, kind: int) -> Series | None:
        header = self.page.header
        used, place = int(header[_USED]), int(header[_COUNT])
        name = json.dumps(key, ensure_ascii=True, separators=(",", ":")).encode()
        size = _RECORD.size + len(name)
        if len(name) > KEY_BYTES or used + size > DIRECTORY or place + width > VALUES:
            return None
        record = _RECORD.pack(_crc(kind, place, width, name), len(name), kind, place, width) + name
        self.page.memory[HEADER + used : HEADER + used + size] = record
        # Given away before they are published, so that nobody gets them twice, whenever we are killed.
        header[_COUNT] = place + width
        header[_USED] = used + size
        self.page.refresh()
        return self.page.series[key]


def path_of(folder: Path, slot: int) -> Path:
    return folder / f"worker-{slot}.ledger"


def _blank(memory: mmap.mmap) -> Page:
    # All else is zero already. A reader takes this as the sign that it is.
    memory[: len(MAGIC)] = MAGIC
    return Page(memory)


def _crc(kind: int, place: int, width: int, key: bytes) -> int:
    return zlib.crc32(struct.pack("<HII", kind, place, width) + key)


def _take(descriptor: int, slot: int) -> None:
    """Lock the file. A reader that asks whether anybody has it holds it for a moment, so that is waited for."""
    deadline = time.monotonic() + _LOCK_WAIT_S
    while True:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return
        except BlockingIOError:
            if time.monotonic() > deadline:
                raise ServeError(
                    f"slot {slot} of the counters", "is another worker's, which lives", "give each worker its own slot"
                ) from None
            time.sleep(0.005)


def _write_zeros(descriptor: int) -> None:
    try:
        os.ftruncate(descriptor, 0)
        left = SIZE
        while left:
            left -= os.write(descriptor, bytes(min(left, 2**16)))
    except OSError as error:
        reason = f"cannot be written: {error.strerror}"
        raise ServeError("folder of the counters", reason, f"free {SIZE >> 10} kB there for each worker") from error
