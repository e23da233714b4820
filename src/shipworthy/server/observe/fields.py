"""What may stand in a line of the log, and how: bounded, escaped, and without a path of this machine."""

from __future__ import annotations

import json
import math
import re
import sys
import tempfile
import traceback
from collections.abc import Mapping
from datetime import UTC, datetime
from functools import cache
from pathlib import Path

Value = str | int | float | bool | None

FIELDS = (
    "request_id",
    "model",
    "version",
    "variant",
    "method",
    "path",
    "route",
    "status",
    "ms",
    "queue_ms",
    "compute_ms",
    "batch",
    "trace_id",
    "span_id",
    "worker",
    "pid",
    "url",
    "reason",
    "dropped",
)
"""The fields that a line may have beside time, level, event, logger, error and traceback, in their order."""
DURATIONS = {"ms": "total_s", "queue_ms": "queue_s", "compute_ms": "compute_s"}
"""Fields in milliseconds, and the names under which they are told in seconds."""
MAX_TEXT = 1000
MAX_TRACEBACK = 16_000
MAX_CAUSES = 4

_PATH = re.compile(r"""(?<![\w.:/\\-])(?:/[^\s/'"<>|]+)+/(?=[^\s/'"<>|])""")
"""The folders of an absolute path in a sentence. What follows a scheme or a host is none."""
_INPUT = re.compile(r"input_value=.*?(?=, input_type=|\Z)", re.DOTALL)
"""What pydantic quotes of a body."""
_JSON = json.JSONEncoder(allow_nan=False)
_PLAIN = re.compile(r"[\w.:/@+%*,-]+", re.ASCII)


def time_text(seconds: float) -> str:
    """UTC, ISO 8601, to the millisecond."""
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def as_json(line: Mapping[str, Value]) -> str:
    """One JSON object in ASCII, without a line break, whatever the texts hold."""
    return _JSON.encode({key: _sane(value) for key, value in line.items() if value is not None})


def as_text(line: Mapping[str, Value]) -> str:
    """The same for people: time, level and event, then `key=value`; a traceback in lines of its own."""
    rest = {key: _sane(value) for key, value in line.items() if value is not None}
    time, level, event, trace = (str(rest.pop(key, "")) for key in ("time", "level", "event", "traceback"))
    words = [time, f"{level.upper():<8}", _visible(event), *(f"{key}={_quoted(value)}" for key, value in rest.items())]
    return "\n".join([" ".join(words).rstrip(), *("    " + _visible(row) for row in trace.split("\n") if trace)])


def error_fields(error: BaseException) -> dict[str, Value]:
    """`error` and `traceback` of an exception: without folders of this machine, and without what was sent."""
    return {
        "error": f"{type(error).__name__}: {_message(error)}"[:MAX_TEXT],
        "traceback": _traceback(error)[-MAX_TRACEBACK:],
    }


def without_roots(text: str) -> str:
    """A sentence without the folders that this installation is in; other paths, such as that of a request, stay."""
    for root in _roots():
        text = text.replace(root + "/", "…/")
    return text


def without_folders(text: str) -> str:
    """A sentence in which of every absolute path only the last part stays."""
    return _PATH.sub("…/", text)


def _message(error: BaseException) -> str:
    try:
        text = str(error)
    # The text of somebody else's exception is made by somebody else's code.
    except Exception:  # noqa: BLE001
        text = "(its message cannot be made)"
    return without_folders(_INPUT.sub("input_value=…", text[:MAX_TRACEBACK]))[:MAX_TEXT]


def _traceback(failure: BaseException) -> str:
    """Outermost cause first, as Python prints it, but each message as `error_fields` gives it."""
    parts: list[str] = []
    error: BaseException | None = failure
    while error is not None and len(parts) < MAX_CAUSES:
        frames = traceback.extract_tb(error.__traceback__)
        rows = [f"{_module_path(one.filename)}:{one.lineno} in {one.name}: {one.line}" for one in frames[-40:]]
        parts.append("\n".join([*rows, f"{type(error).__name__}: {_message(error)}"]))
        error = error.__cause__ or (None if error.__suppress_context__ else error.__context__)
    return "\nfollowed by\n".join(reversed(parts))


def _module_path(filename: str) -> str:
    """Where a file is below the folder that Python imports from, or else its name alone."""
    for folder in sorted((folder.rstrip("/") for folder in sys.path), key=len, reverse=True):
        if folder and filename.startswith(folder + "/"):
            return filename[len(folder) + 1 :]
    return filename.rsplit("/", 1)[-1]


@cache
def _roots() -> tuple[str, ...]:
    package = Path(__file__).parents[3]
    try:
        home = str(Path.home())
    except RuntimeError:
        home = ""  # A user without an entry has none.
    known = {sys.prefix, sys.base_prefix, str(package), str(Path.cwd()), home, tempfile.gettempdir()}
    return tuple(sorted((root for root in known if len(root) > 1), key=len, reverse=True))


def _sane(value: Value) -> Value:
    """A number that JSON readers take, or a text that UTF-8 has; what is neither is replaced."""
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, int):
        return value if abs(value) < 2**63 else None
    if value is None or value.isascii():
        return value
    return value.encode("utf-16", "surrogatepass").decode("utf-16", "replace")


def _quoted(value: Value) -> str:
    text = str(value)
    return text if _PLAIN.fullmatch(text) else json.dumps(text)


def _visible(text: str) -> str:
    """Without what moves a terminal's cursor, or changes its colours."""
    return "".join(one if one.isprintable() else repr(one)[1:-1] for one in text)
