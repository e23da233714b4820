"""What a worker process was trying when it died: native code of a challenger can end the process that runs it.

A worker writes the rollouts that it takes part in into a file beside its counters, and takes them out when it ends in
order. The one that takes its place finds what was left, and says so to the registry."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path

from ..server.plan import Share

MOST = 3
"""So many workers may die while they try a challenger; then it has lost."""


class Trying:
    """The file of one worker. Used on the event loop."""

    def __init__(self, share: Share) -> None:
        self._file = Path(share.counters) / f"trying-{share.slot}.json"
        self._written: list[int] | None = None
        """None while the file is still that of the worker before."""

    def left(self) -> list[int]:
        """The rollouts that the worker before this one took part in when it died."""
        try:
            found: list[int] = json.loads(self._file.read_bytes())
        # There was none before, or it died while it wrote.
        except (OSError, ValueError):
            return []
        return found

    def note(self, rollouts: Iterable[int]) -> None:
        """These are tried from now on. Tens of microseconds, where something has changed."""
        now = sorted(rollouts)
        if now != self._written:
            part = self._file.with_suffix(".part")
            part.write_text(json.dumps(now))
            part.replace(self._file)
            self._written = now
