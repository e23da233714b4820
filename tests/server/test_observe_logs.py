"""The log: one valid line for each event, whatever comes; never in the way of who logs."""

from __future__ import annotations

import json
import logging
import os
import re
import subprocess
import sys
import threading
import time
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel, ValidationError

from shipworthy.server.observe import Log, configure, logs
from shipworthy.server.observe.fields import FIELDS, as_json, as_text, error_fields

ALWAYS = ("time", "level", "event", "logger")


class Written:
    """A log that writes into a pipe, which a thread reads."""

    def __init__(self, kind: logs.Format, *, access: bool = True, start: Callable[..., Log] = Log) -> None:
        self.read_end, write_end = os.pipe()
        self.write_end = write_end
        self.log = start(kind, descriptor=write_end, access=access)
        self._content = b""
        self._thread = threading.Thread(target=self._read)
        self._thread.start()

    def _read(self) -> None:
        while chunk := os.read(self.read_end, 65536):
            self._content += chunk

    def text(self) -> str:
        """All that was written; ends the log."""
        self.log.close()
        os.close(self.write_end)
        self._thread.join()
        os.close(self.read_end)
        return self._content.decode("ascii" if "{" in self._content[:1].decode() else "utf-8")

    def lines(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self.text().splitlines()]


@pytest.fixture
def loggers() -> Iterator[None]:
    """Puts the loggers back as they were."""
    named = [logging.getLogger(name) for name in ("", "shipworthy", "uvicorn", "uvicorn.access", "uvicorn.error")]
    before = [(one, list(one.handlers), one.level, one.propagate, one.disabled) for one in named]
    # A server in an earlier test has left what it wants of its web server's log.
    logging.getLogger("uvicorn.error").setLevel(logging.NOTSET)
    yield
    logging.captureWarnings(False)
    for one, handlers, level, propagate, disabled in before:
        one.handlers[:], one.level, one.propagate, one.disabled = handlers, level, propagate, disabled
    logging.getLogger().setLevel(before[0][2])


def configured(**options: Any) -> Written:
    return Written("json", start=lambda kind, **given: configure(kind, **given, **options))


REQUEST: dict[str, Any] = {
    "request_id": "r1",
    "method": "POST",
    "path": "/predict?token=secret",
    "status": 200,
    "total_s": 0.00123456,
    "queue_s": 0.0005,
    "compute_s": 0.0002,
    "batch": 8,
    "model": "digits",
    "version": "1",
    "route": "predict",
    "trace_id": "0" * 31 + "1",
}


def test_a_request_is_one_line_in_a_fixed_order() -> None:
    written = Written("json")
    written.log.request(**REQUEST)
    (line,) = written.lines()
    assert list(line) == [*ALWAYS, *(key for key in FIELDS if key in line)]
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", line.pop("time"))
    assert line == {
        "level": "info",
        "event": "request",
        "logger": "shipworthy.access",
        "request_id": "r1",
        "model": "digits",
        "version": "1",
        "method": "POST",
        "path": "/predict",
        "route": "predict",
        "status": 200,
        "ms": 1.235,
        "queue_ms": 0.5,
        "compute_ms": 0.2,
        "batch": 8,
        "trace_id": "0" * 31 + "1",
    }


def test_requests_are_not_logged_unless_asked_for() -> None:
    written = Written("json", access=False)
    written.log.request(**REQUEST)
    written.log.event("info", "ready", model="digits")
    assert [line["event"] for line in written.lines()] == ["ready"]


def test_unknown_fields_are_left_out() -> None:
    written = Written("json")
    written.log.event("info", "ready", authorization="Bearer secret", model="digits")
    assert "secret" not in (text := written.text())
    assert json.loads(text)["model"] == "digits"


def test_text_is_for_people() -> None:
    written = Written("text")
    written.log.request(**REQUEST | {"path": '/a b"\n\x1b[31m'})
    line = written.text()
    assert line.count("\n") == 1
    assert " INFO     request " in line
    assert r'path="/a b\"\n\u001b[31m"' in line
    assert "status=200" in line and "\x1b" not in line


HOSTILE = st.one_of(
    st.text(st.characters(codec=None), max_size=60),
    st.sampled_from(["\r\n{}", "\u2028\u2029", "\x00\x1b[2J", "\ud800", '"}\n{"level":"error"', "x" * 5000]),
)
VALUES = st.one_of(HOSTILE, st.integers(), st.floats(), st.booleans(), st.none())


