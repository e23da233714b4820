"""The monitor process as a server's parent holds it: started when somebody connects, and again when it has died."""

from __future__ import annotations

import logging
import os
import selectors
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterable
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Literal

from pydantic import TypeAdapter

from ..server.observe.readers import swept_folder
from ..server.workers import importable
from .options import MonitorOptions
from .places import Places

WAITING = 128
"""Connections that may wait to be accepted, while the process starts."""
STEADY_S = 10.0
"""A process that lived for so long did not die of its start."""
LONGEST_PAUSE_S = 30.0
GRACE_S = 10.0
"""So long the process may take to save what it knows."""
PREFIX = "shipworthy-monitor-"
LONGEST_PATH = 100
"""Bytes of a socket's path, of which systems take 104 or 108."""
_LOG = logging.getLogger("shipworthy.monitor")


@dataclass(frozen=True, slots=True)
class Start:
    """What the monitor process is told at its start."""

    folder: str
    options: MonitorOptions
    place: str | None = None
    """Of the states, which others may use too; None for one of this server alone, which goes with it."""
    registered: bool = False
    """Whether there are labels in a registry."""
    registry: str | None = field(default=None, repr=False)
    """Which one that is, as its user named it. It may hold a password."""
    log_format: Literal["text", "json"] = "text"


_START: TypeAdapter[Start] = TypeAdapter(Start)


def read_start(pipe: int) -> Start:
    """What the parent has written, as one line."""
    line = b""
    while not line.endswith(b"\n") and (piece := os.read(pipe, 1 << 16)):
        line += piece
    return _START.validate_json(line)


class Keeper:
    """Has the socket, and sees to it that somebody listens. A context manager.

    Nothing is started before the first connection: a server that watches nothing costs nothing."""

    def __init__(
        self,
        options: MonitorOptions,
        *,
        place: str | None = None,
        registered: bool = False,
        registry: str | None = None,
        log_format: Literal["text", "json"] = "text",
        module: str = "shipworthy.compose",
    ) -> None:
        """`module` is run as the process, with the word `monitor` and the number of the socket; the others are what
        `Start` says."""
        self.options = options
        self._folder = ExitStack()
        self.places = Places(self._folder.enter_context(swept_folder(_parent(), PREFIX)))
        self._module = module
        self._start = Start(str(self.places.folder), options, place, registered, registry, log_format)
        self._listening = socket.socket(socket.AF_UNIX)
        self._listening.bind(str(self.places.socket))
        self._listening.listen(WAITING)
        self._listening.setblocking(False)
        self._leaving, self._leave = os.pipe()
        self._thread = threading.Thread(target=self._keep, name="shipworthy-monitor", daemon=True)
        self.pid: int | None = None
        """Of the process, while there is one."""
        self._thread.start()

    def close(self) -> None:
        """Let the process save what it knows, and end. A second call does nothing."""
        if self._leave < 0:
            return
        os.close(self._leave)
        self._leave = -1
        self._thread.join()
        os.close(self._leaving)
        self._listening.close()
        self._folder.close()

    def __enter__(self) -> Keeper:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close()

    def _keep(self) -> None:
        failures = 0
        while self._comes(self._listening):
            began = time.monotonic()
            try:
                process = self._started()
            except OSError as error:
                reason = str(error)
            else:
                if not self._attend(process):
                    return
                reason = f"it ended with status {process.returncode}"
            failures = 0 if time.monotonic() - began > STEADY_S else failures + 1
            pause = _pause(failures)
            _LOG.error("the monitor process is started again in %.1f s: %s", pause, reason)
            if self._ends_within(pause):
                return

    def _comes(self, wire: socket.socket | int) -> bool:
        """Wait until there is something to read; False where the server ends before."""
        return self._leaving not in _ready([wire, self._leaving])

    def _ends_within(self, seconds: float) -> bool:
        return bool(_ready([self._leaving], seconds))

    def _started(self) -> subprocess.Popen[bytes]:
        number = self._listening.fileno()
        process = subprocess.Popen(
            [sys.executable, "-P", "-m", self._module, "monitor", str(number)],
            stdin=subprocess.PIPE,
            # It closes when the process ends, however that may be. What a library prints is read, and goes nowhere.
            stdout=subprocess.PIPE,
            pass_fds=(number,),
            env={**os.environ, "PYTHONPATH": importable(), **dict.fromkeys(_THREADS, "1")},
            # An interrupt at the terminal is for the server.
            process_group=0,
        )
        assert process.stdin is not None
        # It may be dead already; its end is about to be seen.
        with suppress(BrokenPipeError):
            process.stdin.write(_START.dump_json(self._start) + b"\n")
            process.stdin.flush()
        self.pid = process.pid
        return process

    def _attend(self, process: subprocess.Popen[bytes]) -> bool:
        """Wait for the end of the process; False where it was the server that wanted it."""
        assert process.stdin is not None and process.stdout is not None
        with process.stdout:
            number = process.stdout.fileno()
            while (died := self._comes(number)) and os.read(number, 1 << 16):
                pass
            # What it did not read before it died cannot be sent now either.
            with suppress(BrokenPipeError):
                process.stdin.close()
            try:
                process.wait(GRACE_S)
            except subprocess.TimeoutExpired:
                _LOG.error("the monitor process is ended: it has not saved its state for %.0f s", GRACE_S)
                process.kill()
                process.wait()
        self.pid = None
        return died


_THREADS = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")
"""The process computes with small arrays, beside servers that need the cores."""


def _pause(failures: int) -> float:
    """Seconds until another start, after so many that failed, one after the other."""
    return min(0.5 * 2.0 ** min(failures, 10), LONGEST_PAUSE_S)


def _ready(wires: Iterable[socket.socket | int], seconds: float | None = None) -> set[socket.socket | int]:
    """Those of which there is something to read. `select` would refuse numbers above 1023, which a busy server has."""
    with selectors.DefaultSelector() as selector:
        for wire in wires:
            selector.register(wire, selectors.EVENT_READ, wire)
        return {key.data for key, _ in selector.select(seconds)}


def _parent() -> Path:
    """For temporary files; another one where its path is too long for that of a socket."""
    usual = Path(tempfile.gettempdir())
    longest = usual / f"{PREFIX}{'x' * 8}" / "socket"
    return usual if len(os.fsencode(longest)) <= LONGEST_PATH else Path("/tmp")
