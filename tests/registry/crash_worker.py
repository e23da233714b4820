"""What the processes of `test_registry_crashes` do; each may be killed at any moment."""

from __future__ import annotations

import json
import os
import random
import sys
import time
import traceback
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any

from shipworthy.errors import Conflict, RegistryError
from shipworthy.registry import Registry

ALIASES = ("champion", "challenger", "blue")


@dataclass(frozen=True, slots=True)
class Task:
    """One worker's share: the same whenever it is started again."""

    url: str
    log: Path
    packages: tuple[Path, ...]
    slot: int
    operations: int

    @property
    def repeats(self) -> bool:
        """Whether a push that was interrupted is carried out again under its name; else it is given up."""
        return self.slot % 2 == 0


class Diary:
    """A file that each line is appended to in one write, so that a kill leaves whole lines."""

    def __init__(self, path: Path) -> None:
        self._file = os.open(path, os.O_APPEND | os.O_CREAT | os.O_WRONLY)

    def write(self, **line: Any) -> None:
        os.write(self._file, (json.dumps(line) + "\n").encode())


def read_diary(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


def work(task: Task) -> None:
    """Do what is left of the operations, and say before and after each what it is."""
    past = read_diary(task.log)
    begun = [line for line in past if line["event"] == "begin"]
    ended = {line["operation"] for line in past if line["event"] == "end"}
    diary = Diary(task.log)
    with Registry(task.url, who=f"worker {task.slot}") as registry:
        for line in begun[-1:]:
            if line["operation"] not in ended and line["kind"] == "register" and task.repeats:
                _register(registry, diary, task, line["operation"], line["package"], line["aliases"])
        for operation in range(len(begun), task.operations):
            chance = random.Random(f"{task.slot}/{operation}")
            kind = chance.choices(("register", "move", "delete"), (10, 10, 1))[0]
            if kind == "register":
                aliases = chance.sample(ALIASES, chance.choice((0, 0, 1)))
                chosen = chance.randrange(len(task.packages))
                diary.write(event="begin", operation=operation, kind=kind, package=chosen, aliases=aliases)
                _register(registry, diary, task, operation, chosen, aliases)
            elif kind == "move":
                _move(registry, diary, task, operation, chance)
            else:
                _delete(registry, diary, operation, chance)
    diary.write(event="finished")


def _register(registry: Registry, diary: Diary, task: Task, operation: int, chosen: int, aliases: list[str]) -> None:
    name = f"{task.slot}-{operation}"
    version = registry.register(
        task.packages[chosen], tags={"operation": name}, aliases=aliases, git_commit="", push_id=name, why=name
    )
    diary.write(event="end", operation=operation, kind="register", version=version.name, digest=version.digest)


def _move(registry: Registry, diary: Diary, task: Task, operation: int, chance: random.Random) -> None:
    models = registry.models()
    diary.write(event="begin", operation=operation, kind="move")
    if not models:
        diary.write(event="end", operation=operation, kind="nothing")
        return
    model = chance.choice(models)
    alias = chance.choice(ALIASES)
    present = model.aliases.get(alias)
    others = [version.number for version in registry.list_versions(model.name, limit=6) if version.number != present]
    if present is not None:
        others.append(None)  # type: ignore[arg-type]
    try:
        why = f"{task.slot}-{operation}"
        event = registry.move(model.name, alias, chance.choice(others), expected=present, why=why)
    except (Conflict, RegistryError, IndexError) as refusal:
        diary.write(event="end", operation=operation, kind="refused", why=str(refusal))
        return
    told = {name: getattr(event, name) for name in ("number", "model", "alias", "version", "previous", "why")}
    diary.write(event="end", operation=operation, kind="moved", told=told)


def _delete(registry: Registry, diary: Diary, operation: int, chance: random.Random) -> None:
    diary.write(event="begin", operation=operation, kind="delete")
    free = [v for model in registry.models() for v in registry.list_versions(model.name, limit=20) if not v.aliases]
    if not free:
        diary.write(event="end", operation=operation, kind="nothing")
        return
    version = chance.choice(free)
    try:
        registry.delete(version.name)
    except RegistryError as refusal:
        diary.write(event="end", operation=operation, kind="refused", why=str(refusal))
        return
    diary.write(event="end", operation=operation, kind="deleted", version=version.name)


def follow(url: str, log: Path, stop: Path) -> None:
    """Ask again and again for what is new, as a server does, and write down which events came, in which order."""
    diary, last = Diary(log), 0
    with Registry(url) as registry:
        while True:
            ending = stop.exists()
            if registry.newest_event() > last:
                numbers = [event.number for event in registry.events_after(last)]
                diary.write(numbers=numbers)
                last = numbers[-1]
            elif ending:
                return
            time.sleep(0.005)


def collect(url: str, log: Path, stop: Path) -> None:
    """Free whatever may be freed, as often as it can."""
    diary = Diary(log)
    with Registry(url) as registry:
        while not stop.exists():
            freed = registry.gc(older_than=timedelta(0))
            if freed.blobs or freed.packages:
                diary.write(packages=len(freed.packages), blobs=len(freed.blobs))
            time.sleep(0.02)


def quietly(target: Any, *arguments: Any) -> None:
    """Run in a process of its own; what it raises goes to a file, because its standard error is pytest's."""
    try:
        target(*arguments)
    except BaseException:  # noqa: BLE001 - the test shows whatever it is
        with Path(os.environ["CRASH_FAULTS"]).open("a") as file:
            traceback.print_exc(file=file)
        sys.exit(1)
