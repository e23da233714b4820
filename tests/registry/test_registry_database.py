"""Transactions: alone, tried again, told; and where a registry can be."""

from __future__ import annotations

import builtins
import importlib.util
import os
import socket
import sqlite3
import ssl
import threading
import time
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Engine, select, text
from sqlalchemy.event import listen, remove
from sqlalchemy.exc import IntegrityError, OperationalError

from shipworthy.errors import MissingExtra, RegistryError
from shipworthy.registry import Registry, database, default_url
from shipworthy.registry.location import locate_registry, tls_of
from shipworthy.registry.tables import events, settings


def test_where_a_registry_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    folder = locate_registry("here")
    assert (folder.file, folder.blobs) == (tmp_path / "here" / "registry.db", tmp_path / "here" / "blobs")
    file = locate_registry("sqlite:///some.db")
    assert (file.file, file.blobs) == (tmp_path / "some.db", tmp_path / "some.db.blobs")
    assert file.given == f"sqlite:///{tmp_path}/some.db", "it opens the same from another folder"
    server = locate_registry("postgresql://ada:secret@db.example.org:5433/models?password=secret")
    assert server.url.drivername == "postgresql+pg8000"
    assert "secret" not in server.shown and "secret" in server.given
    assert (server.file, server.blobs) == (None, None)
    assert locate_registry("postgres://ada@host/models").url.drivername == "postgresql+pg8000"
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    assert locate_registry("~/x").file == tmp_path / "home" / "x" / "registry.db"
    assert default_url() == os.environ["SHIPWORTHY_REGISTRY"]
    monkeypatch.delenv("SHIPWORTHY_REGISTRY")
    assert default_url() == str(tmp_path / "home" / ".shipworthy" / "registry")


@pytest.mark.parametrize(
    ("url", "match"),
    [
        ("", "is empty"),
        ("mysql://host/db", "'mysql' is no database that a registry can be in"),
        ("sqlite://", "names no file"),
        ("sqlite:///:memory:", "names no file"),
        ("sqlite:///a.db?mode=ro", "has options"),
        ("postgresql://host", "names no database"),
        ("postgresql+psycopg2://host/db", "names the driver 'psycopg2'"),
        ("postgresql://db.example/ships", "db.example/ships: names no user; give postgresql://user@host/database"),
        ("postgresql:///ships", "ships: names no user; give"),
        ("sqlite://folder/a.db", "names a host, and a file has none; give a folder, sqlite:///path"),
        ("://", "cannot be read"),
        ("postgresql://host:port/db", "cannot be read"),
    ],
)
def test_where_no_registry_can_be(url: str, match: str) -> None:
    with pytest.raises(RegistryError, match=match):
        Registry(url)


