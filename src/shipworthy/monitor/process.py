"""The monitor process: one on each node, which scores what the workers of a server send, and shows what it finds.

It knows neither an engine nor the web server. Its parent gives it a socket to accept connections from, and an end of a
pipe that closes when the parent ends or wants it to."""

from __future__ import annotations

import json
import logging
import os
import selectors
import signal
import socket
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from typing import Protocol, TypeAlias

from ..errors import ShipworthyError
from .exposition import exposition
from .observed import Opening, Watcher
from .places import Places, write_whole
from .record import record_of
from .view import Alarm, View
from .webhooks import Sent
from .wire import Acknowledge, Acknowledged, Begin, End, Frame, Reader, Rows, arrays_of, packed

SHOW_S = 1.0
"""So often what has changed is shown, or less often where to look takes long."""
LOOKING = 0.05
"""Share of a core that looking may take."""
KEEP_S = 10.0
"""So often states are saved: what was seen since is lost with the process."""
RETIRE_S = 60.0
"""So long a version stays that nobody serves any more: a worker may be on its way back."""
PIECE = 1 << 18
Tell: TypeAlias = Callable[[Iterable[Alarm]], None]
_LOG = logging.getLogger("shipworthy.monitor")


class Webhooks(Protocol):
    """Tells alarms, as often as it is given them."""

    @property
    def sent(self) -> Sent: ...

    def tell(self, alarms: Iterable[Alarm]) -> None: ...


@dataclass(slots=True, eq=False)
class Connection:
    """A worker, or somebody who acknowledges."""

    wire: socket.socket
    reader: Reader = field(default_factory=Reader)
    watched: dict[int, Watcher] = field(default_factory=dict)
    """By the number that it has on this connection."""


