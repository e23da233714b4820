"""The `.ship` form: a package's tree in one canonical zip.

Members are stored (not compressed), sorted by name, dated 1980-01-01, without extra fields, comments or folders, and
nothing lies before, between or behind them. So the names, sizes and checksums determine every other byte, and a file is
refused unless its headers rebuild byte-equal. Layout: PKWARE APPNOTE 6.3.10, sections 4.3.7, 4.3.12 and 4.3.16."""

from __future__ import annotations

import io
import os
import struct
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import BinaryIO

from ..errors import PackageError, TamperedPackage
from .members import LONGEST, check_members
from .tree import CHUNK, unreadable

_LOCAL = struct.Struct("<4s5H3I2H")
_CENTRAL = struct.Struct("<4s6H3I5H2I")
_END = struct.Struct("<4s4H2IH")
_VERSION = 20
_MADE_BY = (3 << 8) | _VERSION  # Unix, so that the mode below is read
_MODE = 0o100644 << 16
_DATE = (1 << 5) | 1  # 1980-01-01 in MS-DOS form
_MAX_BYTES = 0xFFFF_FFFE  # beyond it the zip64 extra field would be needed
_MAX_MEMBERS = 0xFFFE


@dataclass(frozen=True, slots=True)
class Entry:
    """What determines a member's headers."""

    name: str
    size: int
    crc: int
    offset: int

    @property
    def data(self) -> int:
        """Where the member's bytes start."""
        return self.offset + _LOCAL.size + len(self.name)

    @property
    def end(self) -> int:
        return self.data + self.size

    def local(self) -> bytes:
        fields = (_VERSION, 0, 0, 0, _DATE, self.crc, self.size, self.size, len(self.name), 0)
        return _LOCAL.pack(b"PK\3\4", *fields) + self.name.encode("ascii")

    def central(self) -> bytes:
        fields = (_MADE_BY, _VERSION, 0, 0, 0, _DATE, self.crc, self.size, self.size, len(self.name))
        return _CENTRAL.pack(b"PK\1\2", *fields, 0, 0, 0, 0, _MODE, self.offset) + self.name.encode("ascii")


def directory_of(entries: list[Entry]) -> bytes:
    """The central directory and its end record."""
    directory = b"".join(entry.central() for entry in entries)
    start = entries[-1].end if entries else 0
    return directory + _END.pack(b"PK\5\6", 0, 0, len(entries), len(entries), len(directory), start, 0)


class ShipFile:
    """An opened `.ship` file whose headers have been rebuilt byte-equal. A context manager."""

    def __init__(self, path: Path) -> None:
        self.where = str(path)
        try:
            self._file = path.open("rb")
        except OSError as error:
            raise unreadable(self.where, error) from None
        try:
            self._entries = {entry.name: entry for entry in self._audit_headers()}
        except struct.error:
            self._file.close()
            raise self._not_canonical("its headers hold a number that no .ship file has") from None
        except BaseException:
            self._file.close()
            raise

    def sizes(self) -> dict[str, int]:
        return {name: entry.size for name, entry in self._entries.items()}

    def folders(self) -> set[str]:
        return set()

    def chunks(self, name: str) -> Iterator[bytes]:
        entry = self._entries[name]
        left, crc = entry.size, 0
        self._file.seek(entry.data)
        while left:
            chunk = self._exactly(min(CHUNK, left))
            left -= len(chunk)
            crc = zlib.crc32(chunk, crc)
            yield chunk
        if crc != entry.crc:
            raise TamperedPackage(f"{self.where}/{name}", "its bytes do not have the checksum of its header")

    def _audit_headers(self) -> list[Entry]:
        length = self._file.seek(0, os.SEEK_END)
        count, size, start = self._end_record(length)
        self._file.seek(start)
        directory = self._exactly(size)
        entries = list(_parse(directory, count, self.where))
        check_members(self.where, [entry.name for entry in entries])
        for entry in entries:
            self._file.seek(entry.offset)
            if self._exactly(entry.data - entry.offset) != entry.local():
                raise TamperedPackage(f"{self.where}/{entry.name}", "its local header is not the canonical one")
        end = entries[-1].end if entries else 0
        if start != end or directory_of(entries) != directory + self._exactly_at(start + size):
            raise self._not_canonical("its directory is not the canonical one")
        return entries

    def _end_record(self, length: int) -> tuple[int, int, int]:
        """Members, and the central directory's size and start, from the last 22 bytes."""
        if length < _END.size:
            raise self._not_canonical(f"is cut off or no .ship file ({length} bytes)")
        self._file.seek(length - _END.size)
        magic, _, _, count, _, size, start, _ = _END.unpack(self._exactly(_END.size))
        fits = start + size + _END.size == length and size <= count * (_CENTRAL.size + LONGEST)
        if magic != b"PK\5\6" or not fits:
            raise self._not_canonical("is cut off, has bytes added, or is no .ship file: its end record does not fit")
        return count, size, start

    def _exactly(self, size: int) -> bytes:
        try:
            data = self._file.read(size)
        except OSError as error:
            raise unreadable(self.where, error) from None
        if len(data) != size:
            raise self._not_canonical("is cut off")
        return data

    def _exactly_at(self, offset: int) -> bytes:
        self._file.seek(offset)
        return self._exactly(_END.size)

    def _not_canonical(self, reason: str) -> TamperedPackage:
        return TamperedPackage(self.where, reason, "get the file again from where it was built")

    def __enter__(self) -> ShipFile:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._file.close()


