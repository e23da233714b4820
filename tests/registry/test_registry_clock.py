"""Clocks that are wrong: the log stays in order, what has to be possible is, and what they wrote is brought back."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from pathlib import Path

import pytest
from sqlalchemy import select, update

from shipworthy.errors import RegistryError
from shipworthy.registry import Registry, log
from shipworthy.registry.rollout_tables import rollouts
from shipworthy.registry.tables import events, versions
from shipworthy.rollout import Observed, Rollouts, Spec
from shipworthy.rollout.acting import end

HOUR = timedelta(hours=1)


@pytest.fixture
def shared(postgres, tmp_path: Path) -> Iterator[Registry]:
    with Registry(postgres.new_database(), artifacts=str(tmp_path / "blobs")) as registry:
        yield registry


@pytest.fixture(params=["registry", "shared"])
def either(request: pytest.FixtureRequest) -> Registry:
    """One on SQLite and one on PostgreSQL."""
    found: Registry = request.getfixturevalue(request.param)
    return found


def put_into_the_future(registry: Registry, since: int) -> None:
    """As if the clock had been an hour ahead while events from that number on were written, with their versions."""
    with registry.database.write() as connection:
        for column, found in (
            (events.c.at, events.c.number >= since),
            (versions.c.created, versions.c.number > 2),
            (rollouts.c.started, rollouts.c.id > 0),
            (rollouts.c.stage_began, rollouts.c.id > 0),
        ):
            for key, at in connection.execute(select(list(column.table.primary_key)[-1], column).where(found)).all():
                this = list(column.table.primary_key)[-1] == key
                connection.execute(update(column.table).where(this).values({column.name: at + HOUR}))


def in_order(registry: Registry) -> bool:
    return all(one.at <= other.at for one, other in pairwise(registry.events_after(0)))


def test_a_clock_that_is_set_back(registry: Registry, package, monkeypatch: pytest.MonkeyPatch) -> None:
    registry.register(package())
    ahead = registry.promote("digits:1")
    registry.register(package())

    class Earlier(datetime):
        @classmethod
        def now(cls, tz=None):
            return datetime.now(tz) - timedelta(minutes=4)

    monkeypatch.setattr(log, "datetime", Earlier)
    moved = registry.promote("digits:2")
    assert moved.at >= ahead.at, "the log never goes back"
    assert moved.details == {}, "clocks may differ by that much"
    live = registry.live("digits", ahead.at)
    assert live is not None and live.version in (1, 2)


def test_what_adds_is_refused(either: Registry, package) -> None:
    """With the time of an event that is years ahead, everything would get it that comes in these years."""
    folder = package()
    for _ in range(3):
        either.register(folder, aliases=["champion"])
    put_into_the_future(either, since=6)
    before = either.newest_event()
    for change in (
        lambda: either.register(folder),
        lambda: either.promote("digits:1"),
        lambda: either.move("digits", "blue", 2, expected=None),
        lambda: Rollouts(either).start("digits", "digits:2", Spec("canary")),
    ):
        with pytest.raises(
            RegistryError,
            match=r"the clock of (this host|the database server): says .* UTC, and event 6 .alias-moved of digits, by "
            r"tester. is from .*: one of both is wrong; set the clock right .a rollback is possible meanwhile.",
        ):
            change()
    assert either.newest_event() == before and either.aliases("digits") == {"champion": 3}
    assert Rollouts(either).active("digits") is None, "what is refused leaves nothing"


def test_what_takes_back_and_notes_is_not(either: Registry, package) -> None:
    folder = package()
    for _ in range(3):
        either.register(folder, aliases=["champion"])
    put_into_the_future(either, since=6)
    ahead = either.history(limit=1)[0].at
    back = either.rollback("digits", why="an emergency")
    assert (back.version, back.at) == (2, ahead)
    assert abs(datetime.fromisoformat(back.details[log.CLOCK]) - datetime.now(UTC)) < timedelta(minutes=1)
    assert back.details.keys() == {"rollback", log.CLOCK}
    noted = either.note("digits", "load-failed", version=3, details={"worker": 1})
    assert noted.at == ahead and noted.details.keys() == {"worker", log.CLOCK}
    assert either.delete("digits:3").at == ahead
    assert either.rollback("digits").version == 1
    assert either.move("digits", "champion", None, expected=1).at == ahead
    assert in_order(either)


@pytest.mark.parametrize("how", ["stop", "fail", "deaths", "moved"])
def test_a_rollout_ends_whatever_the_clock_says(registry: Registry, package, how: str) -> None:
    folder = package()
    for _ in range(2):
        registry.register(folder)
    registry.promote("digits:1")
    tried = Rollouts(registry)
    rollout = tried.start("digits", "digits:2", Spec("canary"))
    if how == "moved":
        registry.promote("digits:2")
    put_into_the_future(registry, since=4)
    if how == "stop":
        tried.stop("digits")
    elif how == "fail":
        tried.fail(rollout.id, "it cannot be loaded")
        assert registry.aliases("digits") == {"champion": 1}
    elif how == "deaths":
        while tried.note_death(rollout.id, "killed").running:
            pass
    else:
        tried.merge(rollout.id, Observed())
    assert not tried.get(rollout.id).running
    ended = registry.history(limit=1)[0]
    assert ended.kind == "rollout-ended" and log.CLOCK in ended.details and in_order(registry)


def test_a_rollout_moves_the_champion_whatever_the_clock_says(registry: Registry, package) -> None:
    folder = package()
    for _ in range(2):
        registry.register(folder)
    registry.promote("digits:1")
    rollout = Rollouts(registry).start("digits", "digits:2", Spec("canary"))
    put_into_the_future(registry, since=4)
    with registry.database.write() as connection:
        end(connection, replace(rollout, state="promote"), who="tester")
    assert registry.aliases("digits") == {"champion": 2}


def test_what_a_wrong_clock_wrote_is_brought_back(either: Registry, package) -> None:
    folder = package()
    for _ in range(2):
        either.register(folder)
    right = either.promote("digits:1")
    wrong = [either.register(folder, aliases=["champion"]).created]
    tried = Rollouts(either)
    tried.start("digits", "digits:2", Spec("canary"))
    count = either.newest_event() - right.number
    put_into_the_future(either, since=right.number + 1)
    wrong.append(either.rollback("digits").at)
    at = right.at + timedelta(milliseconds=1)
    for _ in range(2):  # where the answer to the first is lost, it is done again
        assert either.mend_times(after=right.number, at=at) == count + 1
    now = datetime.now(UTC)
    mended = either.events_after(right.number)
    assert [event.at for event in mended[:-1]] == [at] * count
    assert at < mended[-1].at <= now and in_order(either), "its writer's clock was right"
    assert datetime.fromisoformat(mended[0].details[log.WAS_AT]) == wrong[0] + HOUR
    assert either.version("digits:3").created == at
    rollout = tried.active("digits")
    assert rollout is not None and rollout.started == rollout.stage_began == at
    live = either.live("digits", now)
    assert live is not None and live.version == 1
    assert either.promote("digits:2").details == {}, "and what adds is possible again"


def test_what_cannot_be_brought_back(registry: Registry, package) -> None:
    registry.register(package())
    event = registry.promote("digits:1")
    now = datetime.now(UTC)
    with pytest.raises(RegistryError, match="is before event 2, or in the future; give a time up to"):
        registry.mend_times(after=2, at=event.at - timedelta(seconds=1))
    with pytest.raises(RegistryError, match="is before event 2, or in the future; give a time up to"):
        registry.mend_times(after=2, at=now + HOUR)
    with pytest.raises(RegistryError, match="event 7: is not known"):
        registry.mend_times(after=7, at=now)
    with pytest.raises(RegistryError, match="has no time zone"):
        registry.mend_times(after=2, at=now.replace(tzinfo=None))
    with registry.database.write() as connection:
        junk = {"at": now + HOUR, "details": {log.CLOCK: "noon"}}
        connection.execute(events.update().where(events.c.number == 1).values(junk))
    assert registry.mend_times(after=0, at=now) == 2
    assert [one.at for one in registry.history()] == [now, now]
