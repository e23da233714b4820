"""`gc` frees what nobody needs, and nothing else."""

from __future__ import annotations

import os
import shutil
import tempfile
import threading
import time
from datetime import UTC, datetime, timedelta
from hashlib import sha256
from pathlib import Path
from uuid import uuid4

import pytest
import small_packages
from hypothesis import given, settings
from hypothesis import strategies as st
from sqlalchemy import Table, text

from shipworthy.errors import RegistryError
from shipworthy.registry import Registry, database, freeing
from shipworthy.registry.rollout_tables import rollouts
from shipworthy.registry.tables import Instant

NOW = timedelta(0)
SHARED = 5
"""Blobs that all of the packages here have: the graphs, the golden cases and the report."""


def stored(registry: Registry) -> set[str]:
    return {blob.sha256 for blob in registry.blobs.listing()}


def age(registry: Registry, hours: float) -> None:
    for blob in registry.blobs.listing():
        at = blob.modified.timestamp() - hours * 3600
        os.utime(blob.path, (at, at))


def test_a_deleted_package_is_freed(registry: Registry, package) -> None:
    kept, gone = package(), package(card="another")
    registry.register(kept)
    before = stored(registry)
    registry.register(gone)
    after = stored(registry)
    registry.delete("digits:2")
    dry = registry.gc(older_than=NOW, dry_run=True)
    assert stored(registry) == after
    freed = registry.gc(older_than=NOW)
    assert freed == type(dry)(dry.packages, dry.blobs, dry.size, False)
    assert freed.packages == (small_packages.digest_of(gone),)
    assert set(freed.blobs) == after - before and len(freed.blobs) == 2
    manifest = (gone / "manifest.json").stat().st_size
    assert freed.size == manifest + len("another")
    assert stored(registry) == before
    assert registry.pull("digits:1").is_file()
    assert registry.gc(older_than=NOW).blobs == ()
    assert registry.register(gone).number == 3
    assert registry.pull("digits:3").is_file()


def test_a_package_with_two_versions_stays_for_the_other(registry: Registry, package) -> None:
    folder = package()
    registry.register(folder)
    registry.register(folder)
    registry.delete("digits:1")
    assert registry.gc(older_than=NOW).packages == ()
    assert registry.pull("digits:2").is_file()


def test_what_is_young_stays(registry: Registry, package) -> None:
    registry.register(package())
    registry.delete("digits:1")
    everything = stored(registry)
    freed = registry.gc()
    assert (len(freed.packages), freed.blobs) == (1, ())
    assert stored(registry) == everything
    age(registry, 0.9)
    assert registry.gc().blobs == ()
    age(registry, 0.2)
    assert set(registry.gc().blobs) == everything
    assert stored(registry) == set()


def test_parts_that_were_left(registry: Registry, package) -> None:
    registry.register(package())
    parts = Path(registry.blobs.url) / "parts"
    (parts / uuid4().hex).write_bytes(b"half a blob")
    assert registry.gc(older_than=NOW).size == 0, "someone may be writing it"
    age(registry, 2)
    freed = registry.gc()
    assert (freed.blobs, freed.size) == ((), len(b"half a blob"))
    assert list(parts.iterdir()) == []


def test_other_files_are_left_alone(registry: Registry) -> None:
    other = Path(registry.blobs.url) / "notes" / "read-me.txt"
    other.parent.mkdir(parents=True)
    other.write_text("mine")
    age(registry, 5)
    registry.gc(older_than=NOW)
    assert other.read_text() == "mine"


def test_a_store_of_another_registry_is_left_alone(registry: Registry, package) -> None:
    registry.register(package())
    registry.delete("digits:1")
    (Path(registry.blobs.url) / "registry-id").write_text("other")
    before = stored(registry)
    with pytest.raises(RegistryError, match="the packages of another registry"):
        registry.gc(older_than=NOW)
    assert stored(registry) == before


def _blank(table: Table) -> dict[str, object]:
    """A value for every column that must have one."""
    kinds = {int: 0, float: 0.0, str: "", bytes: b"", datetime: datetime(2026, 1, 1, tzinfo=UTC)}
    kind = {
        column.name: datetime if isinstance(column.type, Instant) else column.type.python_type for column in table.c
    }
    return {column.name: kinds[kind[column.name]] for column in table.c if not column.nullable}


