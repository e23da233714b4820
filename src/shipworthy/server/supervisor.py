"""A server of several processes: the supervisor keeps the sockets and the workers, and knows neither model nor engine.

On Linux every worker has a listening socket of its own, and the kernel spreads connections over them. The supervisor
keeps each socket open too, so that a worker's death resets no connection that still waits in its queue: the worker that
takes its place takes those connections."""

from __future__ import annotations

import asyncio
import logging
import signal
from collections.abc import Callable, Coroutine
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..errors import ServeError, ShipworthyError
from .commands import Commands
from .control import Answered, Ask, Begin, Done, Failed, Loaded, Message, Open, Opened, error_of
from .plan import WORKER, Served, Share
from .sockets import SPREADS, allow_many_files, beside
from .workers import Child, Reserve

if TYPE_CHECKING:
    from socket import socket

    from .binding import Binding
    from .hosting import Serving

STARTS = 3
"""So often a worker may die before it is ready, when the server has never been ready, until the server gives up."""
STEADY_S = 10.0
"""A worker that lived for so long did not die of its start."""
LONGEST_PAUSE_S = 30.0
GRACE_S = 10.0
"""So much longer than `drain_s` a worker may take to end."""
HURRY_S = 3.0
"""So long a worker may take to end when nothing is waited for."""

_LOG = logging.getLogger("shipworthy.server")


class Slot:
    """The place of a worker, which is always held by one, or about to be."""

    def __init__(self, number: int, listening: socket) -> None:
        self.number = number
        self.listening: socket | None = listening
        """None after starts that failed again and again: connections would wait there for nobody."""
        self.child: Child | None = None
        self.failures = 0
        """Workers in a row that died young."""