def _parse(directory: bytes, count: int, where: str) -> Iterator[Entry]:
    """Entries of a central directory, each where the one before ends, in strictly rising order of names."""
    at, offset, last = 0, 0, ""
    for _ in range(count):
        head = directory[at : at + _CENTRAL.size]
        if len(head) != _CENTRAL.size or head[:4] != b"PK\1\2":
            raise TamperedPackage(where, f"its directory breaks off behind {last!r}")
        fields = _CENTRAL.unpack(head)
        crc, size, name_length = fields[7], fields[8], fields[10]
        raw = directory[at + _CENTRAL.size : at + _CENTRAL.size + name_length]
        name = raw.decode("latin-1")
        entry = Entry(name, size, crc, offset)
        if entry.end > _MAX_BYTES:
            raise TamperedPackage(f"{where}/{name!r}", "lies beyond the 4 GiB that a .ship file can have")
        if not name.isascii() or name <= last:
            raise TamperedPackage(f"{where}/{name!r}", "is no plain name, or not in the canonical order")
        if entry.central() != head + raw:
            raise TamperedPackage(f"{where}/{name}", "its header in the directory is not the canonical one")
        yield entry
        at, offset, last = at + _CENTRAL.size + name_length, entry.end, name
    if at != len(directory):
        raise TamperedPackage(where, "has bytes behind its directory")


class ShipWriter:
    """Writes members in the order in which they are added, which must be that of their names."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self._entries: list[Entry] = []

    def add(self, name: str, size: int, chunks: Iterator[bytes]) -> None:
        """Append a member of `size` bytes. Raises PackageError beyond what a zip without extra fields can hold."""
        offset = self._entries[-1].end if self._entries else 0
        if Entry(name, size, 0, offset).end > _MAX_BYTES or len(self._entries) >= _MAX_MEMBERS:
            raise PackageError(name, "a .ship file holds less than 4 GiB", "keep this package as a folder")
        start = Entry(name, size, 0, offset)
        self._file.write(start.local())
        crc = 0
        for chunk in chunks:
            crc = zlib.crc32(chunk, crc)
            self._file.write(chunk)
        entry = Entry(name, size, crc, offset)
        assert self._file.tell() == entry.end, "the audit compares sizes before this"
        self._file.seek(offset)
        self._file.write(entry.local())
        self._file.seek(0, io.SEEK_END)
        self._entries.append(entry)

    def finish(self) -> None:
        self._file.write(directory_of(self._entries))
