"""Webhooks: signed, told once, told again after failures and restarts, and in nobody's way."""

from __future__ import annotations

import logging
import re
import socket
import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import view_cases
from receiver_cases import Receiver, receiving

from shipworthy.errors import MonitorError
from shipworthy.monitor import MonitorOptions, outbox
from shipworthy.monitor.outbox import FileMemory
from shipworthy.monitor.webhooks import Sent, Webhooks, sign, verify

SECRET = "aye aye"
ALARM = view_cases.alarm()
DONE = replace(ALARM, acknowledged=view_cases.RAISED + 60, who="anna", why="known")


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    with receiving() as made:
        yield made


def opened(receiver: Receiver, memory: FileMemory | None = None, *, secret: str | None = SECRET) -> Webhooks:
    return Webhooks([receiver.url], secret, memory, seconds=0.5, first_wait_s=0.02)


def settled(hooks: Webhooks) -> Sent:
    until = time.monotonic() + 10
    while hooks.sent.waiting:
        assert time.monotonic() < until
        time.sleep(0.005)
    return hooks.sent


def test_an_alarm_is_told_once_and_signed(receiver: Receiver) -> None:
    hooks = opened(receiver)
    for _ in range(5):
        hooks.tell([ALARM])
    assert settled(hooks) == Sent(delivered=1, failed=0, lost=0, waiting=0)
    hooks.tell([ALARM])
    hooks.close()
    (got,) = receiver.got
    assert got.id == got.json["id"] == f"{ALARM.id}.raised"
    assert got.headers["shipworthy-event"] == got.json["event"] == "raised"
    assert got.headers["content-type"] == "application/json"
    assert got.json["text"] == ALARM.summary
    assert got.json["alarm"]["moved"][0]["signal"] == "image.mean"
    stamp, signature = got.headers["shipworthy-timestamp"], got.headers["shipworthy-signature"]
    assert verify(SECRET, stamp, got.body, signature)
    assert not verify(SECRET, stamp, got.body + b" ", signature)
    assert not verify("another", stamp, got.body, signature)
    assert not verify(SECRET, stamp, got.body, signature, now=time.time() + 301)
    assert not verify(SECRET, "0x7", got.body, signature)


def test_a_signature_is_as_published() -> None:
    # openssl: printf '1700000000.{"a":1}' | openssl dgst -sha256 -hmac key
    assert sign("key", "1700000000", b'{"a":1}') == KNOWN


KNOWN = "v1=a438e398bfafc57e4396bb7fc2304422f0f768e965d073ca313cb52e22e6ad03"


def test_acknowledging_is_told_after_raising(receiver: Receiver) -> None:
    hooks = opened(receiver)
    hooks.tell([ALARM])
    settled(hooks)
    hooks.tell([DONE])
    settled(hooks)
    hooks.close()
    assert [one.json["event"] for one in receiver.got] == ["raised", "acknowledged"]
    assert receiver.got[1].json["text"] == f"acknowledged by anna: known ({ALARM.summary})"


def test_what_was_acknowledged_before_it_was_told_is_not_told(receiver: Receiver) -> None:
    hooks = opened(receiver)
    hooks.tell([DONE])
    assert settled(hooks) == Sent(0, 0, 0, 0)
    hooks.close()
    assert receiver.got == []


def test_failures_are_tried_again(receiver: Receiver, caplog: pytest.LogCaptureFixture) -> None:
    receiver.answer = lambda number: (500 if number < 3 else 204, {})
    with caplog.at_level(logging.WARNING):
        hooks = opened(receiver)
        hooks.tell([ALARM])
        assert settled(hooks).delivered == 1
        hooks.close()
    assert [one.id for one in receiver.got] == [f"{ALARM.id}.raised"] * 4
    assert len(caplog.records) == 3
    assert "answered 500" in caplog.text


def test_a_receiver_may_ask_for_time(receiver: Receiver) -> None:
    receiver.answer = lambda number: (503, {"retry-after": "1"}) if number == 0 else (200, {})
    hooks = opened(receiver)
    begun = time.monotonic()
    hooks.tell([ALARM])
    settled(hooks)
    hooks.close()
    assert time.monotonic() - begun >= 1


