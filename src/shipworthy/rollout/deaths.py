"""What a server process was trying when it died: native code of a challenger can end the process that runs it, from
the moment on at which it is loaded.

A process notes the rollouts that it takes part in in a file of its own, and takes them out when it is told to end, or
ends in order. The files outlive the server, so that one that is started again by whoever looks after it (a supervisor
of workers, systemd) finds what was left, and says so to the registry."""

from __future__ import annotations

import json
import logging
import os
import socket
import threading
from collections.abc import Iterable, Sequence
from hashlib import blake2b
from io import FileIO
from pathlib import Path
from typing import TYPE_CHECKING
from weakref import finalize

from ..errors import ShipworthyError
from .instance import Instance
from .notes import Note, Notes, Tried, write

if TYPE_CHECKING:
    from .record import Rollout
    from .store import Rollouts

MOST = 3
"""So many processes may die while they try a challenger, of whatever cause; then it has lost."""
_LOG = logging.getLogger("shipworthy.rollout")


def state_folder() -> Path:
    """`$XDG_STATE_HOME/shipworthy/trying`, else below `~/.local/state`. RuntimeError where the user has no home."""
    base = os.environ.get("XDG_STATE_HOME", "")
    root = Path(base) if Path(base).is_absolute() else Path("~/.local/state").expanduser()
    return root / "shipworthy" / "trying"


class Trying:
    """What one process tries. May be used by any thread."""

    def __init__(self, registry: str, key: bytes, names: Sequence[str], instance: Instance) -> None:
        """For a server of these names of the registry, which has this url, and this key that no other one has. Where no
        file can be had, that is logged, and nothing noted."""
        # Homes may be shared by machines. The url may have a password.
        what = json.dumps([socket.gethostname(), registry, sorted(names)])
        stem = blake2b(what.encode(), key=key, digest_size=12, person=b"trying").hexdigest()
        self._instance = instance
        self._guard = threading.Lock()
        self._opened: dict[str, Tried] = {}
        """By model: rollouts whose challengers are being loaded, or were, and are not asked yet."""
        self._routed: dict[str, Tried] = {}
        """By model: those whose challengers are asked."""
        self._written: list[Tried] = []
        self._closed = False
        self._file: FileIO | None = None
        self._deadly: frozenset[Tried] = frozenset()
        self._notes: Notes | None = None
        try:
            self._notes = Notes(state_folder(), stem)
        except RuntimeError as error:
            _log(error)

    def left(self) -> list[Tried]:
        """What the processes before this one tried when they died, once for each death. Nobody finds it again.

        Where a supervisor died with its workers, that was one event, whose cause is as likely another; and where the
        machine was started again, all of its processes died of that."""
        if self._notes is None:
            return []
        try:
            died, known = self._notes.take(self._instance)
        except OSError as error:
            _log(error)
            return []
        self._deadly = frozenset(known.deadly)
        return died

    def is_deadly(self, rollout: Rollout) -> bool:
        """Whether a process has died while it tried this, of whatever cause: one that starts serves without it first,
        or it might never serve."""
        return _tried(rollout) in self._deadly or rollout.tally.deaths > 0

    def opens(self, rollout: Rollout) -> None:
        """Its challenger is to be loaded. Tens of microseconds."""
        with self._guard:
            self._opened[rollout.model] = _tried(rollout)
            self._write()

    def gives_up(self, rollout: Rollout) -> None:
        """Its challenger was refused."""
        with self._guard:
            self._opened.pop(rollout.model, None)
            self._write()

    def routes(self, model: str, rollout: Rollout | None) -> None:
        """Its challenger is asked from now on, and no other one of the model; with None, none is."""
        with self._guard:
            self._opened.pop(model, None)
            self._routed.pop(model, None)
            if rollout is not None:
                self._routed[model] = _tried(rollout)
            self._write()

    def close(self) -> None:
        """The process is to end: how it does so says nothing any more, and nothing is noted again."""
        with self._guard:
            self._closed = True
            if self._file is not None:
                _let_go(self._file)

    def _write(self) -> None:
        now = sorted({*self._opened.values(), *self._routed.values()})
        if now == self._written or self._closed or self._notes is None:
            return
        self._written = now
        try:
            if self._file is None:
                self._file = self._notes.own()
                # Also where a program ends, or throws its server away, that never told it to end.
                finalize(self, _let_go, self._file)
            write(self._file, Note(self._instance, now))
        except OSError as error:
            _log(error)


def report(left: Iterable[Tried], rollouts: Rollouts, why: str) -> None:
    """Have these deaths counted. What cannot be is logged: it must not keep a server from starting, now or ever."""
    for tried in left:
        try:
            if _tried(rollouts.get(tried.rollout)) == tried:
                rollouts.note_death(tried.rollout, why)
            else:
                _LOG.warning("a process died while it tried a rollout that the registry has no more: %d", tried.rollout)
        except ShipworthyError as error:
            _LOG.error("a process died while it tried rollout %d, which is not counted: %s", tried.rollout, error)


def _tried(rollout: Rollout) -> Tried:
    return Tried(rollout.id, rollout.started.isoformat())


def _let_go(file: FileIO) -> None:
    """Let the next process have it."""
    if not file.closed:
        try:
            write(file, None)
        except OSError as error:
            _log(error)
        file.close()


def _log(error: Exception) -> None:
    _LOG.warning("a challenger that ends this process will not be known: %s", error)
