"""A database is made, upgraded with all that is in it, and refused where it is newer or another program's."""

from __future__ import annotations

import multiprocessing
import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import pytest
from sqlalchemy import inspect, select, text
from sqlalchemy.exc import OperationalError

from shipworthy.errors import RegistryError
from shipworthy.registry import Registry, losses_of, rollout_tables, tables
from shipworthy.registry.database import Database
from shipworthy.registry.location import locate_registry
from shipworthy.registry.migrating import FOLDER, newest_revision, upgrade_to
from shipworthy.registry.tables import VERSION_TABLE


def differences(registry: Registry) -> list[object]:
    """Between the tables that the code names, and those that the migrations made."""
    from alembic.autogenerate import compare_metadata
    from alembic.migration import MigrationContext

    assert rollout_tables.metadata is tables.metadata
    with registry.database.read() as connection:
        context = MigrationContext.configure(
            connection, opts={"version_table": VERSION_TABLE, "compare_type": True, "compare_server_default": True}
        )
        return list(compare_metadata(context, tables.metadata))


def test_migrations_make_the_tables_that_the_code_names(registry: Registry) -> None:
    assert differences(registry) == []


def test_revisions_are_numbered_without_gaps() -> None:
    files = sorted(file.name[:4] for file in (FOLDER / "versions").glob("[0-9]*.py"))
    assert files == [f"{number:04}" for number in range(1, len(files) + 1)]
    assert newest_revision() == files[-1]


def test_a_database_of_the_first_revision_is_upgraded_with_its_content(tmp_path: Path, package) -> None:
    """Written as 0001 had it, by statements that stay what they were."""
    folder = tmp_path / "registry"
    old = Database(locate_registry(folder))
    with old.write() as connection:
        upgrade_to(connection, "0001")
        assert connection.execute(text(f"SELECT version_num FROM {VERSION_TABLE}")).scalar() == "0001"
        for statement in (
            "INSERT INTO settings VALUES ('id', 'abc'), ('artifacts', '')",
            "INSERT INTO packages VALUES ('d1', '{}')",
            "INSERT INTO package_blobs VALUES ('d1', 'card.md', 's1', 7)",
            "INSERT INTO models VALUES ('digits', 3)",
            "INSERT INTO versions VALUES ('digits', 1, 'd1', 1767323045000000, 'ada', 'c0ffee', NULL, 'c1', 12, "
            """'{"p50_ms": 1.5}', '{"team": "a"}', 'first', NULL)""",
            "INSERT INTO versions VALUES ('digits', 2, 'd1', 1767323046000000, 'bob', NULL, 1, 'c1', NULL, "
            "'{}', '{}', '', 1767323048000000)",
            "INSERT INTO aliases VALUES ('digits', 'champion', 1)",
            "INSERT INTO events VALUES "
            "(1, 1767323045000000, 'digits', 'registered', 1, NULL, NULL, '', 'ada', '{}', 't1'), "
            "(2, 1767323046000000, 'digits', 'registered', 2, NULL, NULL, '', 'bob', '{}', 't2'), "
            """(3, 1767323047000000, 'digits', 'alias-moved', 1, 'champion', NULL, 'go', 'ada', '{"a": 1}', 't3'), """
            "(4, 1767323048000000, 'digits', 'deleted', 2, NULL, NULL, '', 'bob', '{}', 't4')",
        ):
            connection.exec_driver_sql(statement)
    old.close()
    with Registry(folder) as registry:
        assert differences(registry) == []
        version = registry.version("digits")
        assert (version.name, version.who, version.git_commit, version.parameters) == ("digits:1", "ada", "c0ffee", 12)
        assert (version.metrics, version.tags, version.why) == ({"p50_ms": 1.5}, {"team": "a"}, "first")
        assert version.created.isoformat() == "2026-01-02T03:04:05+00:00"
        assert registry.version("digits:2").deleted is not None
        assert [event.kind for event in registry.history()] == ["deleted", "alias-moved", "registered", "registered"]
        live = registry.live("digits")
        assert live is not None and (live.version, live.why, live.event) == (1, "go", 3)
        assert registry.register(package()).number == 3
        assert registry.newest_event() == 5
        with registry.database.read() as connection:
            assert connection.execute(select(tables.settings.c.value)).scalars().all() == ["abc", ""]


