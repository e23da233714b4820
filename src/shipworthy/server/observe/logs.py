"""The log of a server: one line for each event, on standard error, as JSON or for people.

Who logs only leaves an event in a bounded buffer. A thread makes the lines and writes them, many at a time; where
nobody reads what it writes, it waits, and the buffer drops what comes and counts it. Our own loggers and those of the
web server come to the same place.
"""

from __future__ import annotations

import atexit
import logging
import os
import select
import time
from collections.abc import Iterator, Mapping
from typing import Literal, TypeAlias

from .fields import (
    DURATIONS,
    FIELDS,
    MAX_TEXT,
    MAX_TRACEBACK,
    Value,
    as_json,
    as_text,
    error_fields,
    time_text,
    without_folders,
    without_roots,
)
from .spool import Spool

Format: TypeAlias = Literal["json", "text"]
Event: TypeAlias = tuple[float, str, str, str, Mapping[str, Value]]
"""Seconds since 1970, level, event, logger, fields."""

MAX_EVENTS = 8192
"""So many lines of the access log may wait to be written; others have as much room again."""
BATCH = 256
FLUSH_S = 0.2
CLOSE_S = 2.0
"""So long the end of a process waits for somebody to read its last lines."""
LOGGERS = ("shipworthy", "uvicorn")


class Log:
    """Writes events to a file descriptor. Every method but `flush` and `close` returns at once."""

    def __init__(self, format: Format, descriptor: int, *, access: bool) -> None:  # noqa: A002 - what it is called
        self.access = access
        """Whether `request` writes anything."""
        self._render = as_json if format == "json" else as_text
        self._descriptor = descriptor
        self._told = 0
        self._spool: Spool[Event] = Spool("shipworthy-log", self._write, batch=BATCH, linger_s=FLUSH_S)

    @property
    def dropped(self) -> int:
        """Events that were not written, because nobody read the log in time."""
        return self._spool.dropped

    def event(self, level: str, event: str, logger: str = "shipworthy", **fields: Value) -> None:
        """Write a line with fields of FIELDS; others are left out, and a text is cut at 1000 characters. Durations are
        given in seconds, as `total_s`, `queue_s` and `compute_s`."""
        self._spool.put((time.time(), level, event, logger, fields), 2 * MAX_EVENTS)
        self._spool.wake()

    def request(
        self,
        *,
        request_id: str,
        method: str,
        path: str,
        status: int,
        total_s: float,
        queue_s: float | None = None,
        compute_s: float | None = None,
        batch: int | None = None,
        model: str | None = None,
        version: str | None = None,
        route: str | None = None,
        trace_id: str | None = None,
    ) -> None:
        """A line of the access log, where there is one. `path` is that of the request; a query is cut off.

        `batch` is how many rows the batch had in which the request ran."""
        if self.access:
            fields: dict[str, Value] = {
                "request_id": request_id,
                "method": method,
                "path": path.partition("?")[0],
                "status": status,
                "model": model,
                "version": version,
                "route": route,
                "total_s": total_s,
                "queue_s": queue_s,
                "compute_s": compute_s,
                "batch": batch,
                "trace_id": trace_id,
            }
            self._spool.put((time.time(), "info", "request", "shipworthy.access", fields), MAX_EVENTS)

    def flush(self, timeout_s: float = CLOSE_S) -> bool:
        """Wait until all that was logged so far is written; False where the time is over before."""
        return self._spool.flush(timeout_s)

    def close(self, timeout_s: float = CLOSE_S) -> None:
        """Write what is left, and end. What is logged later is dropped."""
        self._spool.close(timeout_s)

    def _write(self, events: list[Event]) -> None:
        dropped, lines = self._spool.dropped, [self._line(event) for event in events]
        if dropped > self._told:
            lost: dict[str, Value] = {"dropped": dropped - self._told}
            lines.append(self._line((time.time(), "warning", "log lines dropped", "shipworthy", lost)))
        try:
            for portion in _portions(lines):
                _write_all(self._descriptor, portion)
        except OSError:
            # Nobody can be told: the place to tell it is the one that fails.
            self._spool.drop(len(events))
        else:
            self._told = dropped

    def _line(self, event: Event) -> bytes:
        try:
            return (self._render(_fields(event)) + "\n").encode()
        # The thread must outlive whatever was given to it: without it, nothing is logged any more.
        except Exception as error:  # noqa: BLE001
            reason = f"an event cannot be written: {type(error).__name__}"
            return (self._render({"time": time_text(time.time()), "level": "error", "event": reason}) + "\n").encode()


