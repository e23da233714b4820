"""Transactions: alone, tried again, told; and where a registry can be."""

from __future__ import annotations

import builtins
import importlib.util
import os
import sqlite3
import threading
import time
from contextlib import closing
from pathlib import Path

import pytest
from sqlalchemy import select, text
from sqlalchemy.exc import IntegrityError, OperationalError

from shipworthy.errors import MissingExtra, RegistryError
from shipworthy.registry import Registry, database, default_url
from shipworthy.registry.location import locate_registry
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
        ("://", "cannot be read"),
        ("postgresql://host:port/db", "cannot be read"),
    ],
)
def test_where_no_registry_can_be(url: str, match: str) -> None:
    with pytest.raises(RegistryError, match=match):
        Registry(url)


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
