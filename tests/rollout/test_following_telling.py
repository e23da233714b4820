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

from rollout_world import MODEL
from rollout_world import make_registry as make_world
from shipworthy.errors import EngineError, PackageError, RegistryError
from shipworthy.registry import Registry
from shipworthy.rollout import Rollouts, Spec
from shipworthy.rollout.deaths import Trying
from shipworthy.rollout.followed import SAID, Followed, storable
from shipworthy.rollout.following import UNTOLD, Follower
from shipworthy.rollout.instance import this_instance
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
        self.forgotten: list[int] = []

    def merge(self, number: int, observed: Observed) -> None:
        if number in self.away:
            raise RegistryError("the registry", "cannot be reached", "start it")
        self.told.append((number, observed))

    def forget(self, number: int) -> None:
        self.forgotten.append(number)


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
        await follower._tell()
        assert sorted(told.forgotten) == [6, 7]

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
    assert not follower._untold[1] and "rollout 1: what was seen is lost" in caplog.text


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
        await follower._loads["digits"]
        assert follower._loads == {}
        found.append(round(follower._again["digits"] - time.monotonic()))
        return found

    follower, _, _ = a_follower(registry)
    assert asyncio.run(pauses()) == [15, 30, 60, 120, 240, 480, 600, 600, 15], "what is new is tried at once"


def test_a_registry_is_followed_while_a_telling_waits(registry: Registry) -> None:
    """A telling waits for whoever writes, half a minute at most."""
    follower, _, [trial] = a_follower(registry, 1)
    waits, went = threading.Event(), threading.Event()

    def held(number: int, observed: Observed) -> None:
        waits.set()
        assert went.wait(20)

    async def both() -> None:
        follower._rollouts = SimpleNamespace(merge=held)  # type: ignore[assignment]
        trial.assign({})
        follower._collect()
        telling = asyncio.create_task(follower._tell())
        assert await asyncio.to_thread(waits.wait, 5)
        await asyncio.wait_for(follower._turn(SimpleNamespace(models={}, ready=True)), 5)  # type: ignore[arg-type]
        assert not telling.done()
        went.set()
        await telling

    asyncio.run(both())


class Slow:
    """A catalog whose models are loaded when a test says so."""

    def __init__(self, *names: str) -> None:
        self.ready = True
        self.models = {name: SimpleNamespace(current=SimpleNamespace(version="1")) for name in names}
        self.may = {name: asyncio.Event() for name in names}
        self.loaded: list[str] = []
        self.begun: list[str] = []

    async def load(self, name: str) -> Any:
        self.begun.append(name)
        await self.may[name].wait()
        self.loaded.append(name)
        return self.models[name].current


def test_a_slow_load_keeps_no_other_model_waiting(registry: Registry) -> None:
    follower, _, _ = a_follower(registry)
    happened: list[list[str]] = [["large"], ["small"], ["large"], [], [], []]

    async def turns() -> None:
        catalog: Any = Slow("large", "small")
        follower._look = lambda: happened.pop(0)  # type: ignore[method-assign]
        await follower._turn(catalog)
        catalog.may["small"].set()
        await asyncio.wait_for(follower._turn(catalog), 5)
        await asyncio.wait_for(follower._loads["small"], 5)
        assert catalog.loaded == ["small"] and "large" in follower._loads
        # Something happens to it while it is loaded: what was read of it before may be what it is no more.
        await follower._turn(catalog)
        catalog.may["large"].set()
        await asyncio.wait_for(follower._loads["large"], 5)
        assert catalog.begun.count("large") == 1
        await follower._turn(catalog)
        await asyncio.wait_for(follower._loads["large"], 5)
        await follower._turn(catalog)
        assert (catalog.begun.count("large"), follower._loads, follower._again) == (2, {}, {})

    asyncio.run(turns())


def test_the_network_is_waited_for_before_the_catalog_is_held(registry: Registry) -> None:
    """A catalog loads one model at a time."""
    fetched: list[str] = []
    go = threading.Event()

    def fetch(name: str) -> None:
        assert go.wait(20)
        fetched.append(name)

    async def turn() -> None:
        catalog: Any = Slow("digits")
        catalog.may["digits"].set()
        follower._look = lambda: ["digits"]  # type: ignore[method-assign]
        await follower._turn(catalog)
        await asyncio.sleep(0.05)
        assert catalog.begun == []
        go.set()
        await asyncio.wait_for(follower._loads["digits"], 5)
        assert (fetched, catalog.loaded) == (["digits"], ["digits"])

    follower = Follower(registry, Told(), Router(KEY), fetch)  # type: ignore[arg-type]
    asyncio.run(turn())


class Store:
    """A registry with one version, a rollout of another, and packages that come or not."""

    def __init__(self) -> None:
        self.pulled: list[str] = []
        self.noted: list[dict[str, Any]] = []
        self.failed: list[tuple[int, str]] = []
        self.away: set[str] = set()
        self.note_fails = self.fail_fails = False

    def version(self, reference: object) -> Any:
        return SimpleNamespace(number=1)

    def active(self, name: str) -> Any:
        return a_rollout(number=5)

    def pull(self, reference: object) -> Path:
        self.pulled.append(str(reference))
        if str(reference) in self.away:
            raise RegistryError("s3://bucket", "cannot be reached", "check the address")
        return Path(f"{reference}.ship")

    def note(self, model: str, kind: str, **told: Any) -> None:
        if self.note_fails:
            raise RegistryError("the registry", "does not take it", "say it otherwise")
        self.noted.append(told)

    def fail(self, number: int, why: str) -> None:
        if self.fail_fails:
            raise RegistryError("the registry", "cannot be reached", "start it")
        self.failed.append((number, why))


