"""Eight processes register packages and move aliases in one registry, and are killed at any moment."""

from __future__ import annotations

import hashlib
import multiprocessing
import os
import random
import time
from collections import Counter
from itertools import pairwise
from multiprocessing.process import BaseProcess
from pathlib import Path

import crash_worker
import pytest
import small_packages
from crash_worker import Task, read_diary
from sqlalchemy import select
from test_registry_history import replayed

from shipworthy.registry import Event, Registry, Version, tables

WORKERS = 8
OPERATIONS = 500
LIMIT_S = 900


class Crew:
    """The workers, one who follows the log and one who frees blobs; all started again when they are killed."""

    def __init__(self, url: str, work: Path, packages: tuple[Path, ...], operations: int) -> None:
        self._context = multiprocessing.get_context("fork")
        self.faults, self.stop = work / "faults", work / "stop"
        os.environ["CRASH_FAULTS"] = str(self.faults)
        tasks = [Task(url, work / f"worker-{slot}", packages, slot, operations) for slot in range(WORKERS)]
        self.tasks = tasks
        self.follower = self._start(crash_worker.follow, url, work / "follower", self.stop)
        self.collecting = (crash_worker.collect, url, work / "collector", self.stop)
        self.collector = self._start(*self.collecting)
        self.workers = [self._start(crash_worker.work, task) for task in tasks]
        self.kills = 0

    def run(self, chance: random.Random, pause_s: float) -> None:
        """Kill one of those that run every few moments, `pause_s` at most, until all have done their share."""
        until = time.monotonic() + LIMIT_S
        while any(worker.exitcode != 0 for worker in self.workers):
            assert time.monotonic() < until, "the workers do not get ahead"
            assert not self.faults.exists(), self.faults.read_text()
            time.sleep(chance.uniform(0.05, pause_s))
            running = [slot for slot, worker in enumerate(self.workers) if worker.exitcode is None]
            if running and chance.random() < 0.9:
                self._replace(chance.choice(running))
            elif running:
                self.collector.kill()
                self.collector.join()
                self.collector = self._start(*self.collecting)
        self.stop.touch()
        for process in (self.follower, self.collector):
            process.join(60)
            assert process.exitcode == 0

    def end(self) -> None:
        for process in (*self.workers, self.follower, self.collector):
            process.kill()
            process.join()

    def _replace(self, slot: int) -> None:
        worker = self.workers[slot]
        worker.kill()
        worker.join()
        self.kills += worker.exitcode != 0
        if worker.exitcode != 0:
            self.workers[slot] = self._start(crash_worker.work, self.tasks[slot])

    def _start(self, target: object, *arguments: object) -> BaseProcess:
        process = self._context.Process(target=crash_worker.quietly, args=(target, *arguments), daemon=True)
        process.start()
        return process


@pytest.fixture(scope="module")
def packages(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, ...]:
    """Sixty packages of three models; most pushes need a blob or two that `gc` may just be taking."""
    work = tmp_path_factory.mktemp("packages")
    names = [(name, card) for name in ("digits", "iris", "wine") for card in range(20)]
    return tuple(small_packages.make(work / f"{name}-{card}", name=name, card=str(card)) for name, card in names)


@pytest.fixture(params=["sqlite", pytest.param("postgresql", marks=pytest.mark.full)])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """The url of a new registry."""
    url = (
        str(tmp_path / "registry") if request.param == "sqlite" else request.getfixturevalue("postgres").new_database()
    )
    Registry(url, artifacts=str(tmp_path / "blobs")).close()
    return url