@pytest.fixture(params=["sqlite", pytest.param("postgresql", marks=pytest.mark.full)])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """Where a registry may be made."""
    return (
        str(tmp_path / "registry") if request.param == "sqlite" else request.getfixturevalue("postgres").new_database()
    )


def test_a_database_of_the_second_revision_is_upgraded_and_what_still_uses_it_goes_on(
    place: str, tmp_path: Path
) -> None:
    """Written as 0002 had it; its writer does not know of the upgrade, and takes another label after it."""
    label = text(
        "INSERT INTO labels (digest, model, version, rollout, label, predicted, loss, received) "
        "VALUES (:digest, 'digits', 1, 1, '2', 2.0, 0.0, 1767323047000000)"
    )
    old = Database(locate_registry(place))
    with old.write() as connection:
        upgrade_to(connection, "0002")
        for statement in (
            f"INSERT INTO settings VALUES ('id', 'abc'), ('artifacts', '{tmp_path / 'artifacts'}')",
            """INSERT INTO packages VALUES ('d1', '{"contract": {"task": {"kind": "classification"}}}')""",
            "INSERT INTO models VALUES ('digits', 3)",
            "INSERT INTO versions VALUES "
            "('digits', 1, 'd1', 1767323045000000, 'ada', NULL, NULL, 'c1', NULL, '{}', '{}', '', NULL), "
            "('digits', 2, 'd1', 1767323046000000, 'ada', NULL, 1, 'c1', NULL, '{}', '{}', '', NULL)",
            "INSERT INTO aliases VALUES ('digits', 'champion', 1)",
            "INSERT INTO label_counts VALUES ('digits', 'accepted', 1)",
        ):
            connection.exec_driver_sql(statement)
        connection.execute(label, {"digest": b"one"})
    with Registry(place) as registry:
        assert differences(registry) == []
        assert registry.version("digits:2").parent == 1
        before = losses_of(registry, "digits", 1)
        assert (before.kind, before.counts.shape, before.unknown) == ("classification", (0, 101), 0)
        with old.write() as connection:
            connection.execute(label, {"digest": b"two"})
        with registry.database.read() as connection:
            assert len(connection.execute(select(rollout_tables.labels)).all()) == 2
        assert losses_of(registry, "digits", 1).counts.sum() == 0, "what an older version takes is no part of it"
    old.close()


def test_an_up_to_date_database_is_opened_without_alembic(folder: Path) -> None:
    code = (
        "import sys; from shipworthy.registry import Registry; r = Registry(sys.argv[1]); r.newest_event(); r.models();"
        "print([name for name in ('alembic', 'fsspec', 'torch', 'mako') if name in sys.modules])"
    )
    ran = subprocess.run([sys.executable, "-c", code, folder], check=True, capture_output=True, text=True)
    assert ran.stdout.strip() == "[]"


def test_names_need_no_database() -> None:
    code = "import sys, shipworthy.registry as r; r.parse('digits'); print('sqlalchemy' in sys.modules)"
    ran = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    assert ran.stdout.strip() == "False"


def test_a_newer_database_is_refused(folder: Path) -> None:
    with closing(sqlite3.connect(folder / "registry.db")) as connection:
        connection.execute(f"UPDATE {VERSION_TABLE} SET version_num = '9999'")
        connection.commit()
    with pytest.raises(
        RegistryError, match=r"has revision 9999, and this version knows \d{4} at most; update shipworthy"
    ):
        Registry(folder)