def test_redirects_are_not_followed(receiver: Receiver) -> None:
    with receiving() as other:
        receiver.answer = lambda number: (307, {"location": other.url}) if number == 0 else (200, {})
        hooks = opened(receiver)
        hooks.tell([ALARM])
        settled(hooks)
        hooks.close()
        assert len(receiver.got) == 2
        assert other.got == []


def test_a_slow_receiver_delays_nobody(receiver: Receiver) -> None:
    free = threading.Event()
    with receiving() as slow:

        def hang(number: int) -> tuple[int, dict[str, str]]:
            free.wait(20)
            return 200, {}

        slow.answer = hang
        hooks = Webhooks([slow.url, receiver.url], None, seconds=5, first_wait_s=0.02)
        begun = time.monotonic()
        for number in range(200):
            hooks.tell([replace(ALARM, id=f"a{number}")])
        assert time.monotonic() - begun < 1
        receiver.wait(200)
        assert "shipworthy-signature" not in receiver.got[0].headers
        free.set()
        assert settled(hooks).delivered == 400
        hooks.close()


CLOSING = b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n"


@pytest.mark.parametrize(
    ("begins", "expected"), [(b"", (False, "no answer within 0.3 s")), (CLOSING, (True, ""))], ids=["head", "body"]
)
def test_an_answer_that_drips_is_cut_off(begins: bytes, expected: tuple[bool, str]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listening:

        def drip() -> None:
            connection, _ = listening.accept()
            try:
                connection.sendall(begins)
                while True:
                    connection.sendall(b"H")
                    time.sleep(0.05)
            except OSError:
                connection.close()

        threading.Thread(target=drip, daemon=True).start()
        from shipworthy.monitor.posting import post

        begun = time.monotonic()
        answer = post(f"http://127.0.0.1:{listening.getsockname()[1]}/", b"{}", {}, 0.3)
        assert time.monotonic() - begun < 3
        assert (answer.delivered, answer.reason) == expected


def test_what_was_told_and_what_waits_survives_a_restart(receiver: Receiver, tmp_path: Path) -> None:
    memory = FileMemory(tmp_path / "new" / "webhooks.json")
    hooks = opened(receiver, memory)
    hooks.tell([ALARM])
    settled(hooks)
    receiver.answer = lambda number: (500, {})
    second = replace(ALARM, id="another")
    hooks.tell([ALARM, second])
    receiver.wait(2)
    hooks.close()
    assert (tmp_path / "new").stat().st_mode & 0o777 == 0o700
    assert (tmp_path / "new" / "webhooks.json").stat().st_mode & 0o777 == 0o600

    receiver.answer = lambda number: (200, {})
    before = len(receiver.got)
    hooks = opened(receiver, memory)
    hooks.tell([ALARM, second])
    settled(hooks)
    hooks.close()
    assert [one.id for one in receiver.got[before:]] == ["another.raised"]


def test_the_file_holds_no_address(tmp_path: Path) -> None:
    hooks = Webhooks(["http://user:word@127.0.0.1:1/token"], SECRET, FileMemory(tmp_path / "kept"), first_wait_s=0.01)
    hooks.tell([ALARM])
    hooks.close()
    kept = (tmp_path / "kept").read_text()
    assert ALARM.id in kept
    assert not any(word in kept for word in ("token", "word@", SECRET))


def test_no_secret_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.DEBUG):
        hooks = Webhooks(["http://user:word@127.0.0.1:1/token?key=hidden"], SECRET, first_wait_s=0.01)
        hooks.tell([ALARM])
        until = time.monotonic() + 5
        while not caplog.records and time.monotonic() < until:
            time.sleep(0.01)
        hooks.close()
    assert "http://127.0.0.1" in caplog.text
    assert not any(word in caplog.text for word in ("token", "hidden", "word", SECRET))


FUTURE = b'{"format": 2, "addresses": {}}'


@pytest.mark.parametrize(
    "data", [b"", b"[]", b"{}", b'{"addresses": {}}', b'{"format": 1, "addresses": []}', b"\xff", FUTURE]
)
def test_a_memory_that_cannot_be_read_is_begun_anew(data: bytes, receiver: Receiver, tmp_path: Path) -> None:
    (tmp_path / "kept").write_bytes(data)
    hooks = opened(receiver, FileMemory(tmp_path / "kept"))
    hooks.tell([ALARM])
    assert settled(hooks).delivered == 1
    hooks.close()


