"""Results as they come: one file per finished measurement, named by what it depends on, and a journal of them."""

from __future__ import annotations

import fcntl
import json
import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import IO, TypeVar

from pydantic import ValidationError

from ..contract import Strict
from ..errors import MeasureError
from .identity import digest
from .results import Stage

T = TypeVar("T", bound=Strict)


class Entry(Strict):
    """One line of the journal."""

    event: str
    """`started`, `finished`, `reused` (found finished, from an earlier run), or `dropped` (it ended by a cause of the
    host, and is tried again by the next run)."""
    stage: str
    subject: str
    """A candidate's id, or what else the stage is about."""
    key: str
    time: float
    """Seconds since the epoch."""
    pid: int


class NotStoredError(LookupError):
    """Only what is finished was asked for, and this is not. Caught by whoever asked; no user sees it."""


class Store:
    """The build's folder. One build at a time may hold it; a killed one lets go of it.

    A result's file appears whole (written beside, flushed to the disk, renamed), so that a kill at any moment leaves
    either a finished measurement or none."""

    def __init__(self, directory: Path, identity: dict[str, object]) -> None:
        """`identity` is what every measurement of this build depends on."""
        self.directory = directory
        self._identity = digest(identity)
        self._lock: IO[str] | None = None
        self._closed = False

    def __enter__(self) -> Store:
        for folder in ("results", "artifacts", "cases", "references", "logs"):
            (self.directory / folder).mkdir(parents=True, exist_ok=True)
        lock = (self.directory / "lock").open("a+")
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            lock.close()
            raise MeasureError(
                str(self.directory), "another build is working here", "wait for it, or give another work folder"
            ) from None
        self._lock = lock
        self._end_torn_line()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None) -> None:
        if self._lock is not None:
            self._lock.close()

    def key(self, stage: str, subject: str, depends: object = None) -> str:
        """What names a result: the build's identity, the stage, its subject, and what else it depends on."""
        return digest([self._identity, stage, subject, depends])[:32]

    def once(
        self,
        stage: str,
        subject: str,
        kind: type[T],
        measure: Callable[[str], T],
        *,
        depends: object = None,
        intact: Callable[[T], bool] | None = None,
    ) -> T:
        """The finished result, or the one that `measure(key)` gives now; `kind` reads it back.

        `intact` says whether an old result still holds, such as that its files are there. A stage that the host ended
        is not kept."""
        key = self.key(stage, subject, depends)
        path = self.directory / "results" / f"{stage}-{key}.json"
        found = _read(path, kind)
        if found is not None and (intact is None or intact(found)):
            self._journal("reused", stage, subject, key)
            return found
        if self._closed:
            raise NotStoredError(f"{stage} of {subject}")
        self._journal("started", stage, subject, key)
        result = measure(key)
        if isinstance(result, Stage) and result.refusal is not None and result.refusal.is_of_the_host:
            self._journal("dropped", stage, subject, key)
            return result
        _write_durably(path, result.model_dump_json(indent=1).encode())
        self._journal("finished", stage, subject, key)
        return result

    @contextmanager
    def finished_only(self) -> Iterator[None]:
        """Within, `once` gives what is finished, and raises NotStoredError instead of measuring."""
        self._closed = True
        try:
            yield
        finally:
            self._closed = False

    def artifact(self, key: str) -> Path:
        return self.directory / "artifacts" / key

    def cases(self, name: str) -> Path:
        return self.directory / "cases" / f"{name}.npz"

    def reference(self, name: str) -> Path:
        return self.directory / "references" / f"{name}.safetensors"

    def log(self, name: str) -> Path:
        return self.directory / "logs" / f"{name}.txt"

    def _end_torn_line(self) -> None:
        """A line that a kill cut short must not run into the next one."""
        path = self.directory / "journal.jsonl"
        if path.exists() and path.stat().st_size and not path.read_bytes().endswith(b"\n"):
            with path.open("a", encoding="utf-8") as journal:
                journal.write("\n")

    def _journal(self, event: str, stage: str, subject: str, key: str) -> None:
        entry = Entry(event=event, stage=stage, subject=subject, key=key, time=time.time(), pid=os.getpid())
        with (self.directory / "journal.jsonl").open("a", encoding="utf-8") as journal:
            journal.write(entry.model_dump_json() + "\n")
            journal.flush()
            os.fsync(journal.fileno())


def read_journal(directory: Path) -> list[Entry]:
    """The journal of a work folder; a last line that a kill cut short is left out."""
    path = directory / "journal.jsonl"
    lines = path.read_text(encoding="utf-8").split("\n")[:-1] if path.exists() else []
    return [Entry.model_validate(json.loads(line)) for line in lines if line.endswith("}")]


def _read(path: Path, kind: type[T]) -> T | None:
    """None where there is nothing, or what another version wrote in another form."""
    try:
        return kind.model_validate_json(path.read_bytes())
    except (FileNotFoundError, ValidationError):
        return None


def _write_durably(path: Path, content: bytes) -> None:
    unfinished = path.with_suffix(".part")
    with unfinished.open("wb") as stream:
        stream.write(content)
        stream.flush()
        os.fsync(stream.fileno())
    unfinished.replace(path)
    folder = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)