@pytest.mark.long
@pytest.mark.timeout(LIMIT_S + 120)
def test_nothing_is_lost_doubled_or_half(place: str, packages: tuple[Path, ...], tmp_path: Path, effort: float) -> None:
    operations = int(OPERATIONS * effort)
    crew = Crew(place, tmp_path, packages, operations)
    try:
        # Who has little to do is done soon, and is to be killed meanwhile all the same.
        crew.run(random.Random(7), pause_s=0.5 if effort == 1.0 else 0.15)
    finally:
        crew.end()
    assert crew.kills >= 5
    diaries = [read_diary(task.log) for task in crew.tasks]
    assert all(sum(line["event"] == "begin" for line in diary) == operations for diary in diaries)
    with Registry(place) as registry:
        events = registry.events_after(0)
        versions = [v for model in registry.models() for v in registry.list_versions(model.name, deleted=True)]
        _check_versions(registry, versions, diaries, crew.tasks)
        _check_log(registry, events, versions, diaries)
        _check_blobs(registry, versions)
    followed = [number for line in read_diary(tmp_path / "follower") for number in line["numbers"]]
    assert followed == [event.number for event in events], "each event came once, and none came too late"
    told = Counter(line["kind"] for diary in diaries for line in diary if line["event"] == "end")
    assert told["register"] > operations and told["moved"] > operations, "enough of both was done"


def _check_versions(registry: Registry, versions: list[Version], diaries: list[list[dict]], tasks: list[Task]) -> None:
    """Every registration that returned is there once, one repeated under its name too, and no number is missing."""
    by_operation = Counter(version.tags["operation"] for version in versions)
    assert set(by_operation.values()) == {1}
    named = {version.tags["operation"]: version for version in versions}
    returned = set()
    for task, diary in zip(tasks, diaries, strict=True):
        begun = {
            f"{task.slot}-{line['operation']}" for line in diary if line.get("kind") == "register" and "package" in line
        }
        for line in diary:
            if line["event"] == "end" and line["kind"] == "register":
                name = f"{task.slot}-{line['operation']}"
                assert (named[name].name, named[name].digest) == (line["version"], line["digest"])
                returned.add(name)
        if task.repeats:
            assert begun <= set(named), "a push that was repeated under its name is there"
    assert len(returned) > 0
    for model in registry.models():
        numbers = [version.number for version in versions if version.model == model.name]
        assert sorted(numbers) == list(range(1, len(numbers) + 1))
        with registry.database.read() as connection:
            query = select(tables.models.c.next_number).where(tables.models.c.name == model.name)
            assert connection.execute(query).scalar() == len(numbers) + 1
    deleted = {line["version"] for diary in diaries for line in diary if line.get("kind") == "deleted"}
    assert deleted <= {version.name for version in versions if version.deleted is not None}


def _check_log(registry: Registry, events: list[Event], versions: list[Version], diaries: list[list[dict]]) -> None:
    """Every move that returned is in the log as it was told, in order, and the log alone gives the aliases."""
    assert [event.number for event in events] == list(range(1, len(events) + 1))
    assert all(one.at <= other.at for one, other in pairwise(events))
    registered = Counter((event.model, event.version) for event in events if event.kind == "registered")
    assert registered == Counter((version.model, version.number) for version in versions)
    for diary in diaries:
        told = [line["told"] for line in diary if line.get("kind") == "moved"]
        assert [line["number"] for line in told] == sorted({line["number"] for line in told})
        for line in told:
            event = events[line["number"] - 1]
            assert event.kind == "alias-moved"
            assert {name: getattr(event, name) for name in line} == line
    names = {model.name: dict(model.aliases) for model in registry.models()}
    assert replayed(events) == names


def _check_blobs(registry: Registry, versions: list[Version]) -> None:
    """Every version that is not deleted has all its files; there are no rows of a package that nobody needs."""
    for digest in {version.digest: version for version in versions if version.deleted is None}.values():
        assert registry.pull(digest.name).is_file()
    with registry.database.read() as connection:
        rows = connection.execute(select(tables.package_blobs)).all()
        with_rows = set(connection.execute(select(tables.packages.c.digest)).scalars())
    for row in {row.sha256: row for row in rows}.values():
        blob = Path(registry.blobs.path(row.sha256))
        assert hashlib.sha256(blob.read_bytes()).hexdigest() == row.sha256
    assert with_rows == {row.digest for row in rows}
    assert {version.digest for version in versions if version.deleted is None} <= with_rows