class LogHandler(logging.Handler):
    """Brings the records of Python's `logging` into a log. Fields are given as `extra`."""

    def __init__(self, log: Log) -> None:
        super().__init__()
        self._log = log

    def emit(self, record: logging.LogRecord) -> None:
        try:
            self._log.event(record.levelname.lower(), _sentence(record), record.name, **_extras(record))
        # A log call must never end what it tells of; logging's own way is to say so on standard error.
        except Exception:  # noqa: BLE001
            self.handleError(record)


_TOLD = tuple((key, DURATIONS.get(key, key)) for key in FIELDS)
_configured: Log | None = None


def configure(
    format: Format = "json",  # noqa: A002 - what it is called
    *,
    access: bool = False,
    descriptor: int = 2,
    root: bool = False,
) -> Log:
    """Send what this package and the web server log to one `Log`, and give it; an earlier one is closed.

    Lines go to standard error, or to another `descriptor`. To be called in the process that logs, not before a fork.
    With `root`, for a process that is nothing but a server, warnings of all other libraries go there, too."""
    global _configured
    if _configured is not None:
        _configured.close()
        atexit.unregister(_configured.close)
    log = _configured = Log(format, descriptor, access=access)
    handler = LogHandler(log)
    for name in LOGGERS:
        logger = logging.getLogger(name)
        logger.handlers[:] = [handler]
        logger.setLevel(logging.INFO)
        logger.propagate = False
    # Its lines have neither id nor model; `Log.request` writes ours.
    logging.getLogger("uvicorn.access").disabled = True
    if root:
        logging.getLogger().handlers[:] = [handler]
        logging.getLogger().setLevel(logging.WARNING)
        logging.captureWarnings(True)
    atexit.register(log.close)
    return log


def _fields(event: Event) -> dict[str, Value]:
    seconds, level, name, logger, given = event
    line: dict[str, Value] = {"time": time_text(seconds), "level": level, "event": name[:MAX_TEXT], "logger": logger}
    for key, told in _TOLD:
        value = given.get(told)
        if value is None:
            continue
        if isinstance(value, str):
            line[key] = value[:MAX_TEXT]
        elif isinstance(value, int | float):
            line[key] = value if key is told else round(value * 1e3, 3)
        else:
            line[key] = str(value)[:MAX_TEXT]
    line.update((key, given[key]) for key in ("error", "traceback") if key in given)
    return line


def _sentence(record: logging.LogRecord) -> str:
    """The message. Other libraries quote files, where ours name the paths of requests."""
    clean = without_roots if record.name.split(".")[0] == "shipworthy" else without_folders
    return clean(record.getMessage()[:MAX_TRACEBACK])


def _extras(record: logging.LogRecord) -> dict[str, Value]:
    """What was given as `extra`, as numbers and texts that no longer change."""
    given: dict[str, Value] = {}
    for _, key in _TOLD:
        value = record.__dict__.get(key)
        if value is not None:
            given[key] = value if isinstance(value, bool | int | float) else str(value)
    if record.exc_info and record.exc_info[1] is not None:
        given |= error_fields(record.exc_info[1])
    return given


def _portions(lines: list[bytes]) -> Iterator[bytes]:
    """Whole lines together, as long as a pipe takes them in one piece: other workers write to the same one."""
    portion = b""
    for line in lines:
        if portion and len(portion) + len(line) > select.PIPE_BUF:
            yield portion
            portion = b""
        portion += line
    yield portion


def _write_all(descriptor: int, content: bytes) -> None:
    """Write all of it, however slowly it is read."""
    rest = memoryview(content)
    while rest:
        try:
            rest = rest[os.write(descriptor, rest) :]
        except BlockingIOError:
            ready = select.poll()
            ready.register(descriptor, select.POLLOUT)
            ready.poll()
