"""A version as the monitor process has it: its monitor, what is remembered of it, and how many workers serve it."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Sequence
from typing import Protocol, TypeAlias

from ..contract import Array, Arrays
from .alarms import Acknowledgement
from .groups import Group
from .monitor import Monitor
from .remembering import Memory
from .view import View
from .wire import Acknowledge, Begin, Rows

_LOG = logging.getLogger("shipworthy.monitor")


class Observed:
    """What fails in it is said once, and keeps no other version from being watched. Used by one thread."""

    def __init__(self, monitor: Monitor, memory: Memory) -> None:
        """`memory` keeps the monitor's state, and tells of other nodes."""
        self.watchers = 0
        self.left_at: float | None = None
        """When it was first found that nobody serves it."""
        self._monitor, self._memory = monitor, memory
        self._failed = False
        self._unsaved = False
        self._acknowledged: set[str] = set()
        """Alarms whose acknowledgement was heard of."""
        memory.restore(monitor)

    def take(self, said: Rows, seconds: Array, parts: Sequence[tuple[Array, Arrays, Arrays]]) -> None:
        """Score rows that were chosen, in their order."""
        self._unsaved = True
        scored = 0
        if not self._failed and len(seconds):
            groups = [Group(feeds, outputs, places) for places, feeds, outputs in parts]
            try:
                for alarm in self._monitor.update_groups(groups, said.at, seconds):
                    _LOG.warning("%s", alarm.summary)
                scored = len(seconds)
            # Whatever is wrong with it, other versions are still to be watched.
            except Exception as error:  # noqa: BLE001
                self._fail(error)
        self._monitor.count(said.seen, said.lost + len(seconds) - scored)

    def view(self) -> View | None:
        """As this node sees it; None where that cannot be said."""
        try:
            return self._monitor.check()
        except Exception as error:  # noqa: BLE001
            self._fail(error)
            return None

    def merged(self, view: View) -> View:
        """With what other nodes have seen."""
        return self._memory.merged(view)

    def acknowledge(self, said: Acknowledge) -> bool:
        """False where no alarm of this id stands, here or on another node."""
        at = time.time()  # one for all nodes: alarms of the quality are told apart by it
        found = self._monitor.acknowledge(said.alarm, said.who, said.why, at)
        if not (found or self._memory.stands_elsewhere(said.alarm)):
            return False
        told = Acknowledgement(said.alarm, said.who, said.why, at, said.new_baseline)
        self._monitor.renew([told])
        self._unsaved = True
        self._memory.acknowledge(told)
        return True

    def keep(self) -> None:
        """Have what has changed saved, and hear what other nodes and people have written meanwhile."""
        try:
            heard = self._memory.acknowledgements()
            for said in heard:
                if said.alarm not in self._acknowledged:
                    self._acknowledged.add(said.alarm)
                    self._unsaved |= self._monitor.acknowledge(said.alarm, said.who, said.why, said.at)
            self._unsaved |= self._monitor.renew(heard)
            if self._unsaved and not self._failed:
                self._unsaved = False
                self._memory.keep(self._monitor)
        except Exception as error:  # noqa: BLE001
            self._fail(error)

    def _fail(self, error: Exception) -> None:
        if not self._failed:
            name = f"{self._monitor.model}:{self._monitor.version}"
            _LOG.error("%s is watched no more: %s", name, error, exc_info=error)
        self._failed = True


class Watcher(Protocol):
    """What the process needs of `Observed`."""

    watchers: int
    left_at: float | None

    def take(self, said: Rows, seconds: Array, parts: Sequence[tuple[Array, Arrays, Arrays]]) -> None: ...

    def view(self) -> View | None: ...

    def merged(self, view: View) -> View: ...

    def acknowledge(self, said: Acknowledge) -> bool: ...

    def keep(self) -> None: ...


Opening: TypeAlias = Callable[[Begin, bytes], Watcher]
"""Begins to watch a version, with the bytes of its reference, or none. Raises ShipworthyError where that cannot be."""