@given(HOSTILE, st.dictionaries(st.sampled_from(FIELDS), VALUES, max_size=8), HOSTILE)
def test_any_event_is_one_valid_line(event: str, fields: dict[str, Any], trace: str) -> None:
    raw = logs._fields((0.0, "info", event, "shipworthy", fields | {"total_s": fields.get("ms"), "traceback": trace}))
    text = as_json(raw)
    assert text.isascii() and "\n" not in text and "\r" not in text

    def refuse(constant: str) -> None:
        raise AssertionError(f"{constant} is no JSON")

    line = json.loads(text, parse_constant=refuse)
    assert list(line)[:4] == list(ALWAYS)
    assert set(line) <= {*ALWAYS, *FIELDS, "traceback"}
    line["event"].encode()  # no half of a character is left
    shown = as_text(raw | {"traceback": None})
    assert "\n" not in shown and all(one.isprintable() for one in shown)


@pytest.mark.parametrize(
    ("field", "number"),
    [("status", float("nan")), ("status", 2**70), ("total_s", float("nan")), ("total_s", -float("inf"))],
)
def test_a_number_that_json_has_not_is_null(field: str, number: float) -> None:
    written = Written("json")
    written.log.event("info", "odd", **{field: number}, reason="said")
    (line,) = written.lines()
    assert line["reason"] == "said"
    assert line.get("status") is None and line.get("ms") is None


def test_lines_are_written_together_as_far_as_a_pipe_keeps_them_so() -> None:
    lines = [b"x" * size + b"\n" for size in (10, 2000, 2000, 3000, 90, 9000, 1)]
    portions = list(logs._portions(lines))
    assert b"".join(portions) == b"".join(lines)
    assert [len(one) for one in portions] == [4013, 3092, 9001, 2]


def test_an_event_that_cannot_be_made_does_not_end_the_log() -> None:
    class Unprintable:
        def __str__(self) -> str:
            raise RuntimeError("no")

    written = Written("json")
    bad: Any = Unprintable()
    written.log.event("info", "first", model=bad)
    written.log.event("info", "second")
    assert [line["event"] for line in written.lines()] == ["an event cannot be written: RuntimeError", "second"]


@pytest.mark.usefixtures("loggers")
def test_loggers_of_all_kinds_come_to_one_place() -> None:
    written = configured(root=True)
    logging.getLogger("shipworthy.server").info("loaded", extra={"model": "digits", "total_s": 0.5, "args_": "x"})
    logging.getLogger("uvicorn.error").info("Started server process [%d]", 7)
    logging.getLogger("uvicorn.access").info("no such line")
    logging.getLogger("asyncio").warning("slow: %s", "/srv/secret/place/app.py")
    logging.getLogger("asyncio").info("no such line")
    logging.getLogger("shipworthy.server").debug("no such line")
    warnings.warn("old", UserWarning, stacklevel=1)
    lines = written.lines()
    assert [(line["logger"], line["level"], line["event"]) for line in lines[:3]] == [
        ("shipworthy.server", "info", "loaded"),
        ("uvicorn.error", "info", "Started server process [7]"),
        ("asyncio", "warning", "slow: …/app.py"),
    ]
    assert lines[0]["ms"] == 500.0
    assert lines[3]["logger"] == "py.warnings" and "UserWarning: old" in lines[3]["event"]
    assert str(Path(__file__).parent) not in lines[3]["event"]
    assert len(lines) == 4


@pytest.mark.usefixtures("loggers")
def test_others_are_left_alone_unless_asked_for() -> None:
    before = list(logging.getLogger().handlers)
    written = configured()
    logging.getLogger("shipworthy").warning("ours")
    assert logging.getLogger().handlers == before
    assert [line["event"] for line in written.lines()] == ["ours"]


class Body(BaseModel):
    number: int


def fail() -> None:
    try:
        Path("/", "nowhere", "of", "mine", "model.bin").read_bytes()
    except OSError as error:
        place = "/".join(["", "opt", "models", "secret", "graph.onnx"])
        raise RuntimeError(f"the engine failed at {place}") from error