def test_a_memory_out_of_reach_stops_nothing(receiver: Receiver, tmp_path: Path) -> None:
    hooks = opened(receiver, FileMemory(tmp_path))  # a folder
    hooks.tell([ALARM])
    assert settled(hooks).delivered == 1
    hooks.close()


def test_a_place_that_cannot_be_written_stops_nothing(receiver: Receiver, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    hooks = opened(receiver, FileMemory(tmp_path / "file" / "kept"))
    hooks.tell([ALARM])
    assert settled(hooks).delivered == 1
    hooks.close()


def test_the_queue_is_bounded(receiver: Receiver) -> None:
    receiver.answer = lambda number: (500, {"retry-after": "100"})
    hooks = opened(receiver)
    hooks.tell([replace(ALARM, id=f"a{number}") for number in range(outbox.MOST_WAITING + 9)])
    assert (hooks.sent.lost, hooks.sent.waiting) == (9, outbox.MOST_WAITING)
    hooks.tell([replace(ALARM, id=f"a{number}") for number in range(outbox.MOST_WAITING + 9)])
    assert (hooks.sent.lost, hooks.sent.waiting) == (9, outbox.MOST_WAITING), "what is lost stays so"
    hooks.close()


def test_an_end_is_not_told_before_its_beginning(receiver: Receiver) -> None:
    receiver.answer = lambda number: (500 if number == 0 else 200, {})
    hooks = opened(receiver)
    hooks.tell([ALARM])
    receiver.wait(1)
    hooks.tell([DONE, replace(ALARM, id="another")])
    settled(hooks)
    hooks.close()
    told = [one.json["event"] for one in receiver.got if one.json["alarm"]["id"] == ALARM.id]
    assert told == ["raised", "raised", "acknowledged"]


def test_a_slow_look_up_of_a_name_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    """The watch cuts a connection off; while there is none yet, it has nothing to cut."""
    from shipworthy.monitor.posting import post

    with receiving() as receiver:
        address = socket.getaddrinfo

        def slow(*asked: Any, **more: Any) -> Any:
            time.sleep(0.3)
            return address(*asked, **more)

        monkeypatch.setattr(socket, "getaddrinfo", slow)
        answer = post(receiver.url, b"{}", {}, 0.2)
        assert (answer.delivered, answer.reason) == (False, "no answer within 0.2 s")
        assert receiver.got == []


@pytest.mark.parametrize("url", ["ftp://example.org", "http://", "http://host:x/", "http://host/a b", "http://höst/"])
def test_an_address_must_be_one(url: str) -> None:
    with pytest.raises(MonitorError, match="no URL of HTTP"):
        Webhooks([url], None)
    with pytest.raises(MonitorError, match="no URL of HTTP") as raised:
        MonitorOptions(webhooks=(url,))
    assert url not in str(raised.value), "it may hold a secret"


def test_the_name_and_the_password_of_an_address_are_sent_as_basic(receiver: Receiver) -> None:
    hooks = Webhooks([receiver.url.replace("//", "//user:pa%20ss@")], None)
    hooks.tell([ALARM])
    settled(hooks)
    hooks.close()
    assert receiver.got[0].headers["authorization"] == "Basic dXNlcjpwYSBzcw=="


def test_the_receiver_of_the_documents_works(receiver: Receiver) -> None:
    page = (Path(__file__).parents[2] / "docs" / "monitoring.md").read_text(encoding="utf-8")
    (example,) = re.findall(r"```python\n(import hashlib\n.*?)```", page, re.DOTALL)
    names: dict[str, Any] = {}
    exec(compile(example, "monitoring.md", "exec"), names)
    hooks = opened(receiver)
    hooks.tell([ALARM])
    settled(hooks)
    hooks.close()
    (got,) = receiver.got
    assert names["is_ours"](SECRET, got.headers, got.body)
    assert not names["is_ours"]("other", got.headers, got.body)
