"""What a server tells of its rollouts: kept where it cannot be told, in its order, once; and how often it tries."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from live_cases import KEY, lane
from live_cases import rollout as a_rollout

from shipworthy.errors import EngineError, PackageError, RegistryError
from shipworthy.registry import Registry
from shipworthy.rollout.following import UNTOLD, Followed, Follower
from shipworthy.rollout.live import Router
from shipworthy.rollout.observed import Observed


@pytest.fixture
def registry(tmp_path: Path) -> Iterator[Registry]:
    with Registry(tmp_path / "registry", who="operator") as opened:
        yield opened


class Told:
    """What a registry is told, where it can be."""

    def __init__(self) -> None:
        self.away: set[int] = set()
        self.told: list[tuple[int, Observed]] = []

    def merge(self, number: int, observed: Observed) -> None:
        if number in self.away:
            raise RegistryError("the registry", "cannot be reached", "start it")
        self.told.append((number, observed))


def a_follower(registry: Registry, *rollouts: int) -> tuple[Follower, Told, list[Any]]:
    """One of a model for each of these rollouts, with their trials."""
    router, told = Router(KEY), Told()
    for number in rollouts:
        router.running[f"digits-{number}"] = a_rollout(number=number)
        router.experiment(f"digits-{number}", {"2": lane(version=2), "1": lane()})
    trials: list[Any] = [trial for _, trial in router.trials.values()]
    return Follower(registry, told, router), told, trials  # type: ignore[arg-type]


def test_of_what_cannot_be_told_a_minute_is_kept(registry: Registry) -> None:
    async def seconds() -> None:
        for turn in range(200):
            for _ in range(turn):
                trial.assign({})
            follower._collect()
            if turn % 20 == 0:
                with pytest.raises(RegistryError):
                    await follower._tell()
        told.away.clear()
        await follower._tell()
        assert not follower._untold[1]

    follower, told, [trial] = a_follower(registry, 1)
    told.away = {1}
    asyncio.run(seconds())
    assert [len(one.assigned) for _, one in told.told] == [*range(200 - UNTOLD, 200)]
    assert len({one.worker for _, one in told.told}) == 1
    assert [one.number for _, one in told.told] == [*range(201 - UNTOLD, 201)], "in their order, so that each counts"


def test_what_gives_way_while_it_is_told_takes_nothing_along(registry: Registry) -> None:
    follower, told, [trial] = a_follower(registry, 1)
    went = threading.Event()
    merge = told.merge

    def slowly(number: int, observed: Observed) -> None:
        assert went.wait(10)
        merge(number, observed)

    async def full() -> None:
        follower._rollouts = SimpleNamespace(merge=slowly)  # type: ignore[assignment]
        trial.assign({})
        follower._collect()
        telling = asyncio.create_task(follower._tell())
        await asyncio.sleep(0.02)
        for _ in range(UNTOLD):
            trial.assign({})
            follower._collect()
        went.set()
        await telling

    asyncio.run(full())
    assert [(one.number, len(one.assigned)) for _, one in told.told] == [(place, 1) for place in range(1, UNTOLD + 2)]


def test_models_are_told_of_whatever_becomes_of_others(registry: Registry) -> None:
    """And what was taken of all of them is kept, where one cannot be told."""

    async def turns() -> None:
        follower._collect()
        with pytest.raises(RegistryError):
            await follower._tell()
        assert [(number, len(one.assigned)) for number, one in told.told] == [(7, 1)]
        assert {number: len(waiting) for number, waiting in follower._untold.items()} == {6: 1, 7: 0}
        follower._router.running.clear()
        follower._router.trials.clear()
        follower._collect()
        assert follower._untold == {}, "nothing is kept of what has ended"

    follower, told, trials = a_follower(registry, 6, 7)
    told.away = {6}
    for trial in trials:
        trial.assign({})
    asyncio.run(turns())


def test_what_can_never_be_told_does_not_stand_before_the_rest(
    registry: Registry, caplog: pytest.LogCaptureFixture
) -> None:
    follower, told, [trial] = a_follower(registry, 1)
    merge = told.merge

    def choosy(number: int, observed: Observed) -> None:
        if len(observed.assigned) == 2:
            raise AssertionError("of two there is no telling")
        merge(number, observed)

    async def seconds() -> None:
        follower._rollouts = SimpleNamespace(merge=choosy)  # type: ignore[assignment]
        for turn in range(4):
            for _ in range(turn):
                trial.assign({})
            follower._collect()
        await follower._tell()

    asyncio.run(seconds())
    assert [len(one.assigned) for _, one in told.told] == [0, 1, 3]
    assert not follower._untold[1] and "rollout 1: what was seen in a second is lost" in caplog.text


def test_attempts_to_load_become_rarer(registry: Registry, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each may read gigabytes, and keep the engine busy."""

    class Broken:
        models = {"digits": SimpleNamespace(current=SimpleNamespace(version="1"))}  # noqa: RUF012
        ready = True

        async def load(self, name: str) -> Any:
            raise PackageError(name, "is broken")

    async def pauses() -> list[float]:
        catalog: Any = Broken()
        found = []
        for _ in range(8):
            before = time.monotonic()
            await follower._load(catalog, "digits")
            found.append(round(follower._again["digits"] - before))
        follower._look = lambda: ["digits"]  # type: ignore[method-assign]
        await follower._turn(catalog)
        found.append(round(follower._again["digits"] - time.monotonic()))
        return found

    follower, _, _ = a_follower(registry)
    assert asyncio.run(pauses()) == [15, 30, 60, 120, 240, 480, 600, 600, 15], "what is new is tried at once"


def test_a_refusal_that_could_not_be_told_is_told_later(registry: Registry) -> None:
    notes: list[str] = []
    away = True

    def note(model: str, kind: str, **_: Any) -> None:
        if away:
            raise RegistryError("the registry", "cannot be reached", "start it")
        notes.append(kind)

    fake: Any = SimpleNamespace(note=note)
    followed = Followed(fake, SimpleNamespace(), Router(KEY), ["iris"])  # type: ignore[arg-type]
    error = EngineError("onnxruntime", "cannot open it")
    followed.refused("iris", "2", error)
    away = False
    for _ in range(3):
        followed.refused("iris", "2", error)
    assert notes == ["load-failed"]
    followed.refused("iris", "2", EngineError("onnxruntime", "is off by 0.25 today"))
    assert notes == ["load-failed"]
    followed.refused("iris", "2", PackageError("iris.ship", "is another failure"))
    followed.refused("iris", "3", error)
    assert notes == ["load-failed"] * 3
