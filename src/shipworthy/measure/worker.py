"""The worker process: `python -m shipworthy.measure.worker` answers commands until its standard input ends.

Libraries print to file descriptor 1 when they like; so the answers go to a duplicate of it, and 1 itself becomes
standard error. In the same way descriptor 0 is taken away from code that would read the terminal."""

from __future__ import annotations

import ctypes
import faulthandler
import importlib
import json
import os
import queue
import signal
import sys
import threading
from contextlib import suppress
from typing import BinaryIO

from pydantic import ValidationError

from ..errors import MissingExtra, ShipworthyError
from .duties import Duties
from .messages import COMMAND, Answer, Failure, Leave
from .pinning import keep_to

_PR_SET_PDEATHSIG = 1
"""From linux/prctl.h."""


def main() -> None:
    settings = json.loads(sys.argv[1]) if len(sys.argv) > 1 else {}
    _die_with(settings.get("parent"))
    commands, answers = _private_wires()
    faulthandler.enable()
    lines: queue.Queue[bytes] = queue.Queue()
    leaving = threading.Event()
    threading.Thread(target=_listen, args=(commands, lines, leaving), daemon=True).start()
    if settings.get("processors"):
        keep_to(settings["processors"])
    if settings.get("preload"):
        # A module that is missing is told when it is needed.
        with suppress(ImportError):
            importlib.import_module(settings["preload"])

    def write(answer: Answer) -> None:
        answers.write(answer.model_dump_json().encode() + b"\n")
        answers.flush()

    duties = Duties(lambda words: write(Answer(told=words)))
    while not leaving.is_set():
        write(_serve(duties, lines.get(), leaving))
    duties.close()


def _die_with(parent: int | None) -> None:
    """Let the kernel end this process when the build's process is killed, whatever holds the interpreter's lock then.

    Linux only, and the signal follows the parent's thread, not its process; `_listen` is what works everywhere."""
    if parent is None or not sys.platform.startswith("linux"):
        return
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:
        os.kill(os.getpid(), signal.SIGKILL)


def _private_wires() -> tuple[BinaryIO, BinaryIO]:
    commands, answers = os.fdopen(os.dup(0), "rb"), os.fdopen(os.dup(1), "wb")
    nothing = os.open(os.devnull, os.O_RDONLY)
    os.dup2(nothing, 0)
    os.close(nothing)
    os.dup2(2, 1)
    return commands, answers


def _listen(commands: BinaryIO, lines: queue.Queue[bytes], leaving: threading.Event) -> None:
    """Pass the lines on. Their end without a farewell means that the build was killed: then nothing may live on,
    neither a compiler that this process started nor an engine that never returns."""
    for line in commands:
        lines.put(line)
    if not leaving.is_set():
        os.killpg(0, signal.SIGKILL)


def _serve(duties: Duties, line: bytes, leaving: threading.Event) -> Answer:
    try:
        command = COMMAND.validate_json(line)
        if isinstance(command, Leave):
            leaving.set()
        return Answer(reply=duties.do(command).model_dump_json())
    except ShipworthyError as error:
        return Answer(failure=_failure(error))
    except ValidationError as error:
        return Answer(failure=Failure(error="ValidationError", culprit="a command", reason=str(error)))
    except MemoryError as error:
        return Answer(failure=Failure(error="MemoryError", culprit="the worker", reason=str(error) or "out of memory"))
    except Exception as error:  # noqa: BLE001  user code and engines raise anything; it is the candidate's verdict
        reason = f"{type(error).__name__}: {error}"
        return Answer(failure=Failure(error=type(error).__name__, culprit="the model or its engine", reason=reason))


def _failure(error: ShipworthyError) -> Failure:
    missing = (error.module, error.extra) if isinstance(error, MissingExtra) else None
    words = {"culprit": error.culprit, "reason": error.reason, "remedy": error.remedy}
    return Failure(error=type(error).__name__, missing=missing, **words)


if __name__ == "__main__":
    main()