class Supervisor:
    """Keeps as many workers as it was given sockets for."""

    def __init__(
        self, bound: Binding, *, on_ready: Callable[[Serving], None] | None = None, worker: str = WORKER
    ) -> None:
        """`worker` is the module that is run as one."""
        self.url = bound.url
        self.grpc_address = bound.grpc_address
        self.served: tuple[Served, ...] = ()
        """What was loaded at the start."""
        self._bound = bound
        self._on_ready = on_ready
        self._ready = False
        self._leaving = asyncio.Event()
        self._failure: ShipworthyError | None = None
        self._slots = [Slot(number, listening) for number, listening in enumerate(bound.sockets)]
        # Has the address for a slot that gave its socket up, even where all of them did.
        self._anchor = beside(bound.sockets[0]) if SPREADS else bound.sockets[0].dup()
        self._commands = Commands(self._open, self._patience_s)
        self._reserve = Reserve(worker)
        self._tasks: set[asyncio.Task[None]] = set()

    def run(self) -> None:
        """Serve until SIGTERM or SIGINT; then have all workers drain, and return. A second one waits neither for
        requests in flight nor for packages that are being opened. SIGHUP has all workers read their packages anew.
        Raises what refuses a package."""
        from .observe.readers import counters_folder

        allow_many_files()
        try:
            with counters_folder() as counters:
                asyncio.run(self._main(counters))
        finally:
            self._anchor.close()
            self._bound.close()
        if self._failure is not None:
            raise self._failure

    async def _main(self, counters: Path) -> None:
        loop = asyncio.get_running_loop()
        handlers = {signal.SIGTERM: self._leave, signal.SIGINT: self._leave, signal.SIGHUP: self._reload}
        for number, handler in handlers.items():
            loop.add_signal_handler(number, handler)
        try:
            await asyncio.gather(*(self._keep(slot, counters) for slot in self._slots))
        finally:
            await self._reserve.close()

    async def _keep(self, slot: Slot, counters: Path) -> None:
        """Have a worker in this slot, until the server leaves."""
        while not self._leaving.is_set():
            try:
                child = await self._start(slot, counters)
            except OSError as error:
                # No process, no memory or no file is left; others may end, and leave some.
                self._note_death(slot, f"it cannot be started: {error}")
            else:
                await self._attend(slot, child)
                ended = await child.end(GRACE_S)
                self._note_death(slot, str(child.fault or ended), child)
            with suppress(TimeoutError):
                await asyncio.wait_for(self._leaving.wait(), _pause(slot.failures))

    async def _start(self, slot: Slot, counters: Path) -> Child:
        share = Share(slot.number, len(self._slots), str(counters), self._commands.models)
        listening = slot.listening or beside(self._anchor)
        try:
            child = slot.child = (await self._reserve.recruit()).take(listening, changes=self._commands.changes)
        finally:
            if slot.listening is None:
                listening.close()
        child.say(Begin(replace(self._bound.plan, share=share), listen_at_once=not self._ready))
        if self._leaving.is_set():
            child.leave(self._patience_s)
        return child

    async def _prepare(self) -> None:
        """When all workers serve, have a process at hand for the next that dies."""
        if len(self._open()) == len(self._slots) and not self._leaving.is_set():
            await self._reserve.fill({served.engine for served in self.served})

    async def _attend(self, slot: Slot, child: Child) -> None:
        """Hear a worker until it has gone."""
        watching = asyncio.create_task(child.watch())
        try:
            while (message := await child.hear()) is not None:
                self._heed(child, message)
        except ServeError as error:
            _LOG.error("%s", error)
        finally:
            watching.cancel()
        slot.child = None
        child.forsake()

    def _heed(self, child: Child, message: Message) -> None:
        match message:
            case Loaded():
                child.served = message.served
                self._admit(child)
            case Opened():
                child.opened()
                self._announce()
                self._begin(self._prepare())
            case Failed():
                child.fault = message.fault
            case Done():
                child.done(message)
            case Ask():
                self._begin(self._answer(child, message))

    def _admit(self, child: Child) -> None:
        """Let a worker serve: at once where it replaces another, else when all have loaded."""
        child.loaded = True
        if self._ready:
            child.say(Open())
            self._begin(self._commands.catch_up(child))
        elif all(slot.child is not None and slot.child.loaded for slot in self._slots):
            for slot in self._slots:
                if slot.child is not None:
                    slot.child.say(Open())

    def _announce(self) -> None:
        children = [slot.child for slot in self._slots]
        if self._ready or not all(child is not None and child.open for child in children):
            return
        self._ready = True
        self.served = next(child.served for child in children if child is not None)
        if self._on_ready is not None:
            self._on_ready(self)

    def _note_death(self, slot: Slot, reason: str, child: Child | None = None) -> None:
        """Say why a worker has ended; what no start can mend ends the server."""
        if self._leaving.is_set():
            return
        steady = child is not None and child.served_s > STEADY_S
        slot.failures = 0 if steady else slot.failures + 1
        if not self._ready and child is not None and child.fault is not None:
            self._fail(error_of(child.fault))
        elif not self._ready and slot.failures >= STARTS:
            remedy = "look for the reason in the lines above; the system ends a process with SIGKILL for want of memory"
            self._fail(ServeError("workers", f"died {STARTS} times before they were ready: {reason}", remedy))
        else:
            _LOG.error("worker %d is replaced: %s", slot.number, reason)
            if slot.failures > 1 and (child is None or not child.was_open) and SPREADS and slot.listening is not None:
                slot.listening.close()
                slot.listening = None

    def _fail(self, error: ShipworthyError) -> None:
        self._failure = self._failure or error
        if not self._leaving.is_set():
            self._leave()

    def _leave(self) -> None:
        hurry = self._leaving.is_set()
        self._leaving.set()
        for slot in self._slots:
            if slot.child is not None:
                slot.child.leave(HURRY_S if hurry else self._patience_s, hurry=hurry)
        # From now on the workers alone decide when the last connection has come.
        self._anchor.close()
        self._bound.close()

    def _open(self) -> list[Child]:
        """The workers that answer."""
        return [slot.child for slot in self._slots if slot.child is not None and slot.child.open]

    @property
    def _patience_s(self) -> float:
        return self._bound.plan.settings.drain_s + GRACE_S

    def _reload(self) -> None:
        if self._ready and not self._leaving.is_set():
            self._begin(self._reload_all())

    async def _reload_all(self) -> None:
        fault = await self._commands.carry_out("reload", "")
        if fault is not None:
            _LOG.error("not all packages were reloaded: %s", fault)

    async def _answer(self, child: Child, asked: Ask) -> None:
        child.say(Answered(asked.number, await self._commands.carry_out(asked.verb, asked.name)))

    def _begin(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)


def _pause(failures: int) -> float:
    """Seconds before the next start: none after one death, then twice as long each time."""
    return 0.0 if failures < 2 else min(0.5 * 2 ** (failures - 2), LONGEST_PAUSE_S)
