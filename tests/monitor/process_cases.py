"""A monitor process within the test's own, and workers that send it what they like."""

from __future__ import annotations

import os
import socket
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace

import numpy as np
from view_cases import drifting

from shipworthy.contract import Array, Arrays
from shipworthy.errors import MonitorError
from shipworthy.monitor.observed import Opening, Watcher
from shipworthy.monitor.places import Places
from shipworthy.monitor.process import Process
from shipworthy.monitor.view import View
from shipworthy.monitor.wire import Acknowledge, Begin, End, Layout, Message, Part, Reader, Rows, packed


@dataclass
class Counted:
    """Watches by counting."""

    said: Begin
    reference: bytes
    watchers: int = 0
    left_at: float | None = None
    rows: list[float] = field(default_factory=list)
    requests: int = 0
    kept: int = 0
    alarms: set[str] = field(default_factory=set)
    fails: Exception | None = None

    def take(self, said: Rows, seconds: Array, parts: Sequence[tuple[Array, Arrays, Arrays]]) -> None:
        self.requests += said.seen
        for _, feeds, _ in parts:
            self.rows += feeds["x"][:, 0].tolist()

    def view(self) -> View | None:
        if self.fails is not None:
            return None
        return replace(drifting(), model=self.said.model, version=self.said.version, requests=self.requests)

    def merged(self, view: View) -> View:
        return replace(view, notes=("merged",))

    def acknowledge(self, said: Acknowledge) -> bool:
        return said.alarm in self.alarms

    def keep(self) -> None:
        self.kept += 1


class Opened:
    """What was begun to be watched; models that are called `bad` are refused."""

    def __init__(self) -> None:
        self.all: dict[tuple[str, str], Counted] = {}

    def __call__(self, said: Begin, reference: bytes) -> Counted:
        if said.model == "bad":
            raise MonitorError("bad", "cannot be watched", "do not")
        made = self.all[said.model, said.version] = Counted(said, reference)
        return made


class Worker:
    """One end of a connection."""

    def __init__(self, places: Places) -> None:
        self.wire = socket.socket(socket.AF_UNIX)
        self.wire.settimeout(20)
        self.wire.connect(str(places.socket))

    def say(self, message: Message, body: bytes = b"") -> None:
        self.wire.sendall(b"".join(packed(message, [body])))

    def begin(self, model: str = "digits", version: str = "1", number: int = 1, reference: bytes = b"it") -> None:
        self.say(Begin(number=number, model=model, version=version, variant="v", contract="{}"), reference)

    def rows(self, *numbers: float, number: int = 1, seen: int | None = None) -> None:
        array = np.array(numbers, "<f8")
        layout = Layout(name="x", output=False, dtype="<f8", shape=[1])
        parts = [Part(rows=len(array), arrays=[layout])] if numbers else []
        said = Rows(number=number, at=0.0, seen=len(array) if seen is None else seen, lost=0, parts=parts)
        self.say(said, np.zeros(len(array)).tobytes() + array.tobytes())

    def end(self, number: int = 1) -> None:
        self.say(End(number=number))

    def hear(self) -> Message | None:
        """None when the other side has gone."""
        reader = Reader()
        while data := self.wire.recv(1 << 16):
            for frame in reader.feed(data):
                return frame.message
        return None

    def close(self) -> None:
        self.wire.close()


class Running:
    """A process in a thread of the test, whose parent may let go of it."""

    def __init__(self, places: Places, opening: Opening | Opened, **options: object) -> None:
        listening = socket.socket(socket.AF_UNIX)
        listening.bind(str(places.socket))
        listening.listen()
        self.listening = listening
        self.process = Process(listening, places, opening, **options)  # type: ignore[arg-type]
        ours, self._parent = os.pipe()
        self.orphaned: bool | None = None

        def run() -> None:
            self.orphaned = self.process.run(ours)
            os.close(ours)

        self.thread = threading.Thread(target=run, daemon=True)
        self.thread.start()

    def end(self) -> None:
        """As when the parent has gone."""
        if self._parent >= 0:
            os.close(self._parent)
            self._parent = -1
        self.thread.join(20)
        assert not self.thread.is_alive()
        self.listening.close()


@contextmanager
def running(places: Places, opening: Opening | Opened, **options: object) -> Iterator[Running]:
    made = Running(places, opening, **options)
    try:
        yield made
    finally:
        made.end()


WATCHER: type[Watcher] = Counted