@pytest.mark.usefixtures("loggers")
def test_an_exception_is_a_field_without_paths() -> None:
    written = configured()
    try:
        fail()
    except RuntimeError:
        logging.getLogger("shipworthy.server").exception(
            "request failed", extra={"request_id": "r1", "path": "/models/digits/predict"}
        )
    (line,) = written.lines()
    assert line["path"] == "/models/digits/predict"
    assert line["error"] == "RuntimeError: the engine failed at …/graph.onnx"
    trace = line["traceback"]
    assert "in fail: raise RuntimeError" in trace
    assert trace.index("FileNotFoundError") < trace.index("followed by") < trace.index("RuntimeError: the engine")
    assert "test_observe_logs.py:" in trace
    for hidden in (str(Path(__file__).parent), sys.prefix, "/opt/models", "/nowhere/of"):
        assert hidden not in json.dumps(line)


def test_what_was_sent_is_not_in_an_error() -> None:
    with pytest.raises(ValidationError) as caught:
        Body.model_validate({"number": ["secret]", {"a": "more of it"}]})
    fields = error_fields(caught.value)
    assert "secret" not in str(fields["error"]) and "more of it" not in str(fields["error"])
    assert "number" in str(fields["error"])


def test_a_message_that_cannot_be_made_is_said_so() -> None:
    class Mute(Exception):
        def __str__(self) -> str:
            raise ValueError

    assert error_fields(Mute())["error"] == "Mute: (its message cannot be made)"


def test_a_pipe_that_nobody_reads_stops_nobody() -> None:
    read_end, write_end = os.pipe()
    log = Log("json", write_end, access=True)
    started = time.perf_counter()
    for _ in range(3 * logs.MAX_EVENTS):
        log.request(**REQUEST)
    log.event("error", "still told")
    took = time.perf_counter() - started
    assert log.dropped > logs.MAX_EVENTS
    assert took < 5.0  # it would take for ever if it waited
    assert log.flush(0.05) is False
    content = b""
    while b"still told" not in content or b"lines dropped" not in content:
        content += os.read(read_end, 65536)
    told = [json.loads(line)["dropped"] for line in content.splitlines() if b"lines dropped" in line]
    assert sum(told) == log.dropped
    log.close()
    os.close(write_end)
    os.close(read_end)


def test_a_pipe_that_is_closed_stops_nobody() -> None:
    read_end, write_end = os.pipe()
    log = Log("json", write_end, access=True)
    os.close(read_end)
    log.event("info", "into the void")
    assert log.flush()
    assert log.dropped == 1
    log.close()
    log.event("info", "too late")
    assert log.dropped == 2
    os.close(write_end)


def test_a_loss_is_told_when_lines_can_be_written_again(monkeypatch: pytest.MonkeyPatch) -> None:
    written = Written("json")
    with monkeypatch.context() as failing:
        failing.setattr(logs.os, "write", refuse_to_write)
        for _ in range(2):
            written.log.event("info", "lost")
            assert written.log.flush()
    assert written.log.dropped == 2
    written.log.event("info", "told")
    assert [(line["event"], line.get("dropped")) for line in written.lines()] == [
        ("told", None),
        ("log lines dropped", 2),
    ]


def refuse_to_write(descriptor: int, content: bytes) -> int:
    raise OSError("no space left")


def test_a_pipe_that_does_not_block_is_waited_for() -> None:
    read_end, write_end = os.pipe()
    os.set_blocking(write_end, False)
    log = Log("json", write_end, access=True)
    for number in range(2000):
        log.request(**REQUEST | {"batch": number})
    content = b""
    while content.count(b"\n") < 2000:
        content += os.read(read_end, 65536)
    assert [json.loads(line)["batch"] for line in content.splitlines()] == list(range(2000))
    assert log.dropped == 0
    log.close()
    os.close(write_end)
    os.close(read_end)


SCRIPT = """
import logging, sys
from shipworthy.server.observe import configure
log = configure("json", access=True)
for number in range(int(sys.argv[1])):
    log.request(request_id=sys.argv[2], method="POST", path="/", status=200, total_s=0.1, batch=number)
logging.getLogger("shipworthy").info("the end")
"""


def test_processes_that_share_a_pipe_do_not_mix_their_lines_and_write_all_at_their_end() -> None:
    read_end, write_end = os.pipe()
    started = [
        subprocess.Popen([sys.executable, "-c", SCRIPT, "2000", name], stderr=write_end) for name in ("one", "two")
    ]
    os.close(write_end)
    with os.fdopen(read_end, "rb") as pipe:
        lines = [json.loads(line) for line in pipe.read().splitlines()]
    assert [one.wait() for one in started] == [0, 0]
    for name in ("one", "two"):
        assert [line["batch"] for line in lines if line.get("request_id") == name] == list(range(2000))
    assert sum(line["event"] == "the end" for line in lines) == 2