class Process:
    """Reads, scores, shows and saves, in one thread."""

    def __init__(
        self,
        listening: socket.socket,
        places: Places,
        opening: Opening,
        *,
        webhooks: Webhooks | None = None,
        on_alarm: Sequence[Tell] = (),
        on_views: Callable[[Sequence[View]], None] = lambda views: None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """`on_alarm` are given all alarms there are, as often as views are made; `on_views` the views, merged over
        nodes. Both return at once."""
        self._listening, self._places, self._opening = listening, places, opening
        self._webhooks = webhooks
        self._tell = [*on_alarm, *([] if webhooks is None else [webhooks.tell])]
        self._on_views = on_views
        self._clock = clock
        self._selector = selectors.DefaultSelector()
        self._connections: set[Connection] = set()
        self._observed: dict[tuple[str, str], Watcher] = {}
        self._shown: dict[str, bytes] = {}
        self._changed = False
        self._hidden = False
        """Whether what there is to see could not be written."""
        self._show_at = self._keep_at = 0.0
        self._ending = self._orphaned = False

    def run(self, parent: int | None = None) -> bool:
        """Until SIGTERM, or until nobody holds the other end of the pipe `parent`; then save, and return whether it was
        the latter."""
        self._listening.setblocking(False)
        self._selector.register(self._listening, selectors.EVENT_READ, self._accept)
        if parent is not None:
            self._selector.register(parent, selectors.EVENT_READ, lambda: self._hear(parent))
        now = self._clock()
        self._show_at, self._keep_at = now + SHOW_S, now + KEEP_S
        with self._signals(), self._selector:
            while not self._ending:
                for key, _ in self._selector.select(self._wait_s()):
                    key.data()
                self._turn()
            self._finish()
        return self._orphaned

    def leave(self) -> None:
        """Finish what has come, and end."""
        self._ending = True

    @contextmanager
    def _signals(self) -> Iterator[None]:
        """SIGTERM wakes the loop, whatever it waits for. Only the main thread hears signals."""
        if threading.current_thread() is not threading.main_thread():
            yield
            return
        ours, theirs = socket.socketpair()
        ours.setblocking(False)
        theirs.setblocking(False)
        self._selector.register(ours, selectors.EVENT_READ, lambda: ours.recv(64))
        before = signal.set_wakeup_fd(theirs.fileno(), warn_on_full_buffer=False)
        handler = signal.signal(signal.SIGTERM, lambda number, frame: self.leave())
        try:
            yield
        finally:
            signal.signal(signal.SIGTERM, handler)
            signal.set_wakeup_fd(before)
            ours.close()
            theirs.close()

    def _hear(self, parent: int) -> None:
        if not os.read(parent, 64):
            self._orphaned = True
            self.leave()

    def _wait_s(self) -> float:
        due = self._show_at if self._changed else self._keep_at
        return max(0.0, due - self._clock())

    def _turn(self) -> None:
        now = self._clock()
        if self._changed and now >= self._show_at:
            # What others do on the core meanwhile is no reason to look less often.
            before = time.process_time()
            self.show()
            self._show_at = now + max(SHOW_S, (time.process_time() - before) / LOOKING)
        if now >= self._keep_at:
            self._keep(now)
            self._keep_at = now + KEEP_S

    def _keep(self, now: float) -> None:
        for key, observed in list(self._observed.items()):
            observed.keep()
            if observed.watchers:
                observed.left_at = None
            elif observed.left_at is None:
                observed.left_at = now
            elif now >= observed.left_at + RETIRE_S:
                _LOG.info("model %r: version %s is watched no more", *key)
                del self._observed[key]
                self._changed = True
        # Labels come without rows, and other nodes have alarms of their own.
        self._changed = self._changed or bool(self._observed)

    def show(self) -> None:
        """Write views and metrics, and tell alarms. Where a disk is full, they come when it is not."""
        self._changed = False
        try:
            self._show()
            self._hidden = False
        except OSError as error:
            if not self._hidden:
                _LOG.error("views and metrics cannot be written: %s", error)
            self._hidden = self._changed = True

    def _show(self) -> None:
        views: list[View] = []
        by_model: dict[str, list[View]] = {}
        for (model, _), observed in self._observed.items():
            if (view := observed.view()) is not None:
                views.append(view)
                by_model.setdefault(model, []).append(observed.merged(view))
        for model in self._shown.keys() - by_model.keys():
            del self._shown[model]
            self._places.view(model).unlink(missing_ok=True)
        for model, several in by_model.items():
            content = json.dumps([record_of(view) for view in several], allow_nan=False).encode()
            if content != self._shown.get(model):
                write_whole(self._places.view(model), content)
                self._shown[model] = content
        sent = None if self._webhooks is None else self._webhooks.sent
        write_whole(self._places.exposition, exposition(views, sent))
        for tell in self._tell:
            tell([alarm for view in views for alarm in view.alarms])
        self._on_views([view for several in by_model.values() for view in several])

    def _accept(self) -> None:
        # Who was about to connect may have gone.
        with suppress(BlockingIOError, ConnectionError):
            wire, _ = self._listening.accept()
            wire.setblocking(False)
            connection = Connection(wire)
            self._connections.add(connection)
            self._selector.register(wire, selectors.EVENT_READ, lambda: self._read(connection))

    def _read(self, connection: Connection) -> bool:
        """Whether something came; the end of a connection is something too."""
        try:
            data = connection.wire.recv(PIECE)
        except BlockingIOError:
            return False
        except OSError:
            data = b""
        if not data:
            self._part(connection)
            return True
        try:
            for frame in connection.reader.feed(data):
                self._heed(connection, frame)
        except ShipworthyError as error:
            _LOG.error("a worker is not heard any more: %s", error)
            self._part(connection)
        return True

    def _part(self, connection: Connection) -> None:
        self._connections.discard(connection)
        self._selector.unregister(connection.wire)
        connection.wire.close()
        for observed in connection.watched.values():
            observed.watchers -= 1

    def _heed(self, connection: Connection, frame: Frame) -> None:
        message = frame.message
        match message:
            case Begin():
                self._begin(connection, message, frame.body)
            case Rows():
                observed = connection.watched.get(message.number)
                if observed is not None:
                    observed.take(message, *arrays_of(message, frame.body))
                    self._changed = True
            case End():
                observed = connection.watched.pop(message.number, None)
                if observed is not None:
                    observed.watchers -= 1
            case Acknowledge():
                found = self._acknowledge(message)
                # Who asked may not wait any longer.
                with suppress(OSError):
                    connection.wire.sendall(b"".join(packed(Acknowledged(found=found))))

    def _begin(self, connection: Connection, said: Begin, reference: bytes | bytearray | memoryview) -> None:
        key = said.model, said.version
        observed = self._observed.get(key)
        if observed is None:
            try:
                observed = self._observed[key] = self._opening(said, bytes(reference))
            # It is served all the same, and what comes of it finds nobody. Other versions are still to be watched.
            except Exception as error:  # noqa: BLE001
                known = isinstance(error, ShipworthyError)
                _LOG.error("model %r: version %s is not watched: %s", *key, error, exc_info=None if known else error)
                return
        connection.watched[said.number] = observed
        observed.watchers += 1
        observed.left_at = None
        self._changed = True

    def _acknowledge(self, said: Acknowledge) -> bool:
        several = [one for (model, _), one in self._observed.items() if model == said.model]
        found = any(one.acknowledge(said) for one in several)
        if found:
            self.show()
        return found

    def _finish(self) -> None:
        """Read what has come by now, save all, and show it."""
        self._accept()
        for connection in list(self._connections):
            while connection in self._connections and self._read(connection):
                pass
        for observed in self._observed.values():
            observed.keep()
        self.show()
        for connection in list(self._connections):
            self._part(connection)
