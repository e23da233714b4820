"""What all workers are told to do: one after the other, and so that they stay alike."""

from __future__ import annotations

from typing import Any

import pytest

from shipworthy.server.commands import Commands
from shipworthy.server.control import Do, Done, Fault
from shipworthy.server.plan import Served

pytestmark = pytest.mark.anyio

FAULT = Fault("PackageError", "is broken", "iris.ship")


class Worker:
    """Carries out commands with these outcomes; `dies` is one too."""

    def __init__(self, pid: int, *outcomes: object, served: tuple[str, ...] = (), changes: int = 0) -> None:
        self.pid = pid
        self.told: list[tuple[str, str]] = []
        self.left: bool | None = None
        self.changes = changes
        self.served = tuple(Served(name, "1", "fp32", "numpy") for name in served)
        self._outcomes = iter(outcomes)

    async def do(self, command: Do) -> Done | None:
        self.told.append((command.verb, command.name))
        outcome: Any = next(self._outcomes, None)
        return None if outcome == "dies" else Done(command.number, outcome, ("iris",))

    def leave(self, patience_s: float, *, last: bool = True) -> None:
        self.left = last


def commands(*workers: Any) -> Commands:
    return Commands(lambda: list(workers), 1.0)


async def test_all_do_it() -> None:
    one, two = Worker(1), Worker(2)
    told = commands(one, two)
    assert await told.carry_out("load", "iris") is None
    assert one.told == two.told == [("load", "iris")]
    assert (told.models, told.changes) == (("iris",), 1)


async def test_what_fails_in_the_first_is_tried_in_no_other() -> None:
    one, two = Worker(1, FAULT), Worker(2)
    told = commands(one, two)
    assert await told.carry_out("load", "iris") == FAULT
    assert (two.told, told.changes, told.models) == ([], 0, None)


async def test_what_ends_the_first_is_tried_in_no_other() -> None:
    one, two = Worker(1, "dies"), Worker(2)
    told = commands(one, two)
    fault = await told.carry_out("load", "iris")
    assert str(fault) == "process 1: ended during the load; look into the log for how it ended"
    assert (two.told, told.changes) == ([], 0)


@pytest.mark.parametrize("verb", ["load", "reload"])
async def test_who_cannot_do_what_the_first_did_is_replaced(verb: Any) -> None:
    one, two, three = Worker(1), Worker(2, FAULT), Worker(3, "dies")
    told = commands(one, two, three)
    assert await told.carry_out(verb, "iris") is None
    assert (one.left, two.left, three.left) == (None, False, None)
    assert told.changes == 1


async def test_a_reload_does_what_it_can_in_all() -> None:
    one, two = Worker(1, FAULT), Worker(2, FAULT)
    told = commands(one, two)
    assert await told.carry_out("reload", "") == FAULT
    assert two.told == [("reload", "")]
    assert (one.left, two.left, told.changes) == (None, None, 1)


async def test_who_started_meanwhile_catches_up() -> None:
    late = Worker(2, served=("roses", "iris"))
    told = commands(Worker(1))
    await told.carry_out("load", "iris")
    await told.catch_up(late)  # type: ignore[arg-type]
    assert late.told == [("unload", "roses"), ("load", "iris")]
    await told.catch_up(late)  # type: ignore[arg-type]
    assert len(late.told) == 2
