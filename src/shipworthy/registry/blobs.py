"""Files by their sha256, in a folder or in a bucket: `ab/abcdef...`, each written once and never changed.

In a folder a blob is written under another name, flushed to the disk, and renamed; in a bucket it appears when its
upload is complete. So there is no half blob under its own name, however a process ends."""

from __future__ import annotations

import hashlib
import os
import re
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from uuid import uuid4

from ..errors import RegistryError, TamperedPackage
from .claims import OWNER, owner_of, sign_bucket
from .filesystems import FORMS, is_place, open_place, told
from .folders import appearing, sync_folder

CHUNK = 1 << 20
_PARTS = "parts"
_NAME = re.compile(rf"([0-9a-f]{{2}})/(\1[0-9a-f]{{62}})|{_PARTS}/[0-9a-f]{{32}}")
"""What a registry calls its files: whatever has another name, or lies deeper, is somebody else's."""
_MD5 = re.compile(r'"?([0-9a-f]{32})"?')
REMOVAL_S = 20.0
"""How long a bucket may take to remove files."""
CLAIM_S = 60.0
"""After how long it is read again whose place it is: another may have written over a claim."""


@dataclass(frozen=True, slots=True)
class Stored:
    """A file that lies in the store."""

    sha256: str
    """Empty for a part that was never finished."""
    path: str
    size: int
    modified: datetime | None
    """By the clock of the store; None where it does not say."""


class Blobs:
    """A place for blobs: a folder, or what fsspec knows by a url such as `s3://bucket/prefix` and `memory://name`."""

    def __init__(self, url: str) -> None:
        """Nothing is opened before the first use. Raises RegistryError where no place can be called that."""
        self.url = url
        self.local = "://" not in url
        if not is_place(url):
            raise RegistryError(url or "artifacts", "is no place for packages", FORMS)
        self._opened: Any = None
        self._process = 0
        self._root = ""
        self._claimed: tuple[int, float] | None = None

    def path(self, sha256: str) -> str:
        return f"{self._place()}/{sha256[:2]}/{sha256}"

    def has(self, sha256: str, size: int) -> bool:
        """Whether the blob is there with this many bytes."""
        with self._told(sha256):
            try:
                return bool(self._files.info(self.path(sha256))["size"] == size)
            except FileNotFoundError:
                return False

    def put(self, sha256: str, size: int, source: Path) -> bool:
        """Store a file, and say whether that was needed. Raises TamperedPackage where it is not what its hash says.

        What is there already is looked at, and replaced where it is damaged. In a folder it is hashed. S3 tells the
        MD5 of what was uploaded in one piece, which is compared with the file's; where a key of KMS encrypts it, it
        tells something else, and the file is uploaded again. What was uploaded in several pieces (100 MB and more),
        and what other stores keep, is compared by its size alone: remove such a file where it is damaged."""
        if self._is_whole(sha256, size, source):
            return False
        with self._told(sha256):
            if self.local:
                self._put_local(sha256, source)
            else:
                with tempfile.TemporaryDirectory(prefix="shipworthy-") as folder:
                    # What is uploaded is what was hashed, whoever writes to the source meanwhile.
                    copy = Path(folder) / sha256
                    with copy.open("xb") as file:
                        _copy(source, file, sha256)
                    self._files.put_file(str(copy), self.path(sha256))
        return True

    def chunks(self, sha256: str, size: int) -> Iterator[bytes]:
        """The bytes in order, at most `size` of them, and an error at the end where they have another hash."""
        hasher, left = hashlib.sha256(), size
        with self._told(sha256):
            try:
                file = self._files.open(self.path(sha256), "rb")
            except FileNotFoundError:
                raise RegistryError(
                    self._shown(sha256), "is missing", "restore it from a backup, or register the package again"
                ) from None
            with file:
                while chunk := file.read(min(CHUNK, left + 1)):
                    left -= len(chunk)
                    hasher.update(chunk)
                    if left < 0:
                        break
                    yield chunk
        if left or hasher.hexdigest() != sha256:
            raise TamperedPackage(
                self._shown(sha256),
                "does not have the bytes that its name says",
                "remove it, and restore it from a backup or register the package again",
            )

    @property
    def removed_at_once(self) -> int:
        """How many files `remove` is best given: a bucket takes as long for one as for several."""
        return 32 if getattr(self._files, "async_impl", False) else 1

    def remove(self, paths: Sequence[str]) -> None:
        """Remove files of `listing`; one that is gone already is no error. Raises RegistryError where one cannot be
        removed, and where a bucket takes longer than `REMOVAL_S`; then it does not go on."""
        with self._told(paths[0] if len(paths) == 1 else self.url):
            if getattr(self._files, "async_impl", False):
                _remove_in_time(self._files, paths)
                return
            for path in paths:
                with suppress(FileNotFoundError):
                    self._files.rm_file(path)

    def listing(self) -> Iterator[Stored]:
        """Every blob, and every part that was never finished; nothing else that lies there."""
        # A folder is not walked further down than blobs lie; a bucket gives all of its names at once.
        depth = 2 if self.local else None
        with self._told(self.url):
            try:
                found = self._files.find(self._place(), maxdepth=depth, detail=True)
            except FileNotFoundError:
                return
        start = f"{self._place()}/"
        for path, info in found.items():
            named = _NAME.fullmatch(path.removeprefix(start)) if path.startswith(start) else None
            if named:
                yield Stored(named[2] or "", path, int(info["size"]), _modified(info))

    def owner(self) -> str | None:
        """The id of the registry whose blobs these are; None for a place that none has claimed."""
        with self._told(self.url):
            return owner_of(self._files, self._place())

    def try_writing(self) -> None:
        """Raises RegistryError where nothing can be stored; a folder is made, a bucket is not."""
        with self._told(self.url):
            probe = self._new_part()
            self._files.pipe_file(probe, b"")
            self._files.rm_file(probe)

    @property
    def is_claimed(self) -> bool:
        """Whether this process has read, not long ago, that the place is its registry's."""
        if self._claimed is None:
            return False
        process, at = self._claimed
        return process == os.getpid() and time.monotonic() - at < CLAIM_S

    def claim(self, registry: str) -> None:
        """Write down whose blobs these are, where nobody has. Raises RegistryError where they are another registry's:
        `gc` of the one would free what the other needs.

        Of two that claim at the same time one is refused. In a bucket that writes over a file even when it is told
        not to, the last one has it; the other is refused at its next claim."""
        owner = self.owner()
        found = owner == registry
        if owner is None:
            with self._told(self.url):
                self._sign(f"{registry}\n".encode())
            owner = self.owner()
        if owner is None:
            reason = "is empty: another process writes it at this moment, or has ended while it did"
            raise RegistryError(f"{self.url}/{OWNER}", reason, "try again in a minute, and remove it if it stays so")
        if owner != registry:
            raise RegistryError(self.url, "keeps the packages of another registry", "give a place of its own")
        if found:
            self._claimed = os.getpid(), time.monotonic()

    def _sign(self, text: bytes) -> None:
        if not self.local:
            sign_bucket(self._files, self._place(), text)
            return
        with appearing(Path(self._new_part()), Path(self._place()) / OWNER, once=True) as file:
            file.write(text)

    def _is_whole(self, sha256: str, size: int, source: Path) -> bool:
        with self._told(sha256):
            try:
                info = self._files.info(self.path(sha256))
                if info["size"] != size:
                    return False
                if self.local:
                    return _hash(Path(self.path(sha256)), "sha256") == sha256
            except FileNotFoundError:  # `gc` may remove it at any moment before it is read
                return False
            told = _MD5.fullmatch(str(info.get("ETag", ""))) if self.url.startswith(("s3://", "s3a://")) else None
            return told is None or told[1] == _hash(source, "md5")

    def _new_part(self) -> str:
        folder = f"{self._place()}/{_PARTS}"
        if self.local:
            self._files.makedirs(folder, exist_ok=True)
        return f"{folder}/{uuid4().hex}"

    def _put_local(self, sha256: str, source: Path) -> None:
        target = Path(self.path(sha256))
        part = Path(self._new_part())
        target.parent.mkdir(exist_ok=True)
        with appearing(part, target) as file:
            _copy(source, file, sha256)
        sync_folder(target.parent.parent)

    def _shown(self, sha256: str) -> str:
        return f"{self.url}/{sha256[:2]}/{sha256}"

    @property
    def _files(self) -> Any:
        if self._opened is None or self._process != os.getpid():
            # The threads and sockets of a store do not survive a fork.
            self._opened, self._root = open_place(self.url, "the store", RegistryError)
            self._process = os.getpid()
        return self._opened

    def _place(self) -> str:
        assert self._files is not None
        return self._root

    def _told(self, what: str) -> AbstractContextManager[None]:
        return told(self.url if what == self.url else f"{self.url}: {what}", RegistryError)


