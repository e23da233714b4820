"""What several workers are made of: sockets of one address, messages, and a share of the cores each."""

from __future__ import annotations

import asyncio
import socket
import sys
import time
from dataclasses import fields
from typing import Any

import pytest

from shipworthy import errors
from shipworthy.errors import (
    InputError,
    MissingExtra,
    PackageError,
    Problem,
    ServeError,
    ShipworthyError,
    UnansweredError,
)
from shipworthy.package import Requirements, Variant, best_point
from shipworthy.runtime.protocol import OperatingPoint
from shipworthy.server import workers
from shipworthy.server.control import (
    LONGEST_LINE,
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
    read_message,
)
from shipworthy.server.plan import Logs, Plan, Served, Share
from shipworthy.server.settings import Settings
from shipworthy.server.sockets import Tls, bind, bind_all, let_no_more_in, reserve
from shipworthy.server.supervisor import _pause

LINUX = pytest.mark.skipif(sys.platform != "linux", reason="only Linux spreads connections over sockets")
FAULT = Fault("PackageError", "is broken", "iris.ship", "get it again")
PLAN = Plan(
    packages=("a.ship", "b"),
    repository="packages",
    token="secret",
    loopback=False,
    tls=Tls("cert.pem", "key.pem"),
    grpc="127.0.0.1:1",
    settings=Settings(target_ms=20),
    logs=Logs("json", True, "http://collector:4318"),
    share=Share(1, 2, "/dev/shm/x", ("iris",)),
)
MESSAGES: list[Message] = [
    Begin(PLAN, True),
    Begin(Plan(packages=()), False),
    Open(),
    Do(1, "reload"),
    Answered(2, FAULT),
    Leave(hurry=True, last=False),
    Loaded(
        (Served("iris", "1", "onnxruntime-fp32", "onnxruntime", (("openvino-fp32", "not installed"),), ("no images",)),)
    ),
    Opened(),
    Alive(),
    Failed(FAULT),
    Ask(3, "unload", "iris"),
    Done(4, None, ("iris", "lilies")),
]


@pytest.mark.parametrize("message", MESSAGES, ids=lambda message: type(message).__name__)
def test_messages_arrive_as_they_were_sent(message: Message) -> None:
    async def heard() -> Message | None:
        speaker, listener = [await Channel.over(end) for end in socket.socketpair()]
        speaker.say(message)
        try:
            return await listener.hear()
        finally:
            await speaker.close()
            await listener.close()

    assert asyncio.run(heard()) == message


def test_the_other_end_that_has_gone_says_nothing() -> None:
    async def heard() -> Message | None:
        ours, theirs = socket.socketpair()
        channel = await Channel.over(ours)
        # It ends in the middle of a line.
        theirs.sendall(b'{"is_a": "op')
        theirs.close()
        message = await channel.hear()
        channel.say(Open())
        await channel.close()
        return message

    assert asyncio.run(heard()) is None


def test_a_line_without_an_end_is_refused() -> None:
    async def heard() -> Message | None:
        ours, theirs = socket.socketpair()
        channel = await Channel.over(ours)
        speaker = await Channel.over(theirs)
        speaker._writer.write(b" " * (LONGEST_LINE + 1))
        try:
            return await channel.hear()
        finally:
            await channel.close()
            await speaker.close()

    with pytest.raises(ServeError, match="more than 1048576 bytes"):
        asyncio.run(heard())


@pytest.mark.parametrize(
    "line", [b"{}\n", b"no JSON\n", b'{"is_a": "tea"}\n', b'{"is_a": "do", "number": 1, "verb": "drop"}\n']
)
def test_what_is_no_message_is_refused(line: bytes) -> None:
    with pytest.raises(ServeError, match="does not understand"):
        read_message(line)


def test_another_version_is_refused() -> None:
    line = b'{"is_a": "begin", "version": 1, "listen_at_once": true, "plan": {"packages": []}}'
    with pytest.raises(ServeError, match="speaks version 1, this is version 2; restart the server"):
        read_message(line)


def test_a_plan_does_not_show_its_token() -> None:
    assert "secret" not in repr(PLAN)
    assert {field.name for field in fields(Plan)} >= {"token"}


def simple_errors() -> list[type[ShipworthyError]]:
    found = [kind for kind in vars(errors).values() if isinstance(kind, type) and issubclass(kind, ShipworthyError)]
    return [kind for kind in found if kind is not MissingExtra and not issubclass(kind, InputError)]