@pytest.fixture
def store() -> Store:
    return Store()


def trying() -> Trying:
    return Trying("/registry", KEY, ["digits"], this_instance(worker=False))


@pytest.fixture
def followed(store: Store) -> Followed:
    fake: Any = store
    return Followed(fake, fake, Router(KEY), trying(), ["digits"])


def test_models_are_fetched_at_the_same_time(followed: Followed, store: Store) -> None:
    """What kept another one from coming is noted while this one looks at its own."""
    error = RegistryError("the registry", "cannot be reached", "start it")

    class Meanwhile(str):
        __slots__ = ()
        __hash__ = str.__hash__

        def __eq__(self, other: object) -> bool:
            followed._missing["roses", len(followed._missing)] = error
            return str.__eq__(self, other)

    followed._missing["digits", 1] = followed._missing["iris", 0] = error
    followed.fetch(Meanwhile("digits"))
    assert ("digits", 1) not in followed._missing and followed._missing["iris", 0] is error
    assert store.pulled == ["digits:1", "digits:2"]


@pytest.mark.parametrize("away", [1, 2])
def test_what_could_not_be_fetched_is_asked_for_once(followed: Followed, store: Store, away: int) -> None:
    """The second time others would wait for it."""
    store.away = {f"digits:{away}"}
    followed.fetch("digits")
    assert store.pulled == ["digits:1", "digits:2"]
    if away == 1:
        with pytest.raises(RegistryError, match="s3://bucket"):
            followed.offered("digits")
    else:
        assert [(one.version, one.spare) for one in followed.offered("digits")] == [("1", False)]
    assert store.pulled.count(f"digits:{away}") == 1
    assert [told["version"] for told in store.noted] == [away]
    assert store.failed == [], "it is only out of reach"
    store.away = set()
    followed.fetch("digits")
    assert [(one.version, one.spare) for one in followed.offered("digits")] == [("2", True), ("1", False)]


def test_a_registry_that_was_out_of_reach_is_not_asked_again_at_once(
    followed: Followed, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    def away(reference: object) -> Any:
        raise RegistryError("the registry", "cannot be reached", "start it")

    with monkeypatch.context() as patch:
        patch.setattr(store, "version", away)
        followed.fetch("digits")
    with pytest.raises(RegistryError, match="cannot be reached"):
        followed.offered("digits")
    assert [one.version for one in followed.offered("digits")] == ["2", "1"]


@pytest.mark.parametrize(
    "words",
    ["x" * 20_000, "a\0b\ud800c\nd\x1b[31m\u202e", "\n" * 20_000, "\ud800" * 20_000],
    ids=["long", "odd", "lines", "halves"],
)
def test_whatever_refuses_a_challenger_is_told_in_words_that_are_taken(
    registry: Registry, words: str, tmp_path: Path
) -> None:
    from shipworthy.registry.words import check_text

    said = storable(words)
    assert check_text("why", said) == said and len(said) <= SAID
    with make_world(tmp_path / "world") as world:
        rollouts, router = Rollouts(world), Router(KEY)
        rollout = rollouts.start(MODEL, "digits:2", Spec("canary"))
        router.running[MODEL] = rollout
        Followed(world, rollouts, router, trying(), [MODEL]).refused(MODEL, "2", EngineError("onnxruntime", words))
        assert rollouts.get(rollout.id).state == "rollback"
        [event] = [event for event in world.history(MODEL) if event.kind == "load-failed"]
        assert event.why == storable(str(EngineError("onnxruntime", words)))


def test_a_challenger_has_lost_whether_or_not_its_refusal_is_noted(followed: Followed, store: Store) -> None:
    followed.offered("digits")
    error = EngineError("onnxruntime", "cannot open it")
    store.note_fails = True
    followed.refused("digits", "2", error)
    assert (store.noted, [number for number, _ in store.failed]) == ([], [5])
    store.note_fails, store.fail_fails = False, True
    followed.refused("digits", "2", error)
    store.fail_fails = False
    followed.refused("digits", "2", error)
    assert (len(store.noted), [number for number, _ in store.failed]) == (1, [5, 5])
    # The same version in another rollout has lost that one too.
    followed._router.running["digits"] = a_rollout(number=6)
    followed.refused("digits", "2", error)
    assert (len(store.noted), store.failed[-1][0]) == (1, 6)


def test_a_refusal_that_could_not_be_told_is_told_later(registry: Registry) -> None:
    notes: list[str] = []
    away = True

    def note(model: str, kind: str, **_: Any) -> None:
        if away:
            raise RegistryError("the registry", "cannot be reached", "start it")
        notes.append(kind)

    fake: Any = SimpleNamespace(note=note)
    followed = Followed(fake, SimpleNamespace(), Router(KEY), trying(), ["iris"])  # type: ignore[arg-type]
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
