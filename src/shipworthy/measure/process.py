"""A worker process as its parent holds it: commands with a time limit and a memory cap, and a reason when it dies."""

from __future__ import annotations

import json
import math
import os
import selectors
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import IO, NoReturn, TypeVar

from .. import errors
from ..errors import EngineError, InputError, MeasureError, MissingExtra, ShipworthyError
from . import messages as say
from .last_words import last_words
from .memory import available_mb, tree_rss_mb
from .pinning import processors_for, thread_variables

R = TypeVar("R", bound=say.Reply)

_LOOK_S = 0.05
"""Between two looks at the memory of the process."""
_LOOK_AT_CHILDREN = 10
"""Looks between two that include its descendants, which costs milliseconds."""
_FAREWELL_S = 10.0


@dataclass(frozen=True, slots=True)
class Caps:
    """When a worker is given up. The contract's own limits are judged later, on what was measured."""

    export_s: float = 900.0
    """For an export or the preflight rules, compilers included, and for each epoch of a training."""
    step_s: float = 300.0
    """For any other command."""
    memory_mb: float | None = None
    """Resident memory with all descendants; default: 80 % of what the host has free when the worker starts."""


@dataclass(slots=True)
class Deadline:
    """When a build's time is up; all its workers share it, and it may be moved while they work."""

    at: float | None = None
    """Of time.monotonic(); None: never."""

    def left(self) -> float:
        """Seconds."""
        return math.inf if self.at is None else self.at - time.monotonic()


