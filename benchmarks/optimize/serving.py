"""A worker process as the benchmark holds it: questions and answers as JSON lines, each with a time limit."""

from __future__ import annotations

import json
import os
import re
import selectors
import signal
import subprocess
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import IO, Any

from .rows import Row
from .subject import HERE

_THREAD_VARIABLES = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "NUMEXPR_NUM_THREADS")
_QUIET = {
    "OLIVE_DISABLE_TELEMETRY": "1",
    "HF_HUB_OFFLINE": "1",
    "TRANSFORMERS_VERBOSITY": "error",
    "TOKENIZERS_PARALLELISM": "false",
}


class Failed(Exception):
    """A row could not be made, opened or run; its reason is the row's error."""


def environment(*, threads: int | None, cache: Path | None = None) -> dict[str, str]:
    """Of a child: this package importable, thread counts held, nothing sent anywhere, compilers' caches of its own."""
    variables = {**os.environ, **_QUIET, "PYTHONPATH": str(HERE.parent.parent)}
    if threads is not None:
        variables |= dict.fromkeys(_THREAD_VARIABLES, str(threads))
    if cache is not None:
        variables["TORCHINDUCTOR_CACHE_DIR"] = str(cache)
    return variables


def run_to_end(command: list[str], log: Path, variables: dict[str, str], seconds: float) -> int:
    """The exit status of a command whose prints go to `log`; its whole process group ends with it."""
    with log.open("wb") as out:
        process = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=out, stderr=out, env=variables, start_new_session=True
        )
        try:
            return process.wait(seconds)
        except subprocess.TimeoutExpired as error:
            raise Failed(f"took more than {seconds:g} s") from error
        finally:
            _end(process)


def last_words(log: Path) -> str:
    """The last line that a process printed, or the last that names an error; cut to a readable length."""
    lines = [line.strip() for line in log.read_text(errors="replace").splitlines() if line.strip()]
    named = [line for line in lines if re.match(r"[\w.]*(Error|Exception|Failed)\b", line)]
    return (named or lines or [""])[-1][:300]


class Server:
    """One row of one model, alive. Used as a context manager."""

    def __init__(self, row: Row, folder: Path, log: Path, *, threads: int) -> None:
        self.name = row.name
        self._log = log
        log.parent.mkdir(parents=True, exist_ok=True)
        with log.open("wb") as stderr:
            self._process = subprocess.Popen(
                [row.python, "-m", f"{__package__}.worker", row.opener, str(folder), str(threads)],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=stderr,
                env=environment(threads=threads, cache=folder / "inductor"),
                start_new_session=True,
            )
        self._answers = _pipe(self._process.stdout)
        self._selector = selectors.DefaultSelector()
        self._selector.register(self._answers, selectors.EVENT_READ)
        self._unread = b""

    def ask(self, do: str, *, limit: float = 300.0, **parts: Any) -> dict[str, Any]:
        """Raises Failed with what the row raised, or with how its process ended."""
        try:
            _pipe(self._process.stdin).write(json.dumps({"do": do, **parts}).encode() + b"\n")
            _pipe(self._process.stdin).flush()
        except BrokenPipeError as error:
            raise Failed(last_words(self._log) or "its process has ended") from error
        answer: dict[str, Any] = json.loads(self._line(do, limit))
        if "error" in answer:
            raise Failed(answer["error"])
        return answer

    def _line(self, do: str, limit: float) -> bytes:
        while b"\n" not in self._unread:
            if not self._selector.select(limit):
                self.close()
                raise Failed(f"gave no answer to {do!r} within {limit:g} s")
            read = os.read(self._answers.fileno(), 1 << 20)
            if not read:
                raise Failed(last_words(self._log) or "its process has ended")
            self._unread += read
        line, _, self._unread = self._unread.partition(b"\n")
        return line

    def close(self) -> None:
        _end(self._process)
        self._selector.close()
        for pipe in (self._process.stdin, self._process.stdout):
            with suppress(BrokenPipeError):
                _pipe(pipe).close()

    def __enter__(self) -> Server:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None) -> None:
        self.close()


def _end(process: subprocess.Popen[bytes]) -> None:
    with suppress(ProcessLookupError, PermissionError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def _pipe(pipe: IO[bytes] | None) -> IO[bytes]:
    assert pipe is not None
    return pipe
