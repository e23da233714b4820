"""Labels that come to a server, on their way to the registry."""

from __future__ import annotations

import threading
import time
from collections.abc import Sequence
from typing import TYPE_CHECKING

from ..errors import FeedbackError
from .labels import Labels
from .losses import Loss
from .remembering import Taken

if TYPE_CHECKING:
    from ..registry import Registry
    from ..server.routing import Told

PRUNE_S = 3600.0
"""So often labels are forgotten that nothing can contradict any more."""


class Receiver:
    """May be used by any thread."""

    def __init__(self, registry: Registry, key: bytes) -> None:
        """`key` seals the ids of this registry's predictions."""
        self._labels = Labels(registry, key)
        self._pruned = time.monotonic()
        self._guard = threading.Lock()

    def take(self, model: str, told: Sequence[Told]) -> list[Taken]:
        """What becomes of each label. Raises RegistryError where they cannot be kept; then all may be sent again, and
        what was kept of many is a duplicate."""
        # Before anything is kept: it may fail too.
        self._prune()
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

    def _prune(self) -> None:
        with self._guard:
            due = time.monotonic() - self._pruned > PRUNE_S
            if due:
                self._pruned = time.monotonic()
        if due:
            self._labels.prune()