class Worker:
    """A process that runs one candidate. As a context manager it never outlives its block."""

    def __init__(
        self,
        subject: str,
        log: Path,
        *,
        caps: Caps | None = None,
        threads: int | None = None,
        paths: Sequence[Path] = (),
        preload: str | None = None,
        deadline: Deadline | None = None,
        told: Callable[[str], None] | None = None,
    ) -> None:
        """`subject` names it in errors; `log` takes its standard error; `paths` become importable in it.

        It imports the module `preload` while it waits for its first command. When the `deadline` has passed, it is
        given up. `told` hears how far a long command is."""
        self.subject = subject
        self._log = log
        self._deadline = deadline or Deadline()
        self._told = told
        self._caps = caps or Caps()
        self._memory_mb = self._caps.memory_mb or 0.8 * available_mb()
        self._unread = b""
        log.parent.mkdir(parents=True, exist_ok=True)
        settings = {"processors": processors_for(threads), "preload": preload, "parent": os.getpid()}
        with log.open("wb") as stderr:
            self._process = subprocess.Popen(
                [sys.executable, "-P", "-m", "shipworthy.measure.worker", json.dumps(settings)],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=stderr,
                start_new_session=True,
                env={**os.environ, **thread_variables(threads), "PYTHONPATH": _importable(paths)},
            )
        self._stdout = _pipe(self._process.stdout)
        self._selector = selectors.DefaultSelector()
        self._selector.register(self._stdout, selectors.EVENT_READ)

    @property
    def pid(self) -> int:
        return self._process.pid

    def ask(self, command: say.Command, reply: type[R], *, timeout: float | None = None) -> R:
        """Send a command and wait for its reply.

        Raises what the worker raised, if it is one of Shipworthy's errors, EngineError for any other exception in it,
        and MeasureError (gate `crash`, `hang`, `memory` or `budget`) if the process had to be given up."""
        slow = isinstance(command, say.Making)
        limit = timeout or (self._caps.export_s if slow else self._caps.step_s)
        stdin = _pipe(self._process.stdin)
        try:
            stdin.write(command.model_dump_json().encode() + b"\n")
            stdin.flush()
        except (BrokenPipeError, ValueError):
            self._raise_death(command.do)
        answer = self._answer(command.do, limit)
        if answer.failure is not None:
            self._raise_failure(answer.failure)
        read: R = reply.model_validate_json(answer.reply)  # type: ignore[assignment]
        return read

    def close(self) -> None:
        """Let it leave by itself, then end whatever is left of its process group."""
        if self._process.poll() is None:
            with suppress(ShipworthyError):
                self.ask(say.Leave(), say.Done, timeout=_FAREWELL_S)
        self.kill()

    def kill(self) -> None:
        """End the whole process group now."""
        with suppress(ProcessLookupError, PermissionError):
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()
        self._selector.close()
        for pipe in (self._process.stdin, self._process.stdout):
            if pipe is not None:
                with suppress(BrokenPipeError):
                    pipe.close()

    def __enter__(self) -> Worker:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None) -> None:
        if kind is None:
            self.close()
        else:
            self.kill()

    def _answer(self, doing: str, limit: float) -> say.Answer:
        """The last line. A line that says how far it is, shows that it is alive: the limit counts from there."""
        while True:
            answer = say.Answer.model_validate_json(self._line(doing, limit))
            if answer.told is None:
                return answer
            if self._told is not None:
                self._told(answer.told)

    def _line(self, doing: str, limit: float) -> bytes:
        given_up = time.monotonic() + limit
        looks = 0
        while b"\n" not in self._unread:
            if self._selector.select(_LOOK_S):
                read = os.read(self._stdout.fileno(), 1 << 20)
                if not read:
                    self._raise_death(doing)
                self._unread += read
                continue
            looks += 1
            self._check_memory(doing, children=looks % _LOOK_AT_CHILDREN == 0)
            if self._deadline.left() <= 0:
                self.kill()
                raise MeasureError(self.subject, f"the time of the build was up while doing {doing!r}", gate="budget")
            if time.monotonic() > given_up:
                self.kill()
                reason = f"gave no answer to {doing!r} within {limit:g} s"
                raise MeasureError(self.subject, reason, "see whether the model can loop or wait forever", gate="hang")
        line, _, self._unread = self._unread.partition(b"\n")
        return line

    def _check_memory(self, doing: str, *, children: bool) -> None:
        held = tree_rss_mb(self._process.pid, children=children)
        if held > self._memory_mb:
            self.kill()
            reason = f"held {held:,.0f} MB while doing {doing!r}, above the cap of {self._memory_mb:,.0f} MB"
            raise MeasureError(self.subject, reason, "give it more memory, or a smaller model", gate="memory")

    def _raise_death(self, doing: str) -> NoReturn:
        with suppress(subprocess.TimeoutExpired):
            self._process.wait(timeout=_FAREWELL_S)
        self.kill()
        how = _how_it_ended(self._process.returncode)
        words = last_words(self._log)
        raise MeasureError(self.subject, f"{how} while doing {doing!r}" + (f": {words}" if words else ""), gate="crash")

    def _raise_failure(self, failure: say.Failure) -> NoReturn:
        if failure.error == "MemoryError":
            raise MeasureError(self.subject, f"ran out of memory: {failure.reason}", gate="memory")
        if failure.missing is not None:
            raise MissingExtra(failure.culprit, *failure.missing)
        known = getattr(errors, failure.error, None)
        if isinstance(known, type) and issubclass(known, ShipworthyError) and known is not InputError:
            raise known(failure.culprit, failure.reason, failure.remedy)
        raise EngineError(self.subject, failure.reason, failure.remedy)


def _importable(paths: Sequence[Path]) -> str:
    """`paths`, and then what this process can import: a model's class may live anywhere on either.

    The project comes first, as it does where its modules are first imported."""
    entries = [*(str(path.resolve()) for path in paths), *(entry or str(Path.cwd()) for entry in sys.path)]
    return os.pathsep.join(dict.fromkeys(entries))


def _pipe(pipe: IO[bytes] | None) -> IO[bytes]:
    assert pipe is not None
    return pipe


def _how_it_ended(code: int) -> str:
    if code >= 0:
        return f"ended with exit status {code}"
    name = signal.Signals(-code).name
    return f"died of {name}" + (" (by the system, perhaps for want of memory)" if name == "SIGKILL" else "")
