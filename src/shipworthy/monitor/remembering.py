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
        self._failing = False
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
        while (work := self._next()) is not None:
            try:
                work()
                self._failing = False
            except ShipworthyError as error:
                if not self._failing:
                    _LOG.error("what is watched is not remembered: %s", error)
                self._failing = True

    def _next(self) -> Callable[[], None] | None:
        with self._changed:
            while not self._wanted and not self._closed:
                self._changed.wait()
            return self._wanted.pop(next(iter(self._wanted))) if self._wanted else None


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

    def restore(self, monitor: Monitor) -> None:
        """Let a new monitor go on where the one before it was saved, if there was one."""
        states, names = self.remembering.states, (self.model, self.version, self.node)
        try:
            if (state := states.state(*names)) is None:
                return
            monitor.restore(state)
            if monitor.options.keep and (samples := states.sample_bytes(*names)):
                monitor.restore_samples(samples)
        except ShipworthyError as error:
            # Another reference, say: then what was seen before says nothing any more.
            _LOG.warning("%s:%s begins anew: %s", self.model, self.version, error)

    def keep(self, monitor: Monitor) -> None:
        """Save what it knows."""
        states, names = self.remembering.states, (self.model, self.version, self.node)
        state, view, samples = monitor.state(), monitor.check(), monitor.samples_state()
        self._do("state", lambda: states.write(*names, state=state, view=view, samples=samples))

    def acknowledge(self, alarm: str, who: str, why: str, at: float) -> None:
        states = self.remembering.states
        self._do(alarm, lambda: states.acknowledge(self.model, self.version, alarm, who, why, at))

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

    def _do(self, what: str, work: Callable[[], None]) -> None:
        self.remembering.do((self.model, self.version, what), work)

    def _count(self) -> None:
        assert self.source is not None
        self._losses = self.source(self.model, self.version)

    def _look(self) -> None:
        states = self.remembering.states
        self._said = states.acknowledgements(self.model, self.version)
        nodes = [node for node in states.nodes(self.model, self.version) if node != self.node]
        found = [states.view(self.model, self.version, node) for node in nodes]
        self._others = [view for view in found if view is not None]
