"""In a process that serves: what was chosen and copied goes to the monitor process, from a thread of its own.

Nothing here waits where requests are answered. What cannot be sent in time is dropped, and counted."""

from __future__ import annotations

import json
import logging
import socket
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from random import Random
from typing import TYPE_CHECKING

from ..errors import MonitorError
from .choosing import Choosing
from .copying import MOST_BYTES, Watched
from .exposition import as_openmetrics
from .places import Places
from .wire import Acknowledge, Acknowledged, End, Message, Reader, packed

if TYPE_CHECKING:
    from ..predict import Predictor

TELL_S = 0.25
"""So often what was chosen is sent."""
TURNS = 4
"""After so many tellings a second is over."""
PATIENCE_S = 30.0
"""So long the monitor process may leave its socket unread; it may be about to start."""
LEAVING_S = 2.0
"""So long the end of a server waits for the last rows to be sent."""
ANSWER_S = 15.0
"""So long an acknowledgement may take."""
MOST_PIECES = 512
"""Systems take a thousand in one call."""
_LOG = logging.getLogger("shipworthy.monitor")


class Watching:
    """The observer of a process that serves. Its thread begins with the first version that is watched."""

    def __init__(
        self,
        places: Places,
        *,
        rate: float,
        one_in: int = 1,
        baseline: bool = False,
        chance: Callable[[], Random] = Random,
        tell_s: float = TELL_S,
    ) -> None:
        """`baseline`: the first rows are the reference, so that every version can be watched. `chance` gives the random
        numbers of a version."""
        self._places, self._rate, self._one_in, self._baseline = places, rate, one_in, baseline
        self._chance, self._tell_s = chance, tell_s
        self._guard = threading.Lock()
        self._watched: list[Watched] = []
        self._numbers = 0
        self._leaving = threading.Event()
        self._thread: threading.Thread | None = None

    def watch(self, model: str, predictor: Predictor) -> Watched | None:
        reference = predictor.package.reference(predictor.variant.id)
        if reference is None and not self._baseline:
            return None
        choosing = Choosing(self._rate, self._one_in, most_bytes=MOST_BYTES, chance=self._chance())
        with self._guard:
            self._numbers += 1
            watched = Watched(self._numbers, model, predictor, choosing, reference)
            self._watched.append(watched)
            if self._thread is None and not self._leaving.is_set():
                self._thread = threading.Thread(target=self._run, name="shipworthy-watching", daemon=True)
                self._thread.start()
        return watched

    def exposition(self, *, openmetrics: bool) -> bytes:
        try:
            text = self._places.exposition.read_bytes()
        except FileNotFoundError:
            return b""
        return as_openmetrics(text) if openmetrics else text

    def view(self, model: str) -> Sequence[Mapping[str, object]]:
        try:
            views: list[dict[str, object]] = json.loads(self._places.view(model).read_bytes())
        except FileNotFoundError:
            return []
        return views

    def acknowledge(self, model: str, alarm: str, who: str, why: str, new_baseline: int = 0) -> bool:
        """Raises MonitorError where the monitor process does not answer."""
        try:
            with socket.socket(socket.AF_UNIX) as wire:
                wire.settimeout(ANSWER_S)
                wire.connect(str(self._places.socket))
                said = Acknowledge(model=model, alarm=alarm, who=who, why=why, new_baseline=new_baseline)
                _send(wire, packed(said))
                answer = _answer(wire)
        except OSError as error:
            raise MonitorError("the monitor process", f"does not answer: {error}", "try again later") from None
        return isinstance(answer, Acknowledged) and answer.found

    def close(self) -> None:
        """Send what is left, and end; whatever is not sent in time is lost."""
        self._leaving.set()
        if self._thread is not None:
            self._thread.join(LEAVING_S)

    def _run(self) -> None:
        """Until `close`. A connection that breaks is made anew; the parent of the server keeps the socket."""
        wire: socket.socket | None = None
        turns, since, leaving, failed = 0, time.monotonic(), False, False
        while not leaving:
            leaving = self._leaving.wait(self._tell_s)
            turns += 1
            if turns >= TURNS:
                now = time.monotonic()
                for watched in self._all():
                    watched.choosing.turn(max(now - since, 1e-3))
                turns, since = 0, now
            try:
                wire = self._told(wire)
                failed = False
            except OSError as error:
                wire = None
                if not failed:
                    _LOG.warning("rows that were chosen did not reach the monitor process: %s", error)
                failed = True
            # One model's fault may not end the watching of the others.
            except Exception:  # noqa: BLE001
                wire = None
                _LOG.exception("rows that were chosen were not sent")
        if wire is not None:
            wire.close()

    def _all(self) -> list[Watched]:
        with self._guard:
            return list(self._watched)

    def _told(self, wire: socket.socket | None) -> socket.socket:
        """Tell what there is to tell, over a new connection where there is none. Raises OSError."""
        if wire is None:
            wire = self._connected()
        try:
            for watched in self._all():
                self._tell(wire, watched)
        except BaseException:
            wire.close()
            raise
        return wire

    def _connected(self) -> socket.socket:
        wire = socket.socket(socket.AF_UNIX)
        try:
            wire.settimeout(PATIENCE_S)
            wire.connect(str(self._places.socket))
        except BaseException:
            wire.close()
            raise
        for watched in self._all():
            watched.begun = False
        return wire

    def _tell(self, wire: socket.socket, watched: Watched) -> None:
        closed = watched.closed
        if not watched.begun:
            try:
                beginning = watched.beginning()
            except OSError as error:
                # Of a version that is served no more the files may have gone.
                _LOG.log(logging.INFO if closed else logging.ERROR, "model %r is not watched: %s", watched.model, error)
                self._forget(watched)
                return
            _send(wire, beginning)
            watched.begun = True
        seen, rows, pieces = watched.telling()
        try:
            if pieces:
                _send(wire, pieces)
        except OSError:
            watched.untold(seen, rows)
            raise
        # What it was asked last has been told by now.
        if closed:
            _send(wire, packed(End(number=watched.number)))
            self._forget(watched)

    def _forget(self, watched: Watched) -> None:
        with self._guard:
            self._watched.remove(watched)


def _send(wire: socket.socket, pieces: Sequence[bytes | memoryview]) -> None:
    """All of it, with one call of the system where it fits into the socket."""
    if len(pieces) > MOST_PIECES:
        pieces = [b"".join(pieces)]
    sent = wire.sendmsg(pieces)
    for piece in pieces:
        if sent < len(piece):
            wire.sendall(memoryview(piece)[sent:])
        sent = max(0, sent - len(piece))


def _answer(wire: socket.socket) -> Message | None:
    reader = Reader()
    while data := wire.recv(1 << 16):
        for frame in reader.feed(data):
            return frame.message
    return None
