"""What the monitor process writes and reads beside its work: in a thread, because a place may be far away."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from ..errors import ShipworthyError
from .alarms import Acknowledgement
from .merging import merged
from .monitor import Monitor
from .quality import LossSource, with_quality
from .store import States
from .view import View

if TYPE_CHECKING:
    from ..registry import Losses
    from ..signals import Accepted

CLOSE_S = 8.0
"""So long the end of the process waits for the last state to be written."""
_LOG = logging.getLogger("shipworthy.monitor")


class Remembering:
    """Does what it is given, one after another; of what is to be written of one version the newest."""

    def __init__(self, states: States) -> None:
        self.states = states
        self._wanted: dict[tuple[str, ...], Callable[[], None]] = {}
        self._changed = threading.Condition()
        self._closed = False
        self._failing: set[tuple[str, ...]] = set()
        self._thread = threading.Thread(target=self._run, name="shipworthy-remembering", daemon=True)
        self._thread.start()

    def do(self, key: tuple[str, ...], work: Callable[[], None]) -> None:
        """Soon, in place of what had this key and was not begun."""
        with self._changed:
            self._wanted[key] = work
            self._changed.notify_all()

    def close(self) -> None:
        with self._changed:
            self._closed = True
            self._changed.notify_all()
        self._thread.join(CLOSE_S)
        if self._thread.is_alive():
            _LOG.error("not all was saved: %s does not answer", self.states.place)

    def _run(self) -> None:
        while (found := self._next()) is not None:
            key, work = found
            try:
                work()
                self._failing.discard(key)
            # Whatever is wrong with it, all else is still to be remembered; what goes on failing is said once.
            except Exception as error:  # noqa: BLE001
                if key not in self._failing:
                    known = isinstance(error, ShipworthyError)
                    _LOG.error("what is watched is not remembered: %s", error, exc_info=None if known else error)
                self._failing.add(key)

    def _next(self) -> tuple[tuple[str, ...], Callable[[], None]] | None:
        with self._changed:
            while not self._wanted and not self._closed:
                self._changed.wait()
            if not self._wanted:
                return None
            key = next(iter(self._wanted))
            return key, self._wanted.pop(key)


@dataclass(slots=True)
class Memory:
    """Of one version on one node. Its methods are for the process's own thread; all but `restore` return at once."""

    remembering: Remembering
    model: str
    version: str
    node: str
    shared: bool
    """Whether other nodes may use the place, or people."""
    accepted: Accepted | None = None
    """What the version was accepted with."""
    source: LossSource | None = None
    """Where labels are looked for."""
    _losses: Losses | None = None
    _others: Sequence[View] = ()
    _said: Sequence[Acknowledgement] = field(default=())
    _unread: bool = False
    """Whether the place could not be read yet: what may be there is not written over."""
    _late: tuple[bytes | None, bytes | None] | None = None
    """What was read when it could be: state and samples."""

    def restore(self, monitor: Monitor) -> None:
        """Let a new monitor go on where the one before it was saved, if there was one."""
        try:
            found = self._read()
        except ShipworthyError as error:
            _LOG.warning("%s:%s: what was known before is looked for again: %s", self.model, self.version, error)
            self._unread = True
        else:
            self._go_on(monitor, *found)

    def keep(self, monitor: Monitor) -> None:
        """Save what it knows. Where what was known before could not be read, that comes first."""
        if self._unread:
            self._do("state", self._read_late)
            return
        if self._late is not None:
            late, self._late = self._late, None
            self._go_on(monitor, *late)
        states, names = self.remembering.states, (self.model, self.version, self.node)
        state, view, samples = monitor.state(), monitor.check(), monitor.samples_state()
        self._do("state", lambda: states.write(*names, state=state, view=view, samples=samples))

    def acknowledge(self, said: Acknowledgement) -> None:
        states = self.remembering.states
        self._do(said.alarm, lambda: states.acknowledge(self.model, self.version, said))

    def acknowledgements(self) -> Sequence[Acknowledgement]:
        """Those that are known by now. What has come since is looked for."""
        if self.shared:
            self._do("look", self._look)
        if self.source is not None:
            self._do("labels", self._count)
        return self._said

    def stands_elsewhere(self, alarm: str) -> bool:
        known = [one for view in self._others for one in view.alarms]
        return any(one.id == alarm and one.acknowledged is None for one in known)

    def merged(self, view: View) -> View:
        """With the views of other nodes, as they were last."""
        return merged([view, *self._others]) if self._others else view

    def with_quality(self, view: View) -> View:
        """With what labels have said, and what others have made of it, as far as that is known by now."""
        elsewhere = [alarm for other in self._others for alarm in other.alarms]
        return with_quality(view, self._losses, self.accepted, elsewhere=elsewhere, said=self._said)

    def _read(self) -> tuple[bytes | None, bytes | None]:
        """State and samples, None where there are none. Raises MonitorError where the place does not say."""
        states, names = self.remembering.states, (self.model, self.version, self.node)
        return states.state(*names), states.sample_bytes(*names)

    def _read_late(self) -> None:
        self._late = self._read()
        self._unread = False

    def _go_on(self, monitor: Monitor, state: bytes | None, samples: bytes | None) -> None:
        try:
            if state is not None:
                monitor.restore(state)
            if state is not None and samples and monitor.options.keep:
                monitor.restore_samples(samples)
        except ShipworthyError as error:
            # Another reference, say: then what was seen before says nothing any more.
            _LOG.warning("%s:%s begins anew: %s", self.model, self.version, error)

    def _do(self, what: str, work: Callable[[], None]) -> None:
        self.remembering.do((self.model, self.version, what), work)

    def _count(self) -> None:
        assert self.source is not None
        self._losses = self.source(self.model, self.version)

    def _look(self) -> None:
        states = self.remembering.states
        self._said = states.acknowledgements(self.model, self.version)
        # An alarm of a node that runs no more is acknowledged by others alone.
        self._others = states.views(self.model, self.version, without=self.node)
