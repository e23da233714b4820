"""The files in which processes note what they try: one for each, and one for what is known of those that died.

A process holds a lock on its file for as long as it lives. So a file that can be had, and says something, is that of a
process that died, whatever the number of servers on this machine."""

from __future__ import annotations

import fcntl
import json
import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from io import FileIO
from pathlib import Path
from typing import Any

from .instance import Instance

KEPT = 100
"""So many deaths are remembered."""
LONGEST = 1 << 16
"""Bytes of a file that are read."""


@dataclass(frozen=True, slots=True, order=True)
class Tried:
    """A rollout, told from another one of its number: a registry may have been restored, and gives numbers again."""

    rollout: int
    started: str


@dataclass(frozen=True, slots=True)
class Note:
    """What a process tries."""

    instance: Instance
    tried: Sequence[Tried]


@dataclass(slots=True)
class Known:
    """What dead processes have left, as far as somebody has read it."""

    deaths: list[tuple[Instance, Tried]] = field(default_factory=list)
    """Of instances that ended as a whole, each of which is one death, however many processes it had."""
    deadly: list[Tried] = field(default_factory=list)
    """What any of them tried."""


class Notes:
    """The files of all processes that serve the same."""

    def __init__(self, folder: Path, stem: str) -> None:
        self._folder, self._stem = folder, stem

    def own(self) -> FileIO:
        """A file for this process, locked: the first that nobody holds, and that says nothing. OSError where there can
        be none."""
        self._folder.mkdir(parents=True, exist_ok=True)
        number = 0
        while True:
            file = _locked(self._folder / f"{self._stem}-{number}.json")
            if file is not None:
                if read(file) is None:
                    return file
                # Its process died, and nobody has read that yet.
                file.close()
            number += 1

    def take(self, now: Instance) -> tuple[list[Tried], Known]:
        """What processes tried that died, once for each death; and what is known with them. Nobody finds it again.

        Deaths before the machine was started again are none of a challenger. OSError where files cannot be used."""
        files = sorted(self._folder.glob(f"{self._stem}-*.json"))
        if not files:
            return [], Known()
        shared = _locked(self._folder / f"{self._stem}.json", wait=True)
        assert shared is not None
        died: list[Tried] = []
        with shared:
            known = _known(shared)
            left = [file for path in files if (file := _locked(path)) is not None]
            try:
                notes = [note for file in left if (note := read(file)) is not None]
                for note in notes:
                    died += _counted(note, known, now)
                if notes:
                    _write(shared, _said(known))
                for file in left:
                    write(file, None)
            finally:
                for file in left:
                    file.close()
        return died, known


def read(file: FileIO) -> Note | None:
    """None where it says nothing, or was somebody else's."""
    try:
        said = json.loads(_line(file) or b"{}")
        tried = [Tried(int(rollout), str(started)) for rollout, started in said["tried"]]
        return Note(_instance(said["instance"]), tried) if tried else None
    except (ValueError, TypeError, LookupError):
        return None


def write(file: FileIO, note: Note | None) -> None:
    said = {} if note is None else {"instance": _of(note.instance), "tried": _pairs(note.tried)}
    _write(file, said)


def _counted(note: Note, known: Known, now: Instance) -> list[Tried]:
    """What of a note is a death; all of it is known from now on."""
    known.deadly += [tried for tried in note.tried if tried not in known.deadly]
    if note.instance.is_before(now):
        return []
    if note.instance.lives():
        # Its supervisor has others, and this one died by itself.
        return list(note.tried)
    died = [tried for tried in note.tried if (note.instance, tried) not in known.deaths]
    known.deaths += [(note.instance, tried) for tried in died]
    return died


def _known(file: FileIO) -> Known:
    try:
        said = json.loads(_line(file) or b"{}")
        deaths = [(_instance(one["instance"]), Tried(*one["tried"])) for one in said["deaths"]]
        return Known(deaths, [Tried(*one) for one in said["deadly"]])
    except (ValueError, TypeError, LookupError):
        return Known()


def _said(known: Known) -> dict[str, Any]:
    deaths = [{"instance": _of(instance), "tried": [one.rollout, one.started]} for instance, one in known.deaths]
    return {"deaths": deaths[-KEPT:], "deadly": _pairs(known.deadly[-KEPT:])}


def _instance(said: Sequence[Any]) -> Instance:
    boot, process, began = said
    return Instance(str(boot), int(process), int(began))


def _of(instance: Instance) -> list[object]:
    return [instance.boot, instance.process, instance.began]


def _pairs(tried: Iterable[Tried]) -> list[list[object]]:
    return [[one.rollout, one.started] for one in tried]


def _line(file: FileIO) -> bytes:
    # What stands after the first line was longer before.
    return os.pread(file.fileno(), LONGEST, 0).partition(b"\n")[0]


def _write(file: FileIO, said: dict[str, Any]) -> None:
    # In one call, so that no death leaves half of it.
    os.pwrite(file.fileno(), json.dumps(said).encode() + b"\n", 0)


def _locked(path: Path, *, wait: bool = False) -> FileIO | None:
    """The file, made where there is none; None where somebody else holds it. OSError where it cannot be had."""
    file = FileIO(os.open(path, os.O_RDWR | os.O_CLOEXEC | os.O_CREAT, 0o600), "r+")
    try:
        fcntl.flock(file, fcntl.LOCK_EX if wait else fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        file.close()
        return None
    except OSError:
        file.close()
        raise
    return file
