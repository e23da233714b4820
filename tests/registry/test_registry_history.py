"""The event log alone says what was live when, since when, why and by whom."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterable
from datetime import UTC, datetime, timedelta, timezone
from itertools import pairwise
from pathlib import Path

import pytest
import small_packages
from hypothesis import given, settings
from hypothesis import strategies as st
from sqlalchemy.event import listen, remove

from shipworthy.errors import Conflict, RegistryError
from shipworthy.registry import Event, Registry, moving
from shipworthy.registry.versions import aliases_of


def replayed(events: Iterable[Event]) -> dict[str, dict[str, int]]:
    """The aliases of every model, from the moves alone."""
    named: dict[str, dict[str, int]] = {}
    for event in events:
        of_model = named.setdefault(event.model, {})
        if event.kind != "alias-moved":
            continue
        assert event.alias is not None
        assert of_model.get(event.alias) == event.previous
        if event.version is None:
            del of_model[event.alias]
        else:
            of_model[event.alias] = event.version
    return named


def test_what_was_live(registry: Registry, package) -> None:
    folder = package()
    for _ in range(2):
        registry.register(folder)
    assert registry.live("digits") is None
    before = datetime.now(UTC)
    first = registry.promote("digits:1", why="first")
    second = registry.promote("digits:2", why="better")
    gone = registry.move("digits", "champion", None, expected=2, why="worse")
    third = registry.rollback("digits", why="back")
    assert registry.live("digits", before) is None
    live = registry.live("digits", first.at)
    assert live is not None
    assert (live.name, live.since, live.why, live.who, live.event) == ("digits:1", first.at, "first", "tester", 3)
    between = registry.live("digits", second.at + (gone.at - second.at) / 2)
    assert between is not None and between.version == 2
    assert registry.live("digits", gone.at) is None
    now = registry.live("digits")
    assert now is not None and (now.version, now.since) == (2, third.at)
    assert registry.live("digits", alias="challenger") is None
    elsewhere = first.at.astimezone(timezone(timedelta(hours=9)))
    assert registry.live("digits", elsewhere) == live


def test_going_back_is_undoing(registry: Registry, package) -> None:
    folder = package()
    for _ in range(5):
        registry.register(folder)
    for number in (1, 2, 3):
        registry.promote(f"digits:{number}")
    back = registry.rollback("digits", why="worse than before")
    assert (back.version, back.previous, back.why, back.details) == (2, 3, "worse than before", {"rollback": 7})
    assert registry.rollback("digits").version == 1
    with pytest.raises(RegistryError, match=r"named no other version before; choose one: shipworthy promote digits:5"):
        registry.rollback("digits")
    registry.promote("digits:4")
    registry.delete("digits:3")
    assert registry.rollback("digits").version == 1
    registry.promote("digits:4")
    registry.promote("digits:2")
    registry.promote("digits:5")
    registry.delete("digits:2")
    assert registry.rollback("digits").version == 4, "a deleted version is passed over"


def test_going_back_reads_only_what_it_needs(registry: Registry, package) -> None:
    """Forwards and back a thousand times, then thousands of moves and deleted versions: a few reads in any case."""
    folder = package()
    for _ in range(5):
        registry.register(folder, git_commit="", aliases=["champion"])
    with registry.database.write() as connection:
        for _ in range(600):
            named = aliases_of(connection, "digits")["champion"]
            moving.move(connection, "digits", "champion", 3 if named == 5 else 5, previous=named, who="x")
    for _ in range(3):
        registry.promote("digits:1")
        assert registry.rollback("digits").version == 5
    statements: list[str] = []
    listener = lambda *given: statements.append(given[2])  # noqa: E731
    listen(registry.database._engine, "before_cursor_execute", listener)
    assert registry.rollback("digits").version == 3
    remove(registry.database._engine, "before_cursor_execute", listener)
    assert len([one for one in statements if one.startswith("SELECT")]) < 20
    assert all("LIMIT" in one or "number = " in one for one in statements if "alias = " in one and "SELECT" in one)
    registry.delete("digits:4")
    for number in (2, 1, 2, 1):
        registry.promote(f"digits:{number}")
    assert [registry.rollback("digits").version for _ in range(4)] == [2, 1, 2, 3]


def test_going_back_only_from_what_one_has_seen(registry: Registry, package) -> None:
    folder = package()
    for _ in range(3):
        registry.register(folder, aliases=["champion"])
    assert registry.rollback("digits", expected=3).version == 2
    with pytest.raises(Conflict, match=r"digits@champion: names version 2, not version 3"):
        registry.rollback("digits", expected=3)
    with pytest.raises(Conflict, match="names version 2, not nothing"):
        registry.rollback("digits", expected=None)
    assert registry.aliases("digits") == {"champion": 2}
    assert registry.rollback("digits").version == 1


def test_history_of_one_alias_and_of_one_version(registry: Registry, package) -> None:
    folder = package()
    for _ in range(3):
        registry.register(folder, aliases=["champion", "blue"])
    registry.register(package("iris"), aliases=["blue"])
    assert [event.version for event in registry.history("digits", alias="blue")] == [3, 2, 1]
    assert [event.version for event in registry.history("digits", alias="blue", limit=2)] == [3, 2]
    assert [event.model for event in registry.history(alias="blue", limit=2)] == ["iris", "digits"]
    assert registry.history("digits", alias="green") == []
    of_two = registry.events_of(registry.version("digits:2"))
    every = [event for event in registry.history("digits") if 2 in (event.version, event.previous)]
    assert of_two == every and len(every) == 5
    assert registry.events_of(registry.version("digits:2"), limit=2) == every[:2]


def test_going_back_to_before_it_was_taken_away(registry: Registry, package) -> None:
    registry.register(package())
    registry.promote("digits:1", alias="blue")
    registry.move("digits", "blue", None, expected=1)
    assert registry.rollback("digits", alias="blue").version == 1
    with pytest.raises(RegistryError, match="named no other version before"):
        registry.rollback("digits", alias="green")


def test_details_of_others_do_not_confuse_it(registry: Registry, package) -> None:
    folder = package()
    for number in (1, 2, 3):
        registry.register(folder)
        expected = number - 1 or None
        registry.move("digits", "champion", number, expected=expected, details={"rollback": True})
    assert registry.rollback("digits").version == 2


steps = st.lists(
    st.one_of(
        st.tuples(st.just("move"), st.sampled_from(["champion", "challenger"]), st.integers(1, 4) | st.none()),
        st.tuples(st.just("rollback"), st.sampled_from(["champion", "challenger"]), st.none()),
        st.tuples(st.just("delete"), st.just(""), st.integers(1, 4)),
    ),
    max_size=25,
)


@pytest.fixture(scope="module")
def four_versions(tmp_path_factory: pytest.TempPathFactory) -> Path:
    work = tmp_path_factory.mktemp("four")
    folder = small_packages.make(work / "package", name="digits", card="a card")
    with Registry(work / "registry", who="tester") as registry:
        for _ in range(4):
            registry.register(folder, git_commit="")
    return work / "registry"


@given(steps)
@settings(max_examples=25)
def test_replaying_the_log_gives_the_aliases(four_versions: Path, steps: list[tuple[str, str, int | None]]) -> None:
    """Whatever is tried, and whatever of it is refused; and going back undoes what a stack of moves would."""
    with tempfile.TemporaryDirectory() as work, Registry(shutil.copytree(four_versions, Path(work) / "r")) as registry:
        trails: dict[str, list[int | None]] = {"champion": [], "challenger": []}
        deleted: set[int] = set()
        for verb, alias, number in steps:
            _step(registry, trails, deleted, verb, alias, number)
            now = {name: trail[-1] for name, trail in trails.items() if trail and trail[-1] is not None}
            assert registry.aliases("digits") == now
            assert replayed(registry.events_after(0)) == {"digits": now}
        events = registry.events_after(0)
        assert [event.number for event in events] == list(range(1, len(events) + 1))
        assert registry.history() == events[::-1]
        assert all(one.at <= other.at for one, other in pairwise(events))
        for alias, trail in trails.items():
            live = registry.live("digits", alias=alias)
            assert (live.version if live else None) == (trail[-1] if trail else None)


def _step(
    registry: Registry,
    trails: dict[str, list[int | None]],
    deleted: set[int],
    verb: str,
    alias: str,
    number: int | None,
) -> None:
    """Do it, and to the model of it what it did."""
    present = registry.aliases("digits").get(alias)
    number_before = registry.newest_event()
    try:
        if verb == "move":
            registry.move("digits", alias, number, expected=present)
        elif verb == "rollback":
            number = registry.rollback("digits", alias=alias).version
        else:
            registry.delete(f"digits:{number}")
    except RegistryError:
        assert registry.newest_event() == number_before, "what is refused leaves nothing"
        return
    if verb == "delete":
        assert number is not None
        deleted.add(number)
    elif verb == "rollback":
        trail = trails[alias]
        expected = next(kept for kept in trail[-2::-1] if kept not in (None, present) and kept not in deleted)
        assert number == expected
        while trail[-1] != number:
            trail.pop()
    elif number != present:
        trails[alias].append(number)
