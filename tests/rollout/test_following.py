"""Servers that follow a registry: what it says is served soon, without a lost request; and what becomes of versions
that cannot be served."""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from following_cases import FEATURES, WITHOUT_ENGINE, Following, following, graph_of, kinds
from lifecycle_cases import Load, serving, until

from shipworthy.errors import RegistryError, ServeError
from shipworthy.registry import Registry
from shipworthy.rollout import Rollouts, Spec
from shipworthy.rollout import following as room
from shipworthy.rollout.followed import Followed

SOON_S = 2.0
"""So soon a promotion has to be live."""


@pytest.fixture
def registry(folder: Path) -> Iterator[Registry]:
    with Registry(folder, who="operator") as opened:
        yield opened


def states(server: Following) -> list[str]:
    return [one["state"] for one in server.http.post("/v2/repository/index", json={}).json()]


def test_a_promotion_is_live_soon_and_loses_no_request(folder: Path, registry: Registry) -> None:
    with following(folder) as server, Load(server.port, clients=3) as load:
        for version in (2, 3):
            registry.promote(f"iris:{version}")
            assert until(lambda version=version: server.version() == str(version), SOON_S) < SOON_S
            assert {server.version() for _ in range(20)} == {str(version)}, "the one before has gone"
        registry.rollback("iris")
        until(lambda: server.version() == "2", SOON_S)
        load.stop()
        assert set(load.outcomes) == {200} and load.outcomes[200] > 50
        assert [*server.parts.upstream._references] == ["iris"]


@pytest.mark.full
def test_a_promotion_is_live_soon_on_every_worker(folder: Path, registry: Registry, tmp_path: Path) -> None:
    env = {"XDG_CACHE_HOME": str(tmp_path / "cache")}
    with serving("iris", "--registry", folder, "--workers", 2, env=env) as server:
        assert server.versions() == {"1"}
        with Load(server.port, clients=2) as load, Load(server.port, clients=1, keep=False) as fresh:
            registry.promote("iris:2", why="better")
            until(lambda: server.versions(8) == {"2"}, SOON_S)
            assert server.versions() == {"2"}
        assert set(load.outcomes) | set(fresh.outcomes) == {200}


def test_a_version_that_is_named_by_its_number_stays(folder: Path, registry: Registry) -> None:
    with following(folder, "iris:1") as server:
        registry.promote("iris:2")
        Rollouts(registry).start("iris", "iris:3", Spec("ab"))
        newest = registry.newest_event()
        until(lambda: server.follower._newest == newest)
        assert {server.version() for _ in range(5)} == {"1"}
        assert server.trials == {}


@pytest.mark.full
def test_another_alias_is_followed_and_takes_part_in_no_rollout(folder: Path, registry: Registry) -> None:
    registry.promote("iris:2", alias="staging")
    with following(folder, "iris@staging") as server:
        Rollouts(registry).start("iris", "iris:3", Spec("ab"))
        registry.promote("iris:3", alias="staging")
        until(lambda: server.version() == "3")
        assert server.trials == {}


