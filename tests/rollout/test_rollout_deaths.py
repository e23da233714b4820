"""A challenger whose native code ends the processes that run it."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest
from following_cases import following
from lifecycle_cases import serving, until

from shipworthy.compose import Registered
from shipworthy.errors import RegistryError, ServeError
from shipworthy.registry import Registry
from shipworthy.rollout import Rollouts, Spec
from shipworthy.rollout.deaths import MOST, Trying
from shipworthy.server.plan import Plan

REGISTRY, NAMES = "/registry", ["iris@champion"]


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    return tmp_path / "state" / "shipworthy" / "trying"


def of(registry: str = REGISTRY, *names: str) -> Trying:
    return Trying(registry, names or NAMES)


def die(trying: Trying) -> None:
    """What the kernel does for a process that ends: the lock is gone, the file stays."""
    trying.close()


def test_what_a_process_tried_is_left_when_it_dies() -> None:
    first = of()
    assert first.left() == []
    first.note({3, 2})
    assert of().left() == [], "it lives"
    die(first)
    assert of("/another").left() == [] == of(REGISTRY, "wine").left()
    second = of()
    assert second.left() == [2, 3]
    second.note([3])
    second.note([])
    die(second)
    assert of().left() == []


def test_several_processes_have_a_file_each(home: Path) -> None:
    """Workers of one server, or servers of the same models."""
    one, other = of(), of()
    one.note([1])
    other.note([22])
    assert len([*home.iterdir()]) == 2
    die(other)
    third = of()
    assert third.left() == [22], "whichever number it had"
    third.note([])
    die(one)
    assert [of().left(), third.left()] == [[1], []]


def test_who_tries_nothing_leaves_no_file(home: Path) -> None:
    nothing = of()
    nothing.note([])
    nothing.close()
    nothing.note([1])
    assert not home.exists()


@pytest.mark.parametrize("text", ["[1", "{}", '["a"]', "", "[]\n[1]"])
def test_a_file_that_says_nothing_is_none(home: Path, text: str) -> None:
    first = of()
    first.note([1])
    die(first)
    [file] = home.iterdir()
    file.write_text(text)
    assert of().left() == []


@pytest.mark.parametrize("made", ["unwritable", "no home"])
def test_where_nothing_can_be_noted_the_server_goes_on(
    made: str, home: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    if made == "unwritable":
        home.parent.parent.write_text("a file")
    else:
        monkeypatch.delenv("XDG_STATE_HOME")
        monkeypatch.setattr(Path, "expanduser", no_home)
    trying = of()
    trying.note([1])
    trying.note([2])
    assert trying.left() == []
    assert "will not be known" in caplog.text


def no_home(path: Path) -> Path:
    raise RuntimeError("Could not determine home directory.")


def test_a_server_that_is_started_again_tells_of_the_death_once(folder: Path) -> None:
    """One process is the whole server, and systemd or an operator is who starts it again."""
    with Registry(folder) as registry:
        rollouts = Rollouts(registry)
        rollout = rollouts.start("iris", "iris:2", Spec("canary", ramp=(0.5,)))
        with serving("iris", "--registry", folder) as server:
            until(lambda: server.versions() == {"1", "2"})
            assert rollouts.get(rollout.id).tally.deaths == 0
            server.signal(signal.SIGKILL)
            server.wait()
        # One that cannot begin tells of it all the same, and the next one does not do so again.
        plan = Plan((), names=("iris",), registry=str(folder))
        for _ in range(2):
            Registered(plan)._trying.close()
            assert rollouts.get(rollout.id).tally.deaths == 1
        [event] = [event for event in registry.history("iris") if event.kind == "worker-died"]
        assert event.why.startswith(f"the one before process {os.getpid()} on ")


def test_a_server_that_is_told_to_end_has_not_died(folder: Path) -> None:
    with Registry(folder) as registry:
        rollout = Rollouts(registry).start("iris", "iris:2", Spec("canary", ramp=(0.5,)))
        for _ in range(2):
            with following(folder, "iris") as server:
                until(lambda server=server: server.trials)  # type: ignore[misc]
                assert server.parts._trying.left() == [rollout.id]
        assert Rollouts(registry).get(rollout.id).tally.deaths == 0


def test_what_refuses_a_server_leaves_nothing_open(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    closed: list[Registry] = []
    close = Registry.close
    monkeypatch.setattr(Registry, "close", lambda self: (closed.append(self), close(self))[1])
    with pytest.raises(ServeError, match="is named twice"):
        Registered(Plan((), names=("iris", "iris:2"), registry=str(folder)))
    with pytest.raises(RegistryError):
        Registered(Plan((), names=("no name!",), registry=str(folder)))
    assert len(closed) == 2


@pytest.mark.full
def test_a_challenger_that_ends_its_workers_has_lost(folder: Path, home: Path) -> None:
    """Native code that ends its process looks from outside like a SIGKILL."""
    with Registry(folder) as registry:
        (model,) = registry.models()
        champion = registry.aliases(model.name)["champion"]
        challenger = registry.version(f"{model.name}:{champion + 1}")
        rollouts = Rollouts(registry)
        with serving(f"{model.name}@champion", "--registry", folder, "--workers", 2) as server:
            until(lambda: len(server.workers()) == 2)
            rollout = rollouts.start(model.name, challenger.name, Spec("canary", ramp=(0.5,)))
            # What was left is taken over by the next one, so each has to try it before one of them dies.
            until(lambda: [file.read_text() for file in home.glob("*")] == [f"[{rollout.id}]\n"] * 2)
            assert {str(champion), str(challenger.number)} == server.versions()
            for death in range(1, MOST + 1):
                assert rollouts.get(rollout.id).running
                os.kill(server.workers()[0], signal.SIGKILL)
                until(lambda death=death: rollouts.get(rollout.id).tally.deaths == death)  # type: ignore[misc]
                until(lambda: len(server.workers()) == 2)
                if death < MOST:
                    until(lambda: [file.read_text() for file in home.glob("*")] == [f"[{rollout.id}]\n"] * 2)
            ended = rollouts.get(rollout.id)
            assert ended.state == "rollback"
            assert ended.reason.startswith(f"{MOST} processes died while they tried the challenger")
            kinds = [event.kind for event in registry.history(model.name)]
            assert kinds.count("worker-died") == MOST
            until(lambda: server.versions() == {str(champion)})
