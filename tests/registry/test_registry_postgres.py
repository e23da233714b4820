"""The same registry on PostgreSQL."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from datetime import timedelta
from pathlib import Path

import postgres_server
import pytest
from sqlalchemy import inspect, select, text
from test_registry_history import replayed
from test_registry_migrations import differences

from shipworthy.errors import Conflict, RegistryError
from shipworthy.registry import Registry, database
from shipworthy.registry.database import Database
from shipworthy.registry.location import locate_registry
from shipworthy.registry.tables import events, settings


@pytest.fixture
def url(postgres) -> str:
    return postgres.new_database()


@pytest.fixture
def shared(url: str, tmp_path: Path):
    with Registry(url, artifacts=str(tmp_path / "blobs")) as registry:
        yield registry


def test_a_whole_life(shared: Registry, postgres, package, tmp_path: Path) -> None:
    assert differences(shared) == []
    folder = package()
    first = shared.register(folder, aliases=["champion"], tags={"team": "ä"}, why="größer", push_id="one")
    assert shared.register(folder, push_id="one") == first
    second = shared.register(package(card="better"), parent=1)
    with Registry(postgres.over_socket(shared.url)) as again:
        assert again.version("digits") == first
        assert again.blobs.url == str(tmp_path / "blobs")
        assert again.promote("digits:2", why="won").previous == 1
    assert shared.version("digits").digest == second.digest
    with pytest.raises(Conflict, match="names version 2, not version 1"):
        shared.move("digits", "champion", 1, expected=1)
    assert shared.rollback("digits").version == 1
    live = shared.live("digits")
    assert live is not None and (live.version, live.since) == (1, shared.history(limit=1)[0].at)
    before = shared.live("digits", live.since - timedelta(microseconds=1))
    assert before is not None and (before.version, before.why) == (2, "won")
    shared.delete("digits:2")
    assert [model.newest for model in shared.models()] == [1]
    freed = shared.gc(older_than=timedelta(0))
    assert freed.packages == (second.digest,) and len(freed.blobs) == 2
    assert shared.pull("digits").is_file()
    log = shared.events_after(0)
    assert [event.number for event in log] == list(range(1, shared.newest_event() + 1))
    assert replayed(log) == {"digits": {"champion": 1}}
    assert shared.history() == log[::-1]


def test_a_new_one_must_say_where_packages_are(url: str) -> None:
    with pytest.raises(RegistryError, match="is new, and does not know where to keep packages; give artifacts"):
        Registry(url)


def test_many_make_one_registry(url: str, tmp_path: Path) -> None:
    together, owners = threading.Barrier(6, timeout=20), []

    def open_it() -> None:
        together.wait()
        with Registry(url, artifacts=str(tmp_path / "blobs")) as registry, registry.database.read() as connection:
            owners.append(connection.execute(select(settings.c.value).where(settings.c.key == "id")).scalar())

    threads = [threading.Thread(target=open_it) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(owners) == 6 and len(set(owners)) == 1
    with Registry(url) as registry:
        assert registry.blobs.owner() == owners[0]
        assert differences(registry) == []


def test_events_are_numbered_in_the_order_of_commits(shared: Registry, package) -> None:
    """A writer that began first and commits last has the higher number: who reads never meets a lower one later."""
    shared.register(package())
    began, go = threading.Event(), threading.Event()

    def slow(connection) -> None:
        began.set()
        go.wait(10)
        connection.execute(settings.insert(), {"key": "slow", "value": ""})

    writer = threading.Thread(target=lambda: shared.database.transact(slow))
    writer.start()
    began.wait(10)
    quick = threading.Thread(target=lambda: shared.note("digits", "quick"))
    quick.start()
    quick.join(0.2)
    assert quick.is_alive(), "it waits for the one that began before"
    assert shared.newest_event() == 1, "reading waits for nobody"
    with shared.database.merge() as connection:
        connection.execute(settings.insert(), {"key": "merged", "value": ""})
    go.set()
    quick.join(10)
    writer.join(10)
    assert shared.newest_event() == 2


def test_a_deadlock_is_tried_again(shared: Registry) -> None:
    with shared.database.write() as connection:
        connection.execute(settings.insert(), [{"key": "a", "value": "0"}, {"key": "b", "value": "0"}])
    both, attempts = threading.Barrier(2, timeout=20), []

    def swap(first: str, second: str) -> None:
        def work(connection) -> None:
            attempts.append(first)
            row = settings.update().where(settings.c.key == first)
            connection.execute(row.values(value=settings.c.value + "1"))
            if len(attempts) <= 2:
                both.wait()
            connection.execute(settings.update().where(settings.c.key == second).values(value=settings.c.value + "1"))

        shared.database.transact(work, alone=False)

    threads = [threading.Thread(target=swap, args=pair) for pair in (("a", "b"), ("b", "a"))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(attempts) == 3
    with shared.database.read() as connection:
        rows = connection.execute(select(settings.c.value).where(settings.c.key.in_(("a", "b")))).scalars().all()
    assert rows == ["011", "011"]


def test_a_connection_that_was_ended(shared: Registry, postgres, package, capfd: pytest.CaptureFixture[str]) -> None:
    shared.register(package())
    end = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'shipworthy'"
    postgres.execute(end)
    assert shared.promote("digits:1").number == 2

    def ended_once(connection) -> int:
        if not done:
            done.append(postgres.execute(end))
        return int(connection.execute(text("SELECT 7")).scalar())

    done: list[object] = []
    assert shared.database.transact(ended_once, repeatable=True) == 7
    done.clear()
    with pytest.raises(RegistryError):
        shared.database.transact(ended_once)
    assert shared.newest_event() == 2
    assert "Traceback" not in capfd.readouterr().err


def test_a_lock_that_is_never_released(shared: Registry, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(database, "BUSY_S", 0.1)
    monkeypatch.setattr(database, "ATTEMPTS", 2)
    with Registry(shared.url) as impatient, shared.database.write():
        with pytest.raises(RegistryError, match="lock timeout"):
            impatient.database.transact(lambda connection: None)
        with pytest.raises(RegistryError, match="lock timeout"), impatient.database.write():
            raise AssertionError("it was not locked")


def test_who_may_not(shared: Registry, postgres, package) -> None:
    postgres.execute("CREATE ROLE guest LOGIN")
    url = shared.url.replace("shipworthy@", "guest@")
    with pytest.raises(RegistryError, match=r"permission denied.*grant the user"):
        Registry(url)
    with pytest.raises(RegistryError, match='database "nothing" does not exist; create the database first'):
        Registry(shared.url.rpartition("/")[0] + "/nothing")
    with pytest.raises(RegistryError, match='role "nobody" does not exist; check the user'):
        Registry(shared.url.replace("shipworthy@", "nobody:secret@"))


def test_many_threads_move_one_alias(shared: Registry, package) -> None:
    """Each takes the swap that it won on; the log shows one chain."""
    folder = package()
    for _ in range(3):
        shared.register(folder, git_commit="")
    won: list[int] = []

    def race(number: int) -> None:
        for _ in range(5):
            try:
                present = shared.aliases("digits").get("champion")
                won.append(shared.move("digits", "champion", number, expected=present).number)
            except Conflict:
                continue

    threads = [threading.Thread(target=race, args=(number,)) for number in (1, 2, 3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert replayed(shared.events_after(0))["digits"] == shared.aliases("digits")
    with shared.database.read() as connection:
        assert set(won) <= set(connection.execute(select(events.c.number)).scalars())


def test_who_only_looks_makes_no_tables(url: str) -> None:
    with pytest.raises(RegistryError, match="is no registry yet; name another with --registry"):
        Registry(url, create=False)
    with closing(Database(locate_registry(url))) as looked:
        assert looked.ask(lambda connection: inspect(connection).get_table_names()) == []


def test_a_server_that_falls_silent(shared: Registry, postgres, package, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its process stops in the middle of a life, as when the network swallows everything."""
    shared.register(package())
    monkeypatch.setattr(database, "SILENT_S", 0.3)
    monkeypatch.setattr(database, "CONNECT_S", 0.3)
    with Registry(shared.url) as other:
        with other.database.read() as connection:
            backend = connection.execute(text("SELECT pg_backend_pid()")).scalar()
        os.kill(backend, signal.SIGSTOP)
        began = time.monotonic()
        try:
            with pytest.raises(RegistryError, match="does not answer in time; see what the server does, and"):
                other.note("digits", "checked")
        finally:
            os.kill(backend, signal.SIGCONT)
        assert time.monotonic() - began < 3
        assert other.version("digits:1").number == 1, "another connection is made"