def test_what_this_host_cannot_serve_is_recorded_once_and_tried_again(
    folder: Path, registry: Registry, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(room, "RETRY_S", 0.2)
    monkeypatch.setattr(room, "POLL_S", 0.1)
    tried: list[str] = []
    with following(folder) as server:
        offered = Followed.offered
        monkeypatch.setattr(Followed, "offered", lambda self, name: (tried.append(name), offered(self, name))[1])
        registry.promote(f"iris:{WITHOUT_ENGINE}")
        until(lambda: len(tried) >= 3)
        assert server.version() == "1"
        [event] = kinds(registry, "load-failed")
        assert (event.version, event.details["process"] > 0) == (WITHOUT_ENGINE, True)
        assert "does not know the engine 'tensorrt'" in event.why
        until(lambda: states(server) == ["READY", "UNAVAILABLE"])
        registry.promote("iris:2")
        until(lambda: server.version() == "2")


@pytest.mark.full
def test_a_damaged_file_keeps_the_old_version_until_it_is_mended(
    iris: tuple[Path, Path], folder: Path, registry: Registry, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(room, "RETRY_S", 0.2)
    monkeypatch.setattr(room, "POLL_S", 0.1)
    with following(folder) as server:
        graph = graph_of(folder, iris[1])
        whole = graph.read_bytes()
        graph.chmod(0o600)
        for spoilt in (whole[:-1] + bytes([whole[-1] ^ 1]), None):
            graph.unlink() if spoilt is None else graph.write_bytes(spoilt)
            known = len(kinds(registry, "load-failed"))
            registry.promote(f"iris:{2 if spoilt is not None else 3}")
            until(lambda known=known: len(kinds(registry, "load-failed")) == known + 1)
            time.sleep(0.7)
            assert len(kinds(registry, "load-failed")) == known + 1, "it was tried again since, and said once"
            assert server.version() == "1"
        graph.write_bytes(whole)
        until(lambda: server.version() == "3")


@pytest.mark.full
def test_a_failure_that_nobody_foresaw_is_not_the_last_attempt(
    folder: Path, registry: Registry, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(room, "RETRY_S", 0.2)
    monkeypatch.setattr(room, "POLL_S", 0.1)
    with following(folder) as server:
        offered, fails = Followed.offered, [OSError(28, "No space left on device")]

        def full(self: Followed, name: str) -> Any:
            if fails:
                raise fails.pop()
            return offered(self, name)

        monkeypatch.setattr(Followed, "offered", full)
        registry.promote("iris:2")
        until(lambda: server.version() == "2")
        assert "following the registry failed, and goes on" in caplog.text


def test_a_challenger_that_cannot_be_loaded_has_lost(folder: Path, registry: Registry) -> None:
    rollouts = Rollouts(registry)
    with following(folder) as server, Load(server.port, clients=2) as load:
        rollout = rollouts.start("iris", f"iris:{WITHOUT_ENGINE}", Spec("canary", auto=True))
        until(lambda: not rollouts.get(rollout.id).running)
        until(lambda: server.parts.router.running == {})
        assert server.trials == {}
        load.stop()
        assert set(load.outcomes) == {200} and server.version() == "1"
    _lost(registry, rollout.id)


def test_a_challenger_that_cannot_be_loaded_does_not_keep_a_server_from_starting(
    folder: Path, registry: Registry
) -> None:
    rollout = Rollouts(registry).start("iris", f"iris:{WITHOUT_ENGINE}", Spec("shadow", auto=True))
    with following(folder) as server:
        assert server.version() == "1"
        until(lambda: server.parts.router.running == {})
    _lost(registry, rollout.id)


def _lost(registry: Registry, number: int) -> None:
    after = Rollouts(registry).get(number)
    assert (after.state, registry.aliases("iris")) == ("rollback", {"champion": 1})
    assert f"a server refuses iris:{WITHOUT_ENGINE}" in after.reason and "tensorrt" in after.reason
    assert len(kinds(registry, "load-failed")) == len(kinds(registry, "rollout-ended")) == 1


def test_a_champion_that_is_moved_by_hand_ends_its_rollout(
    folder: Path, registry: Registry, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nobody tries the versions any more; it must not stay there for ever, and keep the next one from beginning."""
    monkeypatch.setattr(room, "TELL_S", 0.2)
    monkeypatch.setattr(room, "POLL_S", 0.1)
    rollouts = Rollouts(registry)
    with following(folder) as server:
        rollout = rollouts.start("iris", "iris:2", Spec("ab"))
        until(lambda: server.trials)
        registry.promote("iris:3")
        until(lambda: not rollouts.get(rollout.id).running)
        assert rollouts.get(rollout.id).state == "hold"
        until(lambda: server.version() == "3" and not server.trials and not server.parts.router.running)
        again = rollouts.start("iris", "iris:2", Spec("ab"))
        until(lambda: server.trials)
        assert server.trials["iris"][0].id == again.id


@pytest.mark.full
def test_a_rollout_whose_time_is_over_ends(folder: Path, registry: Registry, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(room, "TELL_S", 0.2)
    monkeypatch.setattr(room, "POLL_S", 0.1)
    rollouts = Rollouts(registry)
    with following(folder) as server:
        rollout = rollouts.start("iris", "iris:2", Spec("shadow", timeout_s=1.0))
        until(lambda: server.trials)
        until(lambda: not rollouts.get(rollout.id).running, 5)
        until(lambda: not server.trials)
        assert (rollouts.get(rollout.id).state, server.version()) == ("hold", "1")


def test_a_node_that_restarts_goes_on(folder: Path, registry: Registry) -> None:
    rollouts = Rollouts(registry)
    rollout = rollouts.start("iris", "iris:2", Spec("ab"))
    asked: Counter[str] = Counter()
    seen: list[dict[str, str]] = []
    for turn in range(2):
        with following(folder) as server:
            assert server.trials, "from the first request on"
            asked += Counter(server.version() for _ in range(30))
            seen.append({key: str(server.ask(key)["version"]) for key in map(str, range(20))})
        # What was seen last is told at the end.
        tally = rollouts.get(rollout.id).tally
        assert sum(tally.assigned) == sum(tally.completed) == 50 * (turn + 1)
    assert seen[0] == seen[1] and {"1", "2"} == set(seen[0].values())
    tally = rollouts.get(rollout.id).tally
    # A caller counts once, whatever node it comes to.
    assert tally.keys == {"assigned": 20, "completed": 20, "settled": 20}
    assert tally.dropped == {"assigned": 20, "completed": 20, "settled": 20}
    keyed = Counter(seen[0].values())
    assert tally.assigned == [asked[one] + 2 * keyed[one] for one in ("1", "2")]


def test_labels_of_answers_are_taken_by_the_server(folder: Path, registry: Registry) -> None:
    with following(folder) as server:
        answer = server.ask()
        item = {"prediction_id": answer["prediction_id"], "label": answer["label"]}
        for outcome in ("accepted", "duplicate"):
            said = server.http.post("/models/iris/feedback", json=item)
            assert (said.status_code, said.json()["outcome"]) == (200, outcome)
        other = server.http.post("/models/iris/feedback", json={**item, "label": "setosa"})
        assert other.status_code == 409, other.text
        forged = item["prediction_id"][:-1] + ("A" if item["prediction_id"][-1] != "A" else "B")
        assert server.http.post("/models/iris/feedback", json={**item, "prediction_id": forged}).status_code == 422
        wrong = server.http.post("/models/iris/feedback", json={**item, "label": "tulip"})
        assert wrong.status_code == 422 and "tulip" in wrong.json()["detail"]


@pytest.mark.full
def test_a_model_that_is_taken_out_comes_back_with_its_rollout(folder: Path, registry: Registry) -> None:
    rollouts = Rollouts(registry)
    rollouts.start("iris", "iris:2", Spec("shadow"))
    with following(folder) as server:
        for _ in range(20):
            server.ask()
        server.server.unload("iris")
        assert server.trials == {}
        assert server.http.post("/predict", json=FEATURES).status_code == 404
        server.server.load("iris")
        until(lambda: server.trials)
        assert server.version() == "1"


def test_a_server_that_stops_in_a_rollout_leaves_no_thread(folder: Path, registry: Registry) -> None:
    Rollouts(registry).start("iris", "iris:2", Spec("shadow", shadow_budget=1.0))
    before = {thread.name for thread in threading.enumerate()}
    for _ in range(2):
        with following(folder) as server, Load(server.port, clients=2):
            until(lambda: server.trials)
            time.sleep(0.1)
        left = {thread.name for thread in threading.enumerate()} - before
        assert not {name for name in left if name.startswith("shipworthy")}, left


def test_names_that_cannot_be_followed_are_refused(folder: Path, registry: Registry, tmp_path: Path) -> None:
    with (
        pytest.raises(ServeError, match="is named twice: iris@champion and iris:2"),
        following(folder, "iris", "iris:2"),
    ):
        pass
    with pytest.raises(RegistryError, match="roses"), following(folder, "roses"):
        pass
    with pytest.raises(RegistryError, match="is no registry yet"), following(tmp_path / "none", "iris"):
        pass
    registry.move("iris", "champion", None, expected=1)
    with pytest.raises(RegistryError, match="promote"), following(folder, "iris"):
        pass
