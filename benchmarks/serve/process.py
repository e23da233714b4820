"""A server as a process group of its own: started, waited for, weighed, ended."""

from __future__ import annotations

import os
import re
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from types import TracebackType

import psutil

_GRACE_S = 10.0
"""What a server has after SIGTERM before it is killed."""
_ASK_S = 0.01
"""Between two looks whether it answers: the resolution of a cold start."""


class Failed(Exception):
    """A server could not be made, started or asked; its reason is the row's error."""


def last_words(log: Path) -> str:
    """The last line of a log that names an error, else the last; cut to a readable length."""
    lines = [line.strip() for line in log.read_text(errors="replace").splitlines() if line.strip()]
    named = [line for line in lines if re.match(r"[\w.]*(Error|Exception|Exit): ", line)]
    return (named or lines or [""])[-1][:300]


def free_port() -> int:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        port: int = one.getsockname()[1]
        return port


class Process:
    """A command in a session of its own. Used as a context manager."""

    def __init__(self, command: Sequence[str], variables: Mapping[str, str], folder: Path, log: Path) -> None:
        log.parent.mkdir(parents=True, exist_ok=True)
        self._log = log
        self.began = time.perf_counter()
        try:
            with log.open("wb") as out:
                self._process = subprocess.Popen(
                    command,
                    stdin=subprocess.DEVNULL,
                    stdout=out,
                    stderr=out,
                    cwd=folder,
                    env={**os.environ, **variables},
                    start_new_session=True,
                )
        except OSError as error:
            raise Failed(f"cannot be started: {error}") from error

    def wait(self, trouble: Callable[[], str | None], limit: float) -> float:
        """Seconds from the command to the first time that `trouble` has none to tell. Raises Failed where the process
        ends or the limit passes before."""
        while (told := trouble()) is not None:
            if self._process.poll() is not None:
                raise Failed(f"ended with status {self._process.returncode}: {last_words(self._log)}")
            if time.perf_counter() - self.began > limit:
                raise Failed(f"gave no good answer within {limit:g} s: {told}; its log ends: {last_words(self._log)}")
            time.sleep(_ASK_S)
        return time.perf_counter() - self.began

    def rss_mb(self) -> float:
        """Resident memory of all processes of the session, in 10^6 bytes; what they share is counted in each."""
        total = 0
        for one in self.members():
            with suppress(psutil.Error):
                total += one.memory_info().rss
        return total / 1e6

    def alive(self) -> bool:
        return self._process.poll() is None

    def members(self) -> list[psutil.Process]:
        """The command, what it started, and what that left behind in the same session."""
        found = []
        for one in psutil.process_iter():
            with suppress(psutil.Error, ProcessLookupError):
                if os.getsid(one.pid) == self._process.pid:
                    found.append(one)
        known = {one.pid for one in found}
        with suppress(psutil.Error):
            # Ray starts its daemons in sessions of their own.
            found += [one for one in psutil.Process(self._process.pid).children(recursive=True) if one.pid not in known]
        return found

    def close(self) -> None:
        """SIGTERM to the command, then SIGKILL to every process that it has left."""
        started = set(self.members())
        if self.alive():
            with suppress(ProcessLookupError):
                os.kill(self._process.pid, signal.SIGTERM)
            with suppress(subprocess.TimeoutExpired):
                self._process.wait(_GRACE_S)
        # What was started while it ended is in its session, too.
        started.update(self.members())
        for one in started:
            with suppress(psutil.Error):
                one.kill()
        with suppress(ProcessLookupError, PermissionError):
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()
        psutil.wait_procs(started, timeout=_GRACE_S)

    def __enter__(self) -> Process:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None) -> None:
        self.close()