@pytest.mark.parametrize(
    ("url", "match"),
    [
        (
            "postgresql://ann:pa@s3cret@host/db",
            "^the registry: its url has an @ where none can be; within .* write %40",
        ),
        ("postgresql://ann:pa?x@s3cret@host/db", "^the registry: its url has an @ where none can be"),
        ("postgresql://ann:pa/x@s3cret@host/db", "^the registry: its url has an @ where none can be"),
        ("postgresql://an/n:s3cret@host/db", "^the registry: its url has an @ where none can be"),
        ("postgresql:///ann:s3cret@host/db", "^the registry: its url has an @ where none can be"),
        ("mysql://ann:pa@s3cret@host/db", "^the registry: its url has an @ where none can be"),
        ("postgresql://ann@host/db?passwd=s3cret", "ann@host/db: has the option 'passwd', which is not known"),
        ("postgresql://ann@host/db?Password=s3cret", "ann@host/db: has the option 'Password', which is not known"),
        ("mysql://ann@host/db?passwd=s3cret", "ann@host/db: 'mysql' is no database"),
        ("postgresql:/ann:s3cret@host/db", "^the registry: its url has no // after the colon; give a folder"),
        (Path("postgresql://ann:s3cret@host/db"), "^the registry: its url has no // after the colon; give a folder"),
        ("postgresql:ann:s3cret@host/db", "^the registry: its url has no // after the colon"),
        ("PostgreSQL+pg8000:/ann:s3cret@host/db", "^the registry: its url has no // after the colon"),
        ("sqlite://ann:s3cret@host/a.db", "^the registry: its url names a host"),
    ],
)
def test_urls_that_would_show_a_password(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, url: str | Path, match: str
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(RegistryError, match=match) as told:
        Registry(url)
    assert "s3cret" not in str(told.value)
    assert not list(tmp_path.iterdir()), "nor is a folder made of it"


def test_an_at_sign_where_it_can_be(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    location = locate_registry("postgresql://ann%40corp:pa%40ss@host/my%40db?password=a@b")
    assert (location.url.username, location.url.password, location.url.host) == ("ann@corp", "pa@ss", "host")
    assert location.url.database == "my@db" and "pa" not in location.shown and "a@b" not in location.shown
    assert locate_registry("postgresql://ann:pa/s3cret@host/db").url.password == "pa/s3cret"
    assert locate_registry("sqlite:///a@b.db").file == tmp_path / "a@b.db"
    assert locate_registry("of:ann/x").file == tmp_path / "of:ann" / "x" / "registry.db"


def test_files_and_folders_that_do_not_do(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("this is a text file, and no database")
    with pytest.raises(RegistryError, match="is a file; give a folder"):
        Registry(tmp_path / "file")
    with pytest.raises(RegistryError, match="file is not a database; this file is no registry"):
        Registry(f"sqlite:///{tmp_path}/file")
    with pytest.raises(RegistryError, match="its folder cannot be made"):
        Registry(tmp_path / "file" / "below")
    (tmp_path / "folder.db").mkdir()
    with pytest.raises(RegistryError, match="unable to open database file; check the path"):
        Registry(f"sqlite:///{tmp_path}/folder.db")


def test_without_the_driver_for_postgresql(monkeypatch: pytest.MonkeyPatch) -> None:
    real = importlib.util.find_spec
    without = lambda name, *rest: None if name == "pg8000" else real(name, *rest)  # noqa: E731
    monkeypatch.setattr("shipworthy.registry.location.find_spec", without)
    with pytest.raises(MissingExtra, match=r"postgresql://ada@host/db.*'pg8000'.*shipworthy\[postgres\]"):
        Registry("postgresql://ada@host/db")


def test_a_server_that_is_not_there() -> None:
    with pytest.raises(RegistryError, match=r"cannot be reached: .*refused.*check that the server runs") as told:
        Registry("postgresql://ada:secret@127.0.0.1:1/db")
    assert "secret" not in str(told.value)


def test_one_writer_at_a_time(registry: Registry) -> None:
    inside, most = 0, 0
    lock = threading.Lock()

    def write() -> None:
        nonlocal inside, most
        with registry.database.write() as connection:
            with lock:
                inside += 1
                most = max(most, inside)
            connection.execute(settings.insert(), {"key": threading.current_thread().name, "value": ""})
            time.sleep(0.01)
            with lock:
                inside -= 1

    threads = [threading.Thread(target=write) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert most == 1
    with registry.database.read() as connection:
        assert len(connection.execute(select(settings)).all()) == 8


def test_a_reader_waits_for_nobody_and_sees_one_state(registry: Registry) -> None:
    with registry.database.read() as reader:
        before = len(reader.execute(select(settings)).all())
        with registry.database.write() as writer:
            writer.execute(settings.insert(), {"key": "k", "value": ""})
            assert len(reader.execute(select(settings)).all()) == before
        assert len(reader.execute(select(settings)).all()) == before
    with registry.database.read() as reader:
        assert len(reader.execute(select(settings)).all()) == before + 1


def test_what_fails_is_taken_back(registry: Registry) -> None:
    for begin in (registry.database.write, registry.database.merge):
        with pytest.raises(ZeroDivisionError), begin() as connection:
            connection.execute(settings.insert(), {"key": "k", "value": ""})
            raise ZeroDivisionError
    with pytest.raises(IntegrityError), registry.database.write() as connection:
        connection.execute(settings.insert(), {"key": "id", "value": ""})
    with registry.database.read() as connection:
        assert len(connection.execute(select(settings)).all()) == 2


def test_what_was_in_the_way_is_tried_again(registry: Registry, monkeypatch: pytest.MonkeyPatch) -> None:
    """Another process holds the lock for longer than SQLite waits, and lets go."""
    held = sqlite3.connect(registry.database.location.file, isolation_level=None, check_same_thread=False)
    monkeypatch.setattr(database, "BUSY_S", 0.05)
    with closing(held), Registry(registry.url) as impatient:
        held.execute("BEGIN IMMEDIATE")
        with pytest.raises(RegistryError, match="database is locked; another process holds it"), \
                impatient.database.write():  # fmt: skip
            raise AssertionError("it was not locked")
        release = threading.Timer(0.3, lambda: held.execute("ROLLBACK"))
        release.start()
        tries = []
        impatient.database.transact(lambda connection: tries.append(connection.execute(text("SELECT 1")).scalar()))
        assert tries == [1]
        release.join()
        held.execute("BEGIN IMMEDIATE")
        with pytest.raises(RegistryError, match="database is locked"):
            impatient.database.transact(lambda connection: None)
        assert impatient.newest_event() == 0, "reading goes on"
        held.execute("ROLLBACK")


def test_an_answer_that_was_lost_is_found(registry: Registry, package, monkeypatch: pytest.MonkeyPatch) -> None:
    """The transaction is committed, and the connection breaks before that is known."""
    lost = OperationalError("COMMIT", {}, sqlite3.OperationalError("gone"), connection_invalidated=True)
    begin, breaks = registry.database._begin, [True]

    def breaking(engine, **options):
        class Breaking:
            def __enter__(self):
                self.inner = begin(engine, **options)
                return self.inner.__enter__()

            def __exit__(self, *error):
                self.inner.__exit__(*error)
                if options.get("alone") and breaks and breaks.pop():
                    raise lost

        return Breaking()

    monkeypatch.setattr(registry.database, "_begin", breaking)
    folder = package()
    assert registry.register(folder, aliases=["champion"]).name == "digits:1"
    assert [version.number for version in registry.list_versions("digits")] == [1]
    registry.register(folder)
    breaks.append(True)
    assert registry.promote("digits:2").number == 4
    breaks.append(True)
    assert registry.move("digits", "champion", 1, expected=2).previous == 2
    breaks.append(True)
    assert registry.rollback("digits").version == 2
    breaks.append(True)
    assert registry.note("digits", "load-failed").number == registry.newest_event() == 7
    breaks.append(True)
    assert registry.delete("digits:1").number == registry.newest_event() == 8
    breaks.append(True)
    with pytest.raises(RegistryError):
        registry.database.transact(lambda connection: connection.execute(text("DELETE FROM aliases")))


def test_two_processes_after_a_fork(registry: Registry, package) -> None:
    registry.register(package())
    child = os.fork()
    if child == 0:
        try:
            registry.promote("digits:1", why="from the child")
            os._exit(0)
        finally:
            os._exit(1)
    assert os.waitpid(child, 0)[1] == 0
    assert registry.history(limit=1)[0].why == "from the child"
    registry.note("digits", "still-here")
    with registry.database.read() as connection:
        assert connection.execute(select(events.c.number)).scalars().all() == [1, 2, 3]


def test_a_database_that_may_only_be_read(registry: Registry, package, monkeypatch: pytest.MonkeyPatch) -> None:
    with registry.database.read() as connection:
        connection.exec_driver_sql("PRAGMA query_only=ON")
    with pytest.raises(RegistryError, match="attempt to write a readonly database; check the permissions"):
        registry.register(package())


def test_a_commit_is_on_the_disk(registry: Registry) -> None:
    with registry.database.read() as connection:
        pragma = {
            name: connection.exec_driver_sql(f"PRAGMA {name}").scalar() for name in ("journal_mode", "synchronous")
        }
        assert connection.exec_driver_sql("PRAGMA foreign_keys").scalar() == 1
    assert pragma == {"journal_mode": "wal", "synchronous": 2}
    assert builtins.str(registry.database.shown) == registry.url


def _another_programs(file: Path, table: str = "orders") -> bytes:
    with closing(sqlite3.connect(file)) as connection:
        connection.execute(f"CREATE TABLE {table} (mine TEXT)")
        connection.commit()
    return file.read_bytes()


def test_who_only_looks_writes_nothing(tmp_path: Path) -> None:
    """Neither a folder nor a table, and the mode of another program's file stays what it is."""
    file = tmp_path / "other.db"
    before = _another_programs(file)
    (tmp_path / "empty.db").write_bytes(b"")
    (tmp_path / "folder").mkdir()
    for url in (f"sqlite:///{file}", f"sqlite:///{tmp_path}/empty.db", str(tmp_path / "folder"), str(tmp_path / "no")):
        with pytest.raises(RegistryError, match="is no registry yet; name another with --registry"):
            Registry(url, create=False)
    assert file.read_bytes() == before
    assert sorted(path.name for path in tmp_path.iterdir()) == ["empty.db", "folder", "other.db"]
    assert not (tmp_path / "empty.db").read_bytes() and not list((tmp_path / "folder").iterdir())


def test_who_only_looks_asks_once(registry: Registry) -> None:
    """Over a network each question is a moment in which a server is not there yet."""
    asked: list[str] = []

    def note(*given: Any) -> None:
        asked.append(given[2])

    listen(Engine, "before_cursor_execute", note)
    try:
        Registry(registry.url, create=False).close()
    finally:
        remove(Engine, "before_cursor_execute", note)
    assert len([one for one in asked if "registry_revision" in one]) == 1


def test_a_refused_database_keeps_its_mode(tmp_path: Path) -> None:
    file = tmp_path / "other.db"
    before = _another_programs(file, "versions")
    with pytest.raises(RegistryError, match="has tables of the same name: versions"):
        Registry(f"sqlite:///{file}")
    assert file.read_bytes() == before


def test_a_registry_that_was_copied_without_its_mode_gets_it_again(registry: Registry, tmp_path: Path) -> None:
    registry.database.close()
    copy = tmp_path / "copy.db"
    with closing(sqlite3.connect(registry.database.location.file)) as source:
        source.execute(f"VACUUM INTO '{copy}'")
    with Registry(f"sqlite:///{copy}", create=False) as copied, copied.database.read() as connection:
        assert connection.exec_driver_sql("PRAGMA journal_mode").scalar() == "wal"


@pytest.mark.parametrize(
    ("url", "match"),
    [
        ("x" * 5000, "is no place for a registry: File name too long"),
        ("/tmp/" + "x" * 300 + "/y", "is no place for a registry: File name too long"),
        ("~nosuchuser/registry", "is no place for a registry: .*home"),
        ("sqlite:///~nosuchuser/a.db", "is no place for a registry: .*home"),
        ("a\0b", "has a NUL character"),
        ("postgresql://host/db?sslmode=sometimes", "has sslmode=sometimes; give one of disable, require"),
        ("postgresql://host/db?connect_timeout=3", "has the option 'connect_timeout', which is not known"),
        ("postgresql://host/db?sslmode=require&sslmode=disable", "has the option 'sslmode' more than once"),
        ("postgresql://host/db?sslrootcert=a.pem", "nothing is checked with; add sslmode=verify-full"),
        (
            "postgresql://ada@host/db?sslmode=verify-ca&sslrootcert=/no/such.pem",
            "such.pem cannot be read: No such file",
        ),
    ],
)
@pytest.mark.parametrize("create", [True, False])
def test_places_and_options_that_are_refused(url: str, match: str, create: bool) -> None:
    with pytest.raises(RegistryError, match=match) as told:
        Registry(url, create=create)
    assert len(str(told.value)) < 500


def test_a_folder_that_may_not_be_entered(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real = os.stat

    def closed(path: object, **options: object) -> os.stat_result:
        if str(path).startswith(str(tmp_path / "closed")):
            raise PermissionError(13, "Permission denied")
        return real(path, **options)

    monkeypatch.setattr(os, "stat", closed)
    for url in (str(tmp_path / "closed" / "registry"), f"sqlite:///{tmp_path}/closed/x.db"):
        with pytest.raises(RegistryError, match="cannot be looked into: Permission denied; check the permissions"):
            Registry(url, create=False)


def test_what_is_said_of_tls(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    place = "postgresql://ada:secret@host/db"
    assert tls_of(locate_registry(place)) is None
    assert tls_of(locate_registry(f"{place}?sslmode=disable")) is False
    found = {}
    for mode in ("require", "verify-ca", "verify-full"):
        context = tls_of(locate_registry(f"{place}?sslmode={mode}"))
        assert isinstance(context, ssl.SSLContext)
        found[mode] = (context.verify_mode, context.check_hostname)
    assert found == {
        "require": (ssl.CERT_NONE, False),
        "verify-ca": (ssl.CERT_REQUIRED, False),
        "verify-full": (ssl.CERT_REQUIRED, True),
    }
    location = locate_registry(f"{place}?sslmode=verify-full&sslrootcert=root.pem")
    assert (location.ssl_mode, location.ssl_root) == ("verify-full", str(tmp_path / "root.pem"))
    again = locate_registry(location.given)
    assert (again.url, again.ssl_root) == (location.url, location.ssl_root), "it opens the same from another folder"
    assert not location.url.query and "secret" in location.given


class Silent:
    """A server that takes connections up, or not even that, and says nothing."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(database, "CONNECT_S", 0.2)
        self.socket = socket.create_server(("127.0.0.1", 0))
        self.url = f"postgresql://ada:secret@127.0.0.1:{self.socket.getsockname()[1]}/db"


@pytest.mark.parametrize("options", ["", "?sslmode=disable", "?sslmode=require"])
def test_a_server_that_takes_up_and_says_nothing(monkeypatch: pytest.MonkeyPatch, options: str) -> None:
    server = Silent(monkeypatch)
    began = time.monotonic()
    with server.socket, pytest.raises(RegistryError, match="does not answer in time") as told:
        Registry(server.url + options, create=False)
    assert time.monotonic() - began < 3
    assert "secret" not in str(told.value)
