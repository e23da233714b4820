"""Changes of what a server of several workers serves: carried out by one worker after the other."""

from __future__ import annotations

import asyncio
import itertools
import logging
from collections.abc import Callable, Sequence

from .control import Do, Done, Fault, Verb
from .workers import Child

_LOG = logging.getLogger("shipworthy.server")


class Commands:
    """Keeps the workers alike. Used on one event loop."""

    def __init__(self, workers: Callable[[], Sequence[Child]], patience_s: float) -> None:
        """`workers` gives those that answer; one that is to be replaced has `patience_s` seconds to end."""
        self.models: tuple[str, ...] | None = None
        """The names that are served since the last command."""
        self.changes = 0
        """How many commands have changed what is served."""
        self._workers = workers
        self._patience_s = patience_s
        self._numbers = itertools.count(1)
        self._lock = asyncio.Lock()

    async def carry_out(self, verb: Verb, name: str) -> Fault | None:
        """Have one worker after the other do it. What fails in the first one, or ends it, is tried in no other, so that
        all stay alike; a worker that cannot do what others did is replaced by one that begins with it."""
        async with self._lock:
            first: Done | None = None
            for child in self._workers():
                done = await child.do(Do(next(self._numbers), verb, name))
                if first is not None:
                    self._compare(child, done, first, f"{verb} {name!r}")
                elif done is None:
                    words = f"process {child.pid}", "look into the log for how it ended"
                    return Fault("ServeError", f"ended during the {verb}", *words)
                elif done.fault is not None and verb != "reload":
                    return done.fault
                else:
                    # A reload does what it can.
                    first, self.models = done, done.models
            self.changes += first is not None
            return first.fault if first is not None else None

    async def catch_up(self, child: Child) -> None:
        """Have a worker do what was commanded while it started."""
        async with self._lock:
            if child.changes == self.changes or self.models is None:
                return
            present = {served.model for served in child.served}
            commands: list[tuple[Verb, str]] = [("unload", name) for name in sorted(present.difference(self.models))]
            commands += [("load", name) for name in self.models]
            for verb, name in commands:
                done = await child.do(Do(next(self._numbers), verb, name))
                if done is not None and done.fault is not None:
                    _LOG.error("process %d could not %s %r: %s", child.pid, verb, name, done.fault)
            child.changes = self.changes

    def _compare(self, child: Child, done: Done | None, first: Done, what: str) -> None:
        """Replace a worker that could not do what the first one did. One that has ended is replaced already, by one
        that begins with it."""
        if done is not None and done.fault is not None and first.fault is None:
            _LOG.error("process %d is replaced, because it could not %s: %s", child.pid, what, done.fault)
            child.leave(self._patience_s, last=False)
