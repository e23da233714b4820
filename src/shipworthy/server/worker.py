"""A worker process: `python -m shipworthy.server.worker CONTROL FOLDER [ENGINE...]`.

It is given the number of a socket, the way to its supervisor, and a folder for its temporary files. It imports what it
will need, and waits until it is sent the socket where connections come from. Then it serves until its supervisor tells
it to leave, or is gone."""

from __future__ import annotations

import asyncio
import itertools
import logging
import select
import shutil
import signal
import socket
import sys
from collections.abc import Callable, Sequence
from importlib import import_module
from typing import TYPE_CHECKING, Any, Literal

from ..errors import ServeError, ShipworthyError
from .control import (
    BEAT_S,
    Alive,
    Answered,
    Ask,
    Begin,
    Channel,
    Do,
    Done,
    Failed,
    Fault,
    Leave,
    Loaded,
    Message,
    Open,
    Opened,
    error_of,
    fault_of,
    misunderstood,
)
from .loading import Loading
from .plan import Plan
from .process import Process

if TYPE_CHECKING:
    from .problems import ProblemError
    from .routing import Parts

_LOG = logging.getLogger("shipworthy.server")
_PROBLEM = "problem:"
_IMPORTED = ("uvicorn", "uvloop", "shipworthy.predict", "shipworthy.server.app", "shipworthy.server.connections")


class Worker:
    """What passes between a supervisor and a process that serves."""

    def __init__(self, process: Process, channel: Channel) -> None:
        self._process = process
        self._channel = channel
        self._admitted = asyncio.Event()
        self._numbers = itertools.count(1)
        self._asked: dict[int, asyncio.Future[Fault | None]] = {}
        self._doing: set[asyncio.Task[None]] = set()
        self.orphaned = False
        """Whether the supervisor has gone without a word."""
        process.catalog.command = self._ask

    async def run(self, *, listen_at_once: bool) -> None:
        hearing, beating = asyncio.create_task(self._hear()), asyncio.create_task(self._beat())
        try:
            await self._process.run(self._ready, admitted=self._admission, listen_at_once=listen_at_once)
        finally:
            hearing.cancel()
            beating.cancel()

    def leave(self, *, last: bool = False) -> None:
        """By itself, a worker that is told to end is replaced by another one, which gets its socket."""
        self._process.leave(last=last)
        # Who waits for leave to open, waits no longer.
        self._admitted.set()

    async def _admission(self) -> None:
        self._channel.say(Loaded(self._process.loaded))
        await self._admitted.wait()

    def _ready(self, predictors: Sequence[Any]) -> None:
        self._channel.say(Opened())

    async def _beat(self) -> None:
        while True:
            self._channel.say(Alive())
            await asyncio.sleep(BEAT_S)

    async def _hear(self) -> None:
        try:
            while (message := await self._channel.hear()) is not None:
                self._obey(message)
        except ServeError as error:
            _LOG.error("%s", error)
        self.orphaned = True
        for future in self._asked.values():
            # Who asked may have left just now.
            if not future.done():
                future.set_result(fault_of(_gone()))
        self._asked.clear()
        self.leave(last=True)

    def _obey(self, message: Message) -> None:
        match message:
            case Open():
                self._admitted.set()
            case Do():
                task = asyncio.create_task(self._do(message))
                self._doing.add(task)
                task.add_done_callback(self._doing.discard)
            case Answered():
                if (future := self._asked.pop(message.number, None)) is not None and not future.done():
                    future.set_result(message.fault)
            case Leave():
                if message.hurry:
                    self._process.hurry()
                self.leave(last=message.last)

    async def _do(self, command: Do) -> None:
        from .problems import ProblemError

        fault: Fault | None = None
        try:
            await self._carry_out(command)
        except ProblemError as error:
            fault = Fault(_PROBLEM + error.type.slug, error.detail)
        except ShipworthyError as error:
            fault = fault_of(error)
        except Exception as error:  # noqa: BLE001 - whatever it is, the supervisor waits for an outcome
            _LOG.exception("the command %s %s failed", command.verb, command.name)
            fault = Fault("ServeError", f"failed: {type(error).__name__}, see the log", command.verb)
        self._channel.say(Done(command.number, fault, tuple(self._process.catalog.models)))

    async def _carry_out(self, command: Do) -> None:
        if command.verb == "load":
            await self._process.catalog.load(command.name)
        elif command.verb == "unload":
            await self._process.catalog.unload(command.name)
        elif failures := await self._process.reload():
            raise failures[0]

    async def _ask(self, verb: Literal["load", "unload"], name: str) -> None:
        """Have all workers carry out a command, this one included. Raises what the first failure was."""
        if self.orphaned:
            raise _gone()
        number = next(self._numbers)
        future = self._asked[number] = asyncio.get_running_loop().create_future()
        self._channel.say(Ask(number, verb, name))
        try:
            fault = await future
        finally:
            self._asked.pop(number, None)
        if fault is not None:
            raise _raised(fault)


