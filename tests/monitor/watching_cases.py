"""A process that listens where workers send what they chose, and models that are watched."""

from __future__ import annotations

import shutil
import socket
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from shipworthy.contract import Arrays
from shipworthy.monitor.places import Places
from shipworthy.monitor.watching import Watching
from shipworthy.monitor.wire import Begin, End, Frame, Message, Reader, Rows, arrays_of
from shipworthy.predict import Predictor

sys.path.append(str(Path(__file__).parent.parent / "server"))

from server_cases import PRICES, predictor

WAIT_S = 20.0


def wait_until(ready: Callable[[], Any], seconds: float = WAIT_S) -> None:
    end = time.monotonic() + seconds
    while not ready():
        assert time.monotonic() < end, "it did not happen in time"
        time.sleep(0.005)


@contextmanager
def places() -> Iterator[Places]:
    """A folder whose name is short enough for a socket."""
    folder = Path(tempfile.mkdtemp(prefix="sw-"))
    try:
        yield Places(folder)
    finally:
        shutil.rmtree(folder)


class Listener:
    """Reads frames from whoever connects."""

    def __init__(self, places: Places) -> None:
        self.frames: list[Frame] = []
        self.connections: list[socket.socket] = []
        self.ended = 0
        self._listening = socket.socket(socket.AF_UNIX)
        self._listening.bind(str(places.socket))
        self._listening.listen()
        threading.Thread(target=self._accept, daemon=True).start()

    @property
    def messages(self) -> list[Message]:
        return [frame.message for frame in self.frames]

    @property
    def rows(self) -> list[tuple[Arrays, Arrays]]:
        """Inputs and outputs of each part, in the order of their arrival."""
        told = [(frame.message, frame.body) for frame in self.frames]
        return [part[1:] for said, body in told if isinstance(said, Rows) for part in arrays_of(said, body)[1]]

    @property
    def seen(self) -> int:
        return sum(said.seen for said in self.messages if isinstance(said, Rows))

    @property
    def lost(self) -> int:
        return sum(said.lost for said in self.messages if isinstance(said, Rows))

    def begun(self) -> list[Begin]:
        return [said for said in self.messages if isinstance(said, Begin)]

    def over(self) -> list[End]:
        return [said for said in self.messages if isinstance(said, End)]

    def cut(self) -> None:
        """Break all connections, as a process that dies does."""
        for wire in self.connections:
            wire.shutdown(socket.SHUT_RDWR)
        self.connections.clear()

    def close(self) -> None:
        self._listening.close()

    def _accept(self) -> None:
        while True:
            try:
                wire, _ = self._listening.accept()
            except OSError:
                return
            self.connections.append(wire)
            threading.Thread(target=self._read, args=(wire,), daemon=True).start()

    def _read(self, wire: socket.socket) -> None:
        reader = Reader()
        while data := wire.recv(1 << 16):
            self.frames += reader.feed(data)
        self.ended += 1
        wire.close()


def priced(reference: Path | None, given: Any = PRICES) -> Predictor:
    """A model of prices, whose package has this reference."""
    made = predictor(given, lambda feeds: {"price": feeds["row"].sum(axis=1, keepdims=True)})
    made.package.reference = lambda variant: reference  # type: ignore[method-assign,misc]
    return made


@contextmanager
def watching(places: Places, **options: Any) -> Iterator[Watching]:
    made = Watching(places, **{"rate": 500, "tell_s": 0.02, **options})
    try:
        yield made
    finally:
        made.close()


def row(number: float) -> tuple[Arrays, Arrays]:
    """A batch of one row, which can be told from all others."""
    return {"row": np.full((1, 2), number, np.float32)}, {"price": np.full((1, 1), 2 * number, np.float32)}