def test_a_running_rollout_holds_its_versions(registry: Registry, package) -> None:
    for card in "abc":
        registry.register(package(card=card))
    with registry.database.write() as connection:
        for number, champion, challenger, state in ((1, 1, 2, "running"), (2, 2, 3, "stopped")):
            row = {"id": number, "model": "digits", "champion": champion, "challenger": challenger, "state": state}
            connection.execute(rollouts.insert(), {**_blank(rollouts), **row})
    for number in (1, 2):
        with pytest.raises(RegistryError, match="is part of a running rollout"):
            registry.delete(f"digits:{number}")
    registry.delete("digits:3")
    with registry.database.write() as connection:
        connection.execute(text("UPDATE versions SET deleted = 1"))
    assert len(registry.gc(older_than=NOW).packages) == 1
    with registry.database.write() as connection:
        connection.execute(text("UPDATE versions SET deleted = NULL WHERE number < 3"))
    assert registry.pull("digits:1").is_file() and registry.pull("digits:2").is_file()


def test_a_push_whose_blobs_are_freed_stores_them_again(registry: Registry, package, monkeypatch) -> None:
    """The worst moment: all blobs are stored, no row names them, and somebody frees everything."""
    folder = package()
    transact, freed = registry.database.transact, []

    def late(work, **options):
        if options.get("repeatable") and not freed:
            with Registry(registry.url) as other:
                freed.append(other.gc(older_than=NOW))
        return transact(work, **options)

    monkeypatch.setattr(registry.database, "transact", late)
    version = registry.register(folder)
    assert len(freed[0].blobs) == 8
    assert len(stored(registry)) == 8
    assert registry.pull(version.name).is_file()


@pytest.fixture(scope="module")
def five(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[Path]]:
    """An empty registry and five packages, of which each shares blobs with the others."""
    work = tmp_path_factory.mktemp("five")
    Registry(work / "registry").close()
    packages = [
        small_packages.make(work / f"{name}-{card}", name=name, card=card)
        for name, card in (("digits", "a"), ("digits", "b"), ("iris", "a"), ("iris", "b"), ("digits", "c"))
    ]
    return work / "registry", packages


steps = st.lists(
    st.one_of(
        st.tuples(st.just("register"), st.integers(0, 4)),
        st.tuples(st.just("delete"), st.integers(0, 20)),
        st.tuples(st.just("gc"), st.just(0)),
    ),
    max_size=14,
)


@given(steps)
@settings(max_examples=20)
def test_whatever_is_needed_stays(five: tuple[Path, list[Path]], steps: list[tuple[str, int]]) -> None:
    empty, packages = five
    with tempfile.TemporaryDirectory() as work, Registry(shutil.copytree(empty, Path(work) / "r")) as registry:
        for verb, which in [*steps, ("gc", 0)]:
            present = [v for model in registry.models() for v in registry.list_versions(model.name)]
            if verb == "register":
                registry.register(packages[which], git_commit="")
            elif verb == "delete" and present:
                registry.delete(present[which % len(present)].name)
            elif verb == "gc":
                registry.gc(older_than=NOW)
                needed = {
                    entry.sha256 for version in present for entry in registry.manifest(version.name).files.values()
                }
                assert stored(registry) == needed | {version.digest for version in present}
        present = [v for model in registry.models() for v in registry.list_versions(model.name)]
        for version in present:
            assert registry.pull(version.name, Path(work) / "out.ship").is_file()


END = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = '{}' AND state LIKE 'idle in%'"


def test_a_slow_store_does_not_lose_the_lock(postgres, package, tmp_path: Path, monkeypatch) -> None:
    """The server ends what says nothing for a second; a removal takes two, and a push waits for it."""
    monkeypatch.setattr(database, "BUSY_S", 0.5)
    url, folder = postgres.new_database(), package()
    with Registry(url, artifacts=str(tmp_path / "blobs")) as slow:
        monkeypatch.setattr(database, "BUSY_S", 30.0)
        slow.register(folder, git_commit="")
        slow.delete("digits:1")
        remove, began, pushed = slow.blobs.remove, threading.Event(), []
        meanwhile: list[int] = []

        def late(paths: list[str]) -> None:
            if not began.is_set():
                began.set()
                time.sleep(2)
                meanwhile.append(len(pushed))
            remove(paths)

        monkeypatch.setattr(slow.blobs, "remove", late)
        collector = threading.Thread(target=lambda: slow.gc(older_than=NOW))
        collector.start()
        began.wait(10)
        with Registry(url) as other:
            pushed.append(other.register(folder, git_commit="", aliases=["champion"]))
            collector.join()
            assert meanwhile == [0], "the push waited"
            assert other.pull("digits").is_file()