def test_another_programs_database_is_left_alone(tmp_path: Path) -> None:
    file = tmp_path / "other.db"
    with closing(sqlite3.connect(file)) as connection:
        connection.execute("CREATE TABLE versions (mine TEXT)")
        connection.commit()
    with pytest.raises(RegistryError, match="is no registry, and has tables of the same name: versions"):
        Registry(f"sqlite:///{file}")
    with closing(sqlite3.connect(file)) as connection:
        assert connection.execute("SELECT name FROM sqlite_master").fetchall() == [("versions",)]


@pytest.mark.parametrize("table", ["labels", "losses", "events"])
def test_any_table_of_the_same_name_is_anothers(tmp_path: Path, table: str) -> None:
    """Also those that a later migration makes."""
    file = tmp_path / "other.db"
    with closing(sqlite3.connect(file)) as connection:
        connection.execute(f"CREATE TABLE {table} (mine TEXT)")
        connection.commit()
    code = "import sys; from shipworthy.registry import Registry; Registry(sys.argv[1])"
    ran = subprocess.run([sys.executable, "-c", code, f"sqlite:///{file}"], capture_output=True, text=True, check=False)
    assert f"is no registry, and has tables of the same name: {table}; give an empty database" in ran.stderr
    with closing(sqlite3.connect(file)) as connection:
        assert connection.execute("SELECT name FROM sqlite_master").fetchall() == [(table,)]


def test_a_registry_that_is_made_while_one_looks(tmp_path: Path, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Between the question that finds no table and the one why."""
    from shipworthy.registry import migrating

    real, calls = migrating._revision, []

    def late(connection: object) -> object:
        calls.append(connection)
        if len(calls) == 1:
            missing = sqlite3.OperationalError("no such table: registry_revision")
            missing.sqlite_errorcode = sqlite3.SQLITE_ERROR
            raise OperationalError("SELECT", {}, missing)
        return real(connection)  # type: ignore[arg-type]

    monkeypatch.setattr(migrating, "_revision", late)
    with Registry(folder) as registry:
        assert registry.newest_event() == 0
    assert len(calls) == 2


def test_a_migration_that_fails_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(connection: object, revision: str) -> None:
        upgrade_to(connection, "0001")  # type: ignore[arg-type]
        raise RuntimeError("killed")

    with monkeypatch.context() as patched:
        patched.setattr("shipworthy.registry.migrating.upgrade_to", broken)
        with pytest.raises(RuntimeError, match="killed"):
            Registry(tmp_path / "registry")
    with closing(sqlite3.connect(tmp_path / "registry" / "registry.db")) as connection:
        assert connection.execute("SELECT name FROM sqlite_master").fetchall() == []
    with Registry(tmp_path / "registry") as registry, registry.database.read() as connection:
        assert inspect(connection).has_table("versions")


def _open(url: str, ready: object, told: object) -> None:
    ready.wait()  # type: ignore[attr-defined]
    try:
        with Registry(url) as registry:
            with registry.database.read() as connection:
                rows = (
                    connection.execute(select(tables.settings.c.value).order_by(tables.settings.c.key)).scalars().all()
                )
            told.put(tuple(rows))  # type: ignore[attr-defined]
    except BaseException as error:  # noqa: BLE001 - the test shows whatever it is
        told.put(repr(error))  # type: ignore[attr-defined]


def test_eight_processes_make_one_registry(tmp_path: Path) -> None:
    context = multiprocessing.get_context("fork")
    ready, told = context.Barrier(8), context.Queue()
    url = str(tmp_path / "registry")
    processes = [context.Process(target=_open, args=(url, ready, told)) for _ in range(8)]
    for process in processes:
        process.start()
    answers = [told.get(timeout=60) for _ in processes]
    for process in processes:
        process.join()
    assert len(set(answers)) == 1 and len(answers[0]) == 2, answers
    assert answers[0][1] == Registry(url).blobs.owner()
