"""What a server saw of its rollouts is taken from where it was seen, whatever goes wrong with one of them."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from live_cases import KEY, lane
from live_cases import rollout as a_rollout

from shipworthy.registry import Registry
from shipworthy.rollout import following as room
from shipworthy.rollout.following import Follower
from shipworthy.rollout.live import Router
from shipworthy.rollout.observed import Observed


class Told:
    """Rollouts that are told everything."""

    def __init__(self) -> None:
        self.told: list[tuple[int, int]] = []
        """Rollout, and number of requests."""
        self.forgotten: list[int] = []

    def merge(self, number: int, observed: Observed) -> None:
        if len(observed.assigned):
            self.told.append((number, len(observed.assigned)))

    def forget(self, number: int) -> None:
        self.forgotten.append(number)


@pytest.fixture
def router() -> Router:
    """With the rollouts 1 and 2, of a model each."""
    made = Router(KEY)
    for number in (1, 2):
        made.running[f"digits-{number}"] = a_rollout(number=number)
        made.experiment(f"digits-{number}", {"2": lane(version=2), "1": lane()})
    return made


def follow(router: Router, folder: Path, told: Told, until: Callable[[], bool]) -> None:
    """Until it holds, and then to the end."""

    async def seconds() -> None:
        follower = Follower(Registry(folder), told, router)  # type: ignore[arg-type]
        follower.begin(SimpleNamespace(models={}, ready=True))  # type: ignore[arg-type]
        async with asyncio.timeout(10):
            while not until():
                await asyncio.sleep(0.01)
        await follower.end()

    asyncio.run(seconds())


def failing(work: Callable[[], Any], times: int) -> Callable[[], Any]:
    left = [None] * times

    def tried() -> Any:
        if left:
            left.pop()
            raise RuntimeError("what nobody foresaw")
        return work()

    return tried


def test_one_that_cannot_be_taken_takes_no_other_along(
    router: Router, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """It gathers where it was seen, and is told when it can be."""
    monkeypatch.setattr(room, "TELL_S", 0.02)
    told, (first, second) = Told(), [trial for _, trial in router.trials.values()]
    monkeypatch.setattr(first, "take", failing(first.take, 3))
    for _ in range(5):
        first.assign({})
    second.assign({})
    follow(router, tmp_path / "registry", told, lambda: len(told.told) == 2)
    assert (told.told, told.forgotten) == ([(2, 1), (1, 5)], [])
    assert caplog.text.count("rollout 1: what was seen was not taken") == 3


def test_taking_goes_on_after_anything_else(
    router: Router, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(room, "TELL_S", 0.02)
    caplog.set_level(logging.ERROR, "shipworthy.rollout")
    collect, failed = Follower._collect, [None] * 3

    def tried(follower: Follower) -> None:
        if failed:
            failed.pop()
            raise RuntimeError("what nobody foresaw")
        collect(follower)

    monkeypatch.setattr(Follower, "_collect", tried)
    told = Told()
    router.trials["digits-1"][1].assign({})
    follow(router, tmp_path / "registry", told, lambda: len(told.told) == 1)
    assert told.told == [(1, 1)] and caplog.text.count("following the registry failed, and goes on") == 3
