"""Worker processes as their supervisor holds them."""

from __future__ import annotations

import asyncio
import logging
import os
import shutil
import signal
import socket
import sys
import tempfile
import time
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path

from .control import BEAT_S, Channel, Do, Done, Fault, Leave, Message
from .plan import Served

_LOG = logging.getLogger("shipworthy.server")

SILENT = 30
"""A worker that misses so many beats in a row is ended: it answers nobody, and would hold up every command. To load
what holds Python's lock meanwhile takes less."""
GO = b"\n"
"""Comes with the socket, as the first byte that a process is sent."""


class Spare:
    """A process that imports what a worker needs, and then waits for a socket to be one."""

    def __init__(self, process: asyncio.subprocess.Process, channel: Channel, wire: socket.socket, folder: str) -> None:
        self._process, self._channel, self._wire, self._folder = process, channel, wire, folder

    @classmethod
    async def start(cls, worker: str, engines: Iterable[str] = ()) -> Spare:
        """A fresh process of this module, with words for it behind its name, which imports these engines too. What it
        writes into temporary files is removed at its end. Raises OSError where there can be none."""
        ours, theirs = socket.socketpair()
        folder = tempfile.mkdtemp(prefix="shipworthy-worker-")
        try:
            process = await asyncio.create_subprocess_exec(
                *(sys.executable, "-P", "-m", *worker.split(), str(theirs.fileno()), folder, *engines),
                pass_fds=(theirs.fileno(),),
                stdin=asyncio.subprocess.DEVNULL,
                env={**os.environ, "TMPDIR": folder, "PYTHONPATH": importable()},
                # An interrupt at the terminal is for the supervisor, which passes it on.
                process_group=0,
            )
        except OSError:
            ours.close()
            shutil.rmtree(folder, ignore_errors=True)
            raise
        finally:
            theirs.close()
        wire = ours.dup()
        return cls(process, await Channel.over(ours), wire, folder)

    @property
    def waits(self) -> bool:
        """Whether it is still there."""
        return self._process.returncode is None

    def take(self, listening: socket.socket, *, changes: int) -> Child:
        """Give it a socket: it is a worker from now on. Raises OSError where it has just ended."""
        with self._wire:
            socket.send_fds(self._wire, [GO], [listening.fileno()])
        return Child(self._process, self._channel, self._folder, changes)

    async def dismiss(self) -> None:
        """It is not needed any more."""
        self._wire.close()
        await Child(self._process, self._channel, self._folder, 0).end(0.0)


class Reserve:
    """The process that waits for the next worker to die: to import everything takes longer than to load a small model,
    above all where the other workers keep the cores busy. Used on one event loop."""

    def __init__(self, worker: str) -> None:
        """`worker` is the module that is run as one."""
        self._worker = worker
        self._spare: Spare | None = None
        self._lock = asyncio.Lock()
        self._closed = False

    async def recruit(self) -> Spare:
        """A process that is to be a worker: the one that waits for that, or a new one. OSError where there is none."""
        spare, self._spare = self._spare, None
        if spare is not None and spare.waits:
            return spare
        if spare is not None:
            await spare.dismiss()
        return await Spare.start(self._worker)

    async def fill(self, engines: Iterable[str]) -> None:
        """Have a process wait, where none does."""
        async with self._lock:
            if self._spare is not None or self._closed:
                return
            try:
                self._spare = await Spare.start(self._worker, engines)
            except OSError as error:
                _LOG.warning("no process waits to replace a worker: %s", error)

    async def close(self) -> None:
        async with self._lock:
            self._closed = True
            if self._spare is not None:
                await self._spare.dismiss()


class Child:
    """A worker from its start to its end. Used on one event loop."""

    def __init__(self, process: asyncio.subprocess.Process, channel: Channel, folder: str, changes: int) -> None:
        self.changes = changes
        """How many commands had changed what is served when it began."""
        self.served: tuple[Served, ...] = ()
        self.loaded = False
        self.fault: Fault | None = None
        """Why it could not begin, where it said so."""
        self.heard = True
        """Whether it has said anything since somebody looked."""
        self._process, self._channel, self._folder = process, channel, folder
        self._opened_at: float | None = None
        self._ended_at: float | None = None
        self._outcomes: dict[int, asyncio.Future[Done | None]] = {}

    @property
    def pid(self) -> int:
        return self._process.pid

    @property
    def open(self) -> bool:
        """Whether it answers requests."""
        return self._opened_at is not None and self._ended_at is None

    @property
    def was_open(self) -> bool:
        """Whether it has ever answered requests."""
        return self._opened_at is not None

    @property
    def served_s(self) -> float:
        """For how many seconds it has answered requests."""
        return 0.0 if self._opened_at is None else (self._ended_at or time.monotonic()) - self._opened_at

    def opened(self) -> None:
        self._opened_at = time.monotonic()

    def say(self, message: Message) -> None:
        self._channel.say(message)

    async def hear(self) -> Message | None:
        message = await self._channel.hear()
        self.heard = True
        return message

    async def watch(self) -> None:
        """End it when it stands still. What counts are beats of this loop, and not seconds, of which many may pass
        while the whole machine is paused."""
        missed = 0
        while missed < SILENT:
            self.heard = False
            await asyncio.sleep(BEAT_S)
            missed = 0 if self.heard else missed + 1
        _LOG.error("process %d is ended: it has said nothing for %.0f s", self.pid, SILENT * BEAT_S)
        self.kill()

    async def do(self, command: Do) -> Done | None:
        """The outcome of a command; None where the worker has ended meanwhile."""
        if self._ended_at is not None:
            return None
        future: asyncio.Future[Done | None] = asyncio.get_running_loop().create_future()
        self._outcomes[command.number] = future
        self.say(command)
        return await future

    def done(self, outcome: Done) -> None:
        if (future := self._outcomes.pop(outcome.number, None)) is not None:
            future.set_result(outcome)

    def forsake(self) -> None:
        """It says no more: nobody shall wait for its outcomes."""
        self._ended_at = time.monotonic()
        for future in self._outcomes.values():
            future.set_result(None)
        self._outcomes.clear()

    def leave(self, patience_s: float, *, hurry: bool = False, last: bool = True) -> None:
        """Tell it to leave, and end it where it has not done so after so many seconds."""
        self.say(Leave(hurry, last))
        asyncio.get_running_loop().call_later(patience_s, self.kill)

    def kill(self) -> None:
        if self._process.returncode is None:
            self._process.kill()

    async def end(self, patience_s: float) -> str:
        """Wait until the process has ended, for so long, and then end it; how it ended, in words."""
        try:
            await asyncio.wait_for(self._process.wait(), patience_s)
        except TimeoutError:
            self.kill()
            await self._process.wait()
        await self._channel.close()
        await asyncio.to_thread(shutil.rmtree, self._folder, ignore_errors=True)
        return _words(self._process.returncode or 0)


def importable() -> str:
    """What this process can import: it may not have been installed."""
    return os.pathsep.join(dict.fromkeys(entry or str(Path.cwd()) for entry in sys.path))


def _words(code: int) -> str:
    if code >= 0:
        return f"it ended with exit code {code}"
    name = str(-code)
    # A number that this system has no name for.
    with suppress(ValueError):
        name = signal.Signals(-code).name
    return f"it was ended by {name}"