def test_a_statement_that_takes_too_long(shared: Registry, monkeypatch: pytest.MonkeyPatch) -> None:
    assert database.BUSY_S < database.STATEMENT_S < database.SILENT_S
    monkeypatch.setattr(database, "STATEMENT_S", 0.1)
    with Registry(shared.url) as other, pytest.raises(RegistryError, match="statement timeout"):
        other.database.ask(lambda connection: connection.execute(text("SELECT pg_sleep(5)")).scalar())


class Mortal:
    """A server of its own, that can be stopped and started, and encrypts."""

    def __init__(self, server: postgres_server.Server, certificate: Path) -> None:
        self.server = server
        self.certificate = certificate

    def stop(self) -> None:
        self.server.process.send_signal(signal.SIGINT)
        self.server.process.wait(30)

    def start(self) -> None:
        owner = "postgres" if os.getuid() == 0 else None
        as_owner = {"user": owner, "group": owner, "extra_groups": []} if owner else {}
        quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
        until = time.monotonic() + 20
        while True:
            command = self.server.process.args
            self.server.process = subprocess.Popen(command, cwd=self.server.folder, **quiet, **as_owner)
            try:  # another program's connection may have its port for a moment
                self.server.process.wait(0.5)
            except subprocess.TimeoutExpired:
                return
            assert time.monotonic() < until


