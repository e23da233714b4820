"""Servers whose registry is out of reach: what is served stays, and what was seen meanwhile is told later."""

from __future__ import annotations

import logging
import socket
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import httpx
import postgres_server
import pytest
from following_cases import be_private, following, kinds, make_registry
from lifecycle_cases import until

from shipworthy.compose import Registered
from shipworthy.errors import RegistryError
from shipworthy.registry import Registry
from shipworthy.rollout import Rollouts, Spec
from shipworthy.rollout import following as room
from shipworthy.rollout.followed import Followed
from shipworthy.rollout.following import UNTOLD
from shipworthy.rollout.observed import Observed


@pytest.fixture
def registry(folder: Path) -> Iterator[Registry]:
    with Registry(folder, who="operator") as opened:
        yield opened


class Away:
    """A registry that is out of reach for a while."""

    def __init__(self) -> None:
        self.is_away = False

    def cut(self, parts: Registered) -> None:
        follower: Any = parts._follower
        for owner, name in ((follower._registry, "newest_event"), (follower._rollouts, "merge")):
            setattr(owner, name, self._through(getattr(owner, name)))

    def _through(self, work: Callable[..., Any]) -> Callable[..., Any]:
        def asked(*arguments: Any) -> Any:
            if self.is_away:
                raise RegistryError("the registry", "cannot be reached", "start it")
            return work(*arguments)

        return asked


