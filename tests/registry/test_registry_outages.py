"""A PostgreSQL server that is away, starts, or does not say what became of a commit."""

from __future__ import annotations

import os
import signal
import socket
import struct
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path

import pytest
from sqlalchemy import Connection, text
from sqlalchemy.exc import OperationalError

from shipworthy.errors import RegistryError
from shipworthy.registry import Registry, database
from shipworthy.registry.database import Database
from shipworthy.registry.faults import mark_unconfirmed, mark_unconnected
from shipworthy.registry.location import locate_registry

PATIENCE_S, LONGEST_PAUSE_S = database.PATIENCE_S, database._LONGEST_PAUSE_S


class Starting:
    """A server that says to everyone that it starts up."""

    def __init__(self) -> None:
        self.asked = 0
        self.socket = socket.create_server(("127.0.0.1", 0), backlog=50)
        self.url = f"postgresql://ada:secret@127.0.0.1:{self.socket.getsockname()[1]}/db"
        threading.Thread(target=self._answer, daemon=True).start()

    def _answer(self) -> None:
        said = b"SFATAL\0VFATAL\0C57P03\0Mthe database system is starting up\0\0"
        while True:
            try:
                connection, _ = self.socket.accept()
            except OSError:
                return
            with connection:
                connection.recv(8)
                connection.sendall(b"N")
                connection.recv(4096)
                self.asked += 1
                connection.sendall(b"E" + struct.pack(">I", len(said) + 4) + said)


@pytest.fixture
def starting() -> Iterator[Starting]:
    server = Starting()
    with server.socket:
        yield server
        # Closing alone would not wake the thread that accepts.
        server.socket.shutdown(socket.SHUT_RDWR)


def refused(ask: Callable[[], object], match: str = "the database system is starting up") -> None:
    with pytest.raises(RegistryError, match=match) as told:
        ask()
    assert "may be done" not in str(told.value), "nothing was sent"


class Clock:
    """In the place of `time`: a pause takes no time, and tells who made it."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now_s = 0.0
        self.on_pause: Callable[[], object] = lambda: None
        monkeypatch.setattr(database, "time", self)

    def monotonic(self) -> float:
        return self.now_s

    def sleep(self, seconds: float) -> None:
        self.now_s += seconds
        self.on_pause()


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    return Clock(monkeypatch)


def test_one_that_starts_is_waited_for_once(starting: Starting, clock: Clock) -> None:
    with closing(Database(locate_registry(starting.url))) as asked:
        refused(lambda: asked.ask(lambda connection: 1))
        assert PATIENCE_S <= clock.now_s < PATIENCE_S + LONGEST_PAUSE_S
        waited_s, before = clock.now_s, starting.asked
        for ask in (
            lambda: asked.ask(lambda connection: 1),
            lambda: asked.transact(lambda connection: 1, repeatable=True),
            lambda: asked.read().__enter__(),
        ):
            refused(ask)
        assert starting.asked == before + 3, "each asks once"
        assert clock.now_s == waited_s


def test_threads_wait_for_one_outage_together(starting: Starting, clock: Clock) -> None:
    """One that asks when half of the time is over waits for the other half."""
    half_over, go_on = threading.Event(), threading.Event()

    def hold_the_first() -> None:
        if threading.current_thread() is not threading.main_thread() and clock.now_s >= PATIENCE_S / 2:
            half_over.set()
            assert go_on.wait(20)

    clock.on_pause = hold_the_first
    with closing(Database(locate_registry(starting.url))) as asked, ThreadPoolExecutor(1) as pool:
        first = pool.submit(lambda: refused(lambda: asked.ask(lambda connection: 1)))
        try:
            assert half_over.wait(20)
            began_s = clock.now_s
            refused(lambda: asked.ask(lambda connection: 1))
            assert clock.now_s < PATIENCE_S + LONGEST_PAUSE_S < began_s + PATIENCE_S
            before = starting.asked
        finally:
            go_on.set()
        first.result(20)
        assert starting.asked == before + 1, "its time is over too"


def test_a_host_that_cannot_be_one(monkeypatch: pytest.MonkeyPatch) -> None:
    for host in ("db..example", "h" * 300):
        with pytest.raises(RegistryError, match="has a host or a sign that cannot be sent; check") as told:
            Registry(f"postgresql://ada:secret@{host}/db", create=False)
        assert "secret" not in str(told.value)


def test_a_server_that_takes_up_and_says_nothing_was_told_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(database, "CONNECT_S", 0.2)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        url = f"postgresql://ada@127.0.0.1:{silent.getsockname()[1]}/db"
        refused(lambda: Registry(url, create=False), "does not answer in time; see what the server does")


@pytest.fixture
def shared(postgres, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Registry]:
    monkeypatch.setattr(database, "SILENT_S", 0.5)
    with Registry(postgres.new_database(), artifacts=str(tmp_path / "blobs")) as registry:
        yield registry


def backend(connection: Connection) -> int:
    return int(connection.execute(text("SELECT pg_backend_pid()")).scalar_one())


def test_what_became_of_a_commit(shared: Registry, postgres) -> None:
    """It was sent, and the server fell silent, or ended the connection: who asked must look."""
    stopped: list[int] = []

    def stop_then(connection: Connection, *, ask: bool = False) -> None:
        stopped.append(backend(connection))
        os.kill(stopped[-1], signal.SIGSTOP)
        if ask:
            connection.execute(text("SELECT 2"))

    said = {}
    try:
        for name, call in {
            "asking": lambda: shared.database.ask(stop_then),
            "before": lambda: shared.database.transact(lambda c: stop_then(c, ask=True), repeatable=True, alone=False),
            "commit": lambda: shared.database.transact(stop_then, repeatable=True, alone=False),
        }.items():
            with pytest.raises(RegistryError, match="does not answer in time") as told:
                call()
            said[name] = "may be done: look into the history" in str(told.value)
    finally:
        for process in stopped:
            os.kill(process, signal.SIGCONT)
    assert said == {"asking": False, "before": False, "commit": True}
    with pytest.raises(RegistryError, match="may be done: look into the history before you repeat it"):
        shared.database.transact(lambda c: postgres.execute(f"SELECT pg_terminate_backend({backend(c)})"))


def test_a_commit_that_was_left_open_is_not_forgotten(registry: Registry, monkeypatch: pytest.MonkeyPatch) -> None:
    """The connection breaks during the commit, and no other comes about."""
    lost = OperationalError(None, None, ConnectionError("gone"), connection_invalidated=True)
    mark_unconfirmed(lost)
    away = OperationalError(None, None, ConnectionError("refused"))
    mark_unconnected(away)
    errors = iter([lost, away])

    def broken(*given: object, **options: object):
        raise next(errors)

    monkeypatch.setattr(registry.database, "_begin", broken)
    with pytest.raises(RegistryError, match="refused; what you asked for may be done"):
        registry.database.transact(lambda connection: None, repeatable=True)
    assert next(errors, None) is None


def test_the_files_of_a_package_are_asked_for_again(
    registry: Registry, package, monkeypatch: pytest.MonkeyPatch
) -> None:
    registry.register(package())
    lost = OperationalError("SELECT", {}, ConnectionError("gone"), connection_invalidated=True)
    begin, calls = registry.database._begin, []

    def broken(engine, **options):
        calls.append(engine)
        if len(calls) == 2:
            raise lost
        return begin(engine, **options)

    monkeypatch.setattr(registry.database, "_begin", broken)
    assert registry.pull("digits:1").is_file()
    assert len(calls) == 3