def _copy(source: Path, file: Any, sha256: str) -> None:
    hasher = hashlib.sha256()
    with source.open("rb") as opened:
        while chunk := opened.read(CHUNK):
            hasher.update(chunk)
            file.write(chunk)
    if hasher.hexdigest() != sha256:
        raise TamperedPackage(str(source), "has changed while it was read", "build the package again")


def _hash(file: Path, kind: str) -> str:
    with file.open("rb") as opened:
        return hashlib.file_digest(opened, lambda: hashlib.new(kind, usedforsecurity=False)).hexdigest()


def _remove_in_time(files: Any, paths: Sequence[str]) -> None:
    import asyncio

    from fsspec.asyn import FSTimeoutError, sync  # type: ignore[import-untyped]

    # One request each: what s3fs has for a list does not say which of them were refused.
    async def remove() -> list[Any]:
        return await asyncio.gather(*(files._rm_file(path) for path in paths), return_exceptions=True)

    try:
        answers = sync(files.loop, remove, timeout=REMOVAL_S)
    except FSTimeoutError:
        what = paths[0] if len(paths) == 1 else f"{paths[0]} and {len(paths) - 1} more"
        remedy = "see whether the store can be reached, and free again"
        raise RegistryError(what, f"was not removed within {REMOVAL_S:g} s", remedy) from None
    for answer in answers:
        if isinstance(answer, BaseException) and not isinstance(answer, FileNotFoundError):
            raise answer


def _modified(info: dict[str, Any]) -> datetime | None:
    """Each file system has a word of its own for the time of the last change."""
    for key in ("mtime", "LastModified", "updated", "last_modified", "created"):
        value = info.get(key)
        if isinstance(value, int | float):
            return datetime.fromtimestamp(value, UTC)
        if isinstance(value, str):
            value = datetime.fromisoformat(value)
        if isinstance(value, datetime):
            return value if value.tzinfo else value.replace(tzinfo=UTC)
    return None