def test_a_registry_out_of_reach_costs_nothing_but_time(
    folder: Path, registry: Registry, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is served stays; it is said once; and what was seen meanwhile is told later."""
    monkeypatch.setattr(room, "TELL_S", 0.2)
    monkeypatch.setattr(room, "POLL_S", 0.1)
    caplog.set_level(logging.INFO, "shipworthy.rollout")
    rollouts, away = Rollouts(registry), Away()
    with following(folder, before=away.cut) as server:
        rollout = rollouts.start("iris", "iris:2", Spec("ab"))
        until(lambda: server.trials)
        asked = Counter(server.version() for _ in range(40))
        until(lambda: sum(rollouts.get(rollout.id).tally.assigned) == 40)
        away.is_away = True
        until(lambda: "out of reach" in caplog.text)
        for _ in range(20):
            asked += Counter(server.version() for _ in range(4))
            time.sleep(0.04)
        assert caplog.text.count("out of reach") == 1
        assert sum(rollouts.get(rollout.id).tally.assigned) == 40
        waiting = server.follower._untold[rollout.id]
        assert 2 <= len(waiting) <= UNTOLD, "it is taken also while nothing can be read"
        away.is_away = False
        until(lambda: sum(rollouts.get(rollout.id).tally.assigned) == 120)
        until(lambda: "the registry is back" in caplog.text)
        assert caplog.text.count("the registry is back") == 1
        tally = rollouts.get(rollout.id).tally
        assert tally.assigned == tally.completed == [asked["1"], asked["2"]]
        registry.promote("iris:3")
        until(lambda: server.version() == "3")


def test_a_registry_that_never_answers_keeps_neither_memory_nor_the_server(
    folder: Path, registry: Registry, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As where a network swallows what is sent."""
    monkeypatch.setattr(room, "TELL_S", 0.1)
    monkeypatch.setattr(room, "LAST_S", 0.3)
    asked, answered = threading.Event(), threading.Event()

    def swallowed(number: int, observed: Observed) -> None:
        asked.set()
        answered.wait(60)

    Rollouts(registry).start("iris", "iris:2", Spec("ab"))
    with following(folder) as server:
        server.follower._rollouts.merge = swallowed
        assert server.trials and asked.wait(5)
        for _ in range(20):
            server.ask()
        trial = server.trials["iris"][1]
        until(lambda: not trial._recorder._past and not any(arm.requests for arm in (trial._old, trial._new)))
        began = time.monotonic()
    assert time.monotonic() - began < 5
    answered.set()


@pytest.mark.full
def test_what_is_seen_is_told_while_a_version_is_loaded(
    folder: Path, registry: Registry, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(room, "TELL_S", 0.1)
    rollouts, go, loading = Rollouts(registry), threading.Event(), threading.Event()
    with following(folder) as server:
        rollout = rollouts.start("iris", "iris:2", Spec("ab"))
        until(lambda: server.trials)
        offered = Followed.offered

        def slowly(self: Followed, name: str) -> Any:
            loading.set()
            assert go.wait(20)
            return offered(self, name)

        monkeypatch.setattr(Followed, "offered", slowly)
        registry.promote("iris:2", alias="staging")
        assert loading.wait(5)
        for _ in range(10):
            server.ask()
        until(lambda: sum(rollouts.get(rollout.id).tally.completed) == 10)
        go.set()


@pytest.mark.full
def test_a_challenger_whose_files_are_out_of_reach_has_not_lost(
    folder: Path, registry: Registry, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(room, "RETRY_S", 0.2)
    monkeypatch.setattr(room, "POLL_S", 0.1)
    rollouts = Rollouts(registry)
    with following(folder) as server:
        pull, away = Registry.pull, True

        def cut(self: Registry, name: Any, *more: Any) -> Path:
            if away and str(name) == "iris:2":
                raise RegistryError("s3://bucket", "cannot be reached", "check the address")
            return pull(self, name, *more)

        monkeypatch.setattr(Registry, "pull", cut)
        rollout = rollouts.start("iris", "iris:2", Spec("ab"))
        until(lambda: kinds(registry, "load-failed"))
        assert server.version() == "1" and server.trials == {}
        assert rollouts.get(rollout.id).running
        away = False
        until(lambda: server.trials)
        assert len(kinds(registry, "load-failed")) == 1


class Wire:
    """Connections to a server on loopback, which can be cut."""

    def __init__(self, port: int) -> None:
        self._to, self.is_cut = port, False
        self._listening = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listening.getsockname()[1]
        self._open: list[socket.socket] = []
        threading.Thread(target=self._accept, daemon=True).start()

    def cut(self) -> None:
        self.is_cut = True
        for one in self._open:
            with suppress(OSError):
                one.shutdown(socket.SHUT_RDWR)
        self._open.clear()

    def _accept(self) -> None:
        while True:
            ours, _ = self._listening.accept()
            if self.is_cut:
                ours.close()
                continue
            theirs = socket.create_connection(("127.0.0.1", self._to))
            self._open += [ours, theirs]
            for ends in ((ours, theirs), (theirs, ours)):
                threading.Thread(target=_pass_on, args=ends, daemon=True).start()


def _pass_on(source: socket.socket, target: socket.socket) -> None:
    with suppress(OSError):
        while data := source.recv(65536):
            target.sendall(data)
    for one in (source, target):
        with suppress(OSError):
            one.shutdown(socket.SHUT_RDWR)


@pytest.mark.full
def test_a_database_server_that_goes_and_comes_back(
    postgres: postgres_server.Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    be_private(monkeypatch, tmp_path / "cache")
    caplog.set_level(logging.INFO, "shipworthy")
    url, wire = postgres.new_database(), Wire(postgres.port)
    make_registry(url, tmp_path / "work", artifacts=tmp_path / "blobs")
    with Registry(url) as registry, following(url.replace(f":{postgres.port}/", f":{wire.port}/")) as server:
        rollouts = Rollouts(registry)
        rollout = rollouts.start("iris", "iris:2", Spec("ab"))
        until(lambda: server.trials)
        asked = Counter(server.version() for _ in range(30))
        wire.cut()
        until(lambda: "out of reach" in caplog.text)
        end = time.monotonic() + 3
        while time.monotonic() < end:
            answer = server.ask()
            asked[answer["version"]] += 1
            time.sleep(0.05)
        item = {"prediction_id": answer["prediction_id"], "label": 1}
        refused: httpx.Response = server.http.post("/models/iris/feedback", json=item)
        assert (refused.status_code, refused.json()["type"].rpartition(":")[2]) == (503, "unreachable")
        wire.is_cut = False
        until(lambda: sum(rollouts.get(rollout.id).tally.assigned) == asked.total())
        until(lambda: "the registry is back" in caplog.text)
        assert caplog.text.count("out of reach; what is served stays") == 1
        assert server.http.post("/models/iris/feedback", json=item).json()["outcome"] == "accepted"
        tally = rollouts.get(rollout.id).tally
        assert tally.assigned == tally.completed == [asked["1"], asked["2"]]
        registry.promote("iris:3")
        until(lambda: server.version() == "3")
