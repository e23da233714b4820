"""Labels that come to a server, on their way to the registry."""

from __future__ import annotations

import logging
import threading
import time
import weakref
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from ..errors import FeedbackError, RegistryError
from .labels import COUNT_S, FORGOTTEN_AT_ONCE, Labels
from .losses import Loss
from .remembering import Taken

if TYPE_CHECKING:
    from ..registry import Registry
    from ..server.routing import Told

PRUNE_S = 3600.0
"""So often labels are forgotten that nothing can contradict any more."""
LAST_S = 2.0
"""So long the end waits for the registry to hear of what was refused last."""
_LOG = logging.getLogger("shipworthy.rollout")


class Receiver:
    """May be used by any thread. From the first label on it has one of its own, for what nobody waits for."""

    def __init__(self, registry: Registry, key: bytes) -> None:
        """`key` seals the ids of this registry's predictions."""
        self._labels = Labels(registry, key)
        self._closed = threading.Event()
        self._thread = threading.Thread(
            target=_keep_up, args=(self._labels, self._closed), name="shipworthy-counting", daemon=True
        )
        self._guard = threading.Lock()
        # At the end of the process nothing more is asked.
        weakref.finalize(self, self._closed.set).atexit = False

    def take(self, model: str, told: Sequence[Told]) -> list[Taken]:
        """What becomes of each label. Raises RegistryError where they cannot be kept; then all may be sent again, and
        what was kept of many is a duplicate."""
        self._begin()
        taken: list[Taken | None] = []
        items: list[tuple[str, object]] = []
        for sealed, label, loss in told:
            try:
                items.append((sealed, label if loss is None else Loss(loss)))
                taken.append(None)
            except FeedbackError as error:
                taken.append(Taken("unusable", f"{error.culprit} {error.reason}"))
        found = iter(self._labels.take(model, items)) if items else iter(())
        return [next(found) if one is None else one for one in taken]

    def close(self) -> None:
        """Count what was refused last; where the registry does not hear of it, go without. No label may come then."""
        self._closed.set()
        if self._thread.ident is not None:
            self._thread.join(LAST_S)

    def _begin(self) -> None:
        with self._guard:
            if self._thread.ident is None and not self._closed.is_set():
                self._thread.start()


def _keep_up(labels: Labels, closed: threading.Event) -> None:
    """Count what was refused, and forget what is old, until it is `closed`."""
    due = time.monotonic() + PRUNE_S
    while not closed.wait(COUNT_S):
        _careful(labels.settle)
        if time.monotonic() > due:
            # Where there are more, they go with the next beats, and labels that come go between.
            more = _careful(labels.prune) == FORGOTTEN_AT_ONCE
            due = time.monotonic() + (0.0 if more else PRUNE_S)
    _careful(labels.settle)


def _careful(work: Callable[[], int | None]) -> int | None:
    try:
        return work()
    except RegistryError as error:
        _LOG.debug("labels are counted and forgotten later: %s", error)
    # Nothing that goes wrong here may end the thread: it would be done no more, and nobody would notice.
    except Exception:  # noqa: BLE001
        _LOG.exception("counting or forgetting labels failed, and goes on")
    return None