def test_nothing_is_removed_without_the_lock(postgres, package, tmp_path: Path, monkeypatch) -> None:
    """The connection is ended within a removal; a push that no longer waits then needs all the others."""
    url, folder = postgres.new_database(), package()
    with Registry(url, artifacts=str(tmp_path / "blobs")) as collecting, Registry(url) as other:
        collecting.register(folder, git_commit="")
        collecting.delete("digits:1")
        remove, removed = collecting.blobs.remove, []

        def ended(paths: list[str]) -> None:
            remove(paths)
            removed.extend(paths)
            if len(removed) == 1:
                assert postgres.execute(END.format(url.rpartition("/")[2])) == [[True]]
                other.register(folder, git_commit="", aliases=["champion"])

        monkeypatch.setattr(collecting.blobs, "remove", ended)
        assert collecting.gc(older_than=NOW).blobs == (), "a new look finds that all is needed"
        assert len(removed) == 1
        assert other.pull("digits").is_file()


def leave(registry: Registry, many: int) -> list[Path]:
    """Blobs that no package has."""
    files = []
    for number in range(many):
        name = sha256(str(number).encode()).hexdigest()
        files.append(Path(registry.blobs.url) / name[:2] / name)
        files[-1].parent.mkdir(parents=True, exist_ok=True)
        files[-1].touch()
    return files


@pytest.mark.parametrize("kind", ["folder", "postgresql"])
def test_others_write_meanwhile(kind: str, request, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """SQLite has no queue: without a pause, who waits sleeps while nobody has the lock."""
    url = tmp_path / "registry" if kind == "folder" else request.getfixturevalue("postgres").new_database()
    monkeypatch.setattr(freeing, "HOLD_S", 0.1, raising=False)
    with Registry(url, artifacts=str(tmp_path / "blobs")) as registry, Registry(url) as other:
        files = leave(registry, 60)
        remove, began, ended, waits = registry.blobs.remove, threading.Event(), threading.Event(), []

        def slow(paths: list[str]) -> None:
            began.set()
            time.sleep(0.012)
            remove(paths)

        def write() -> None:
            began.wait(20)
            while not ended.is_set():
                asked = time.monotonic()
                with other.database.write():
                    waits.append(time.monotonic() - asked)
                time.sleep(0.02)

        monkeypatch.setattr(registry.blobs, "remove", slow)
        writer = threading.Thread(target=write)
        writer.start()
        try:
            freed = registry.gc(older_than=NOW)
        finally:
            began.set()
            ended.set()
            writer.join()
        assert len(freed.blobs) == len(files) and stored(registry) == set()
        assert len(waits) >= 4, f"it waited {waits} s"


def test_nobody_waits_where_nothing_is_freed(registry: Registry, package, monkeypatch: pytest.MonkeyPatch) -> None:
    registry.register(package())
    transact, alone = registry.database.transact, []
    monkeypatch.setattr(registry.database, "transact", lambda *a, **k: (alone.append(a), transact(*a, **k))[1])
    assert registry.gc(older_than=NOW).blobs == ()
    assert len(alone) == 1, "only the look for packages without a version"
    leave(registry, 3)
    assert len(registry.gc(older_than=NOW).blobs) == 3
    assert len(alone) == 3


def test_pushes_and_gc_at_the_same_time(registry: Registry, package) -> None:
    folders = [package(card=str(number)) for number in range(8)]
    ended, faults = threading.Event(), []

    def collect() -> None:
        try:
            while not ended.is_set():
                registry.gc(older_than=NOW)
        except BaseException as fault:  # noqa: BLE001 - the test shows whatever it is
            faults.append(fault)

    collector = threading.Thread(target=collect)
    collector.start()
    try:
        for folder in folders * 2:
            version = registry.register(folder, git_commit="")
            if version.number % 3 == 0:
                registry.delete(version.name)
    finally:
        ended.set()
        collector.join()
    assert faults == []
    for version in registry.list_versions("digits"):
        assert registry.pull(version.name).is_file()