def main(compose: Callable[[Plan], Parts | None] | None = None, imports: Sequence[str] = ()) -> None:
    """Serve as the supervisor says; exit code 0 also where a package was refused, for that was said.

    `compose` gives what other rooms put into the process, which needs these `imports`."""
    # The supervisor passes on what these mean.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    number, folder, *engines = sys.argv[1:]
    control = socket.socket(fileno=int(number))
    # One that is needed at once imports while its packages are read.
    if not select.select([control], (), (), 0)[0]:
        _import_all(engines, imports)
    listening = _listening(control)
    import uvloop

    orphaned = True
    if listening is not None:
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            orphaned = runner.run(_serve(control, listening, compose))
    if orphaned:
        shutil.rmtree(folder, ignore_errors=True)


def _import_all(engines: Sequence[str], imports: Sequence[str]) -> None:
    """What takes long to import, and is needed by every worker, or was by those before."""
    for name in (*_IMPORTED, *imports):
        import_module(name)
    from ..runtime.engines import engine_named

    for engine in engines:
        import_module(engine_named(engine).module)


def _listening(control: socket.socket) -> socket.socket | None:
    """The socket that the supervisor sends when this process is needed; None when it has gone."""
    said, numbers, _, _ = socket.recv_fds(control, 1, 1)
    if said and not numbers:
        # It is of another version, which passes the socket in another way.
        raise SystemExit(str(misunderstood("it sends no socket")))
    return socket.socket(fileno=numbers[0]) if said else None


async def _serve(
    control: socket.socket, listening: socket.socket, compose: Callable[[Plan], Parts | None] | None
) -> bool:
    """True where the supervisor has gone."""
    channel = await Channel.over(control)
    try:
        begin = await channel.hear()
        if begin is None:
            return True
        if not isinstance(begin, Begin):
            raise ServeError("worker", f"was told {begin!r} first", "restart the server")
        return await _begin(begin, listening, channel, compose)
    except ShipworthyError as error:
        channel.say(Failed(fault_of(error)))
        return False
    finally:
        await channel.close()


async def _begin(
    begin: Begin, listening: socket.socket, channel: Channel, compose: Callable[[Plan], Parts | None] | None
) -> bool:
    from .observe.logs import configure

    logs = begin.plan.logs
    log = configure(logs.format, access=logs.access, root=True)
    parts = None if compose is None else compose(begin.plan)
    loading = Loading(begin.plan, None if parts is None else parts.upstream)
    try:
        worker = Worker(Process(begin.plan, listening, loading, log, parts), channel)
        # An operator may end one worker; another takes its place.
        asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, worker.leave)
        await worker.run(listen_at_once=begin.listen_at_once)
        return worker.orphaned
    finally:
        await asyncio.to_thread(loading.close)


def _gone() -> ServeError:
    return ServeError("supervisor", "has gone", "restart the server")


def _raised(fault: Fault) -> ShipworthyError | ProblemError:
    from .problems import PROBLEM_TYPES, RETRY_AFTER, ProblemError

    if not fault.kind.startswith(_PROBLEM):
        return error_of(fault)
    slug = fault.kind.removeprefix(_PROBLEM)
    kind = next(one for one in PROBLEM_TYPES if one.slug == slug)
    return ProblemError(kind, fault.reason, headers=RETRY_AFTER if kind.status == 503 else None)


if __name__ == "__main__":
    main()