@pytest.mark.parametrize("kind", simple_errors(), ids=lambda kind: kind.__name__)
def test_errors_come_through_as_they_were(kind: type[ShipworthyError]) -> None:
    error = error_of(fault_of(kind("iris", "is broken", "mend it")))
    assert type(error) is kind
    assert (error.culprit, error.reason, error.remedy) == ("iris", "is broken", "mend it")


@pytest.mark.parametrize(
    "error",
    [
        MissingExtra("gRPC", "grpc", "grpc"),
        InputError([Problem(0, "x", "is no number")]),
        UnansweredError([Problem(0, "y", "is not finite")]),
    ],
)
def test_errors_of_more_than_words_keep_their_words(error: ShipworthyError) -> None:
    assert str(error_of(fault_of(error))) == str(error)


def test_a_fault_of_no_known_kind_is_an_error_all_the_same() -> None:
    assert type(error_of(Fault("NewError", "is new"))) is ShipworthyError
    assert str(FAULT) == str(PackageError("iris.ship", "is broken", "get it again"))


def variant(*points: OperatingPoint) -> Variant:
    requires = Requirements(engine="onnxruntime")
    return Variant(id="v", precision="fp32", directory="variants/v", requires=requires, points=points, tolerance={})


def test_a_worker_takes_the_best_point_that_fits_its_share() -> None:
    whole = OperatingPoint(streams=2, threads=4, batch=8)
    half = OperatingPoint(streams=2, threads=2, batch=4)
    single = OperatingPoint(streams=1, threads=1, batch=1)
    measured = variant(whole, single, half)
    assert best_point(measured, 4) == whole
    assert best_point(measured, 3) == single
    assert best_point(variant(whole, half), 3) == half
    assert best_point(variant(whole), 1) == OperatingPoint(streams=1, threads=1, batch=8)
    assert best_point(variant(), 1) == OperatingPoint()


@LINUX
def test_connections_are_spread_over_the_sockets_of_an_address() -> None:
    sockets = bind_all("127.0.0.1", 0, 3)
    port = sockets[0].getsockname()[1]
    clients = [socket.create_connection(("127.0.0.1", port)) for _ in range(150)]
    shares = [accept_all(one) for one in sockets]
    for one in (*sockets, *clients):
        one.close()
    assert sum(shares) == 150
    assert min(shares) > 20


@LINUX
def test_an_address_of_several_sockets_is_had_by_nobody_else() -> None:
    sockets = bind_all("127.0.0.1", 0, 2)
    port = sockets[0].getsockname()[1]
    for count in (1, 2):
        with pytest.raises(ServeError, match="is in use"):
            bind_all("127.0.0.1", port, count)
    for one in sockets:
        one.close()


def test_a_reserved_address_lets_nobody_in() -> None:
    with reserve("127.0.0.1", 0) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(ConnectionRefusedError):
            socket.create_connection(("127.0.0.1", port), timeout=2)


@LINUX
def test_who_has_begun_to_connect_is_let_in_and_nobody_else() -> None:
    with bind("127.0.0.1", 0) as listening:
        port = listening.getsockname()[1]
        early = [socket.create_connection(("127.0.0.1", port)) for _ in range(5)]
        assert let_no_more_in(listening)
        with pytest.raises(TimeoutError):
            socket.create_connection(("127.0.0.1", port), timeout=0.2)
        assert accept_all(listening) == 5
    for one in early:
        one.close()
    started = time.monotonic()
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.1", port), timeout=5)
    assert time.monotonic() - started < 4


def accept_all(listening: socket.socket) -> int:
    listening.setblocking(False)
    accepted = 0
    while True:
        try:
            listening.accept()[0].close()
        except BlockingIOError:
            return accepted
        accepted += 1


class Still:
    """A worker that says something now and then, and at last nothing more."""

    pid = 1

    def __init__(self, *says: bool) -> None:
        self.killed = False
        self.looks = 0
        self._says = says

    @property
    def heard(self) -> bool:
        self.looks += 1
        return self.looks <= len(self._says) and self._says[self.looks - 1]

    @heard.setter
    def heard(self, value: bool) -> None: ...

    def kill(self) -> None:
        self.killed = True


def test_a_worker_that_says_nothing_any_more_is_ended(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(workers, "BEAT_S", 0.001)
    monkeypatch.setattr(workers, "SILENT", 3)
    child: Any = Still(True, False, False, True, False)
    asyncio.run(workers.Child.watch(child))
    assert child.killed
    assert child.looks == 4 + 3


def test_pauses_grow_with_the_deaths_in_a_row() -> None:
    assert [_pause(failures) for failures in range(5)] == [0.0, 0.0, 0.5, 1.0, 2.0]
    assert _pause(50) == 30.0