@pytest.fixture(scope="module")
def mortal(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Mortal]:
    missing = postgres_server.missing()
    if missing is not None or shutil.which("openssl") is None:
        pytest.skip(missing or "openssl is not installed here")
    folder = tmp_path_factory.mktemp("tls")
    key, certificate = folder / "server.key", folder / "server.crt"
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=localhost",
         "-addext", "subjectAltName=DNS:localhost", "-keyout", key, "-out", certificate],
        check=True, capture_output=True,
    )  # fmt: skip
    key.chmod(0o600)
    if os.getuid() == 0:
        shutil.chown(key, "postgres")
        for above in (folder, *folder.parents[:3]):
            above.chmod(above.stat().st_mode | 0o011)
    with postgres_server.running(ssl="on", ssl_cert_file=str(certificate), ssl_key_file=str(key)) as server:
        yield Mortal(server, certificate)


def test_what_is_encrypted_and_checked(mortal: Mortal, postgres, tmp_path: Path) -> None:
    plain = mortal.server.new_database()
    Registry(plain, artifacts=str(tmp_path / "blobs")).close()

    def encrypted(options: str, host: str = "localhost") -> bool:
        with Registry(plain.replace("127.0.0.1", host) + options) as registry, registry.database.read() as connection:
            return bool(
                connection.execute(text("SELECT ssl FROM pg_stat_ssl WHERE pid = pg_backend_pid()")).scalar()
            )  # fmt: skip

    root = f"&sslrootcert={mortal.certificate}"
    assert encrypted("") and encrypted("?sslmode=require")
    assert not encrypted("?sslmode=disable")
    assert encrypted(f"?sslmode=verify-ca{root}", "127.0.0.1") and encrypted(f"?sslmode=verify-full{root}")
    for options, host in (
        ("?sslmode=verify-full", "localhost"),
        (f"?sslmode=verify-full{root}", "127.0.0.1"),
    ):
        began = time.monotonic()
        with pytest.raises(RegistryError, match="certificate verify failed"):
            encrypted(options, host)
        assert time.monotonic() - began < 2, "another attempt would not help"
    with pytest.raises(RegistryError, match="Server refuses SSL"):
        Registry(postgres.new_database() + "?sslmode=require", create=False)


@pytest.mark.full
def test_a_server_that_restarts(mortal: Mortal, package, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Questions and changes that come while it is away wait for it, and are answered."""
    monkeypatch.setattr(database, "PATIENCE_S", 30.0)  # the host may be busy with other things
    with Registry(mortal.server.new_database(), artifacts=str(tmp_path / "blobs")) as registry:
        registry.register(package())
        for ask in (
            lambda: registry.promote("digits:1").number,
            registry.newest_event,
            lambda: len(list(_names(registry))),
        ):
            mortal.stop()
            starting = threading.Timer(0.7, mortal.start)
            starting.start()
            assert ask()
            starting.join()
        assert registry.newest_event() == 2


def test_a_server_that_stays_away(mortal: Mortal, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The first question waits for a while; the next ones are refused at once."""
    monkeypatch.setattr(database, "PATIENCE_S", 0.5)
    with Registry(mortal.server.new_database(), artifacts=str(tmp_path / "blobs")) as registry:
        mortal.stop()
        try:
            assert 0.5 < _refused(registry.newest_event) < 4
            assert _refused(registry.newest_event) < 0.4
            assert _refused(lambda: Registry(registry.url)) < 0.4, "a new one may be mistyped"
        finally:
            mortal.start()
        until = time.monotonic() + 20
        while True:
            try:
                assert registry.newest_event() == 0
                return
            except RegistryError:
                assert time.monotonic() < until
                time.sleep(0.1)


def _refused(ask: Callable[[], object]) -> float:
    began = time.monotonic()
    with pytest.raises(RegistryError, match="cannot be reached"):
        ask()
    return time.monotonic() - began


def _names(registry: Registry) -> list[str]:
    """By a transaction that is not repeated: it waits for the server before it begins."""
    time.sleep(1.1)  # as long as a connection is trusted
    with registry.database.read() as connection:
        return list(connection.execute(select(settings.c.key)).scalars())
