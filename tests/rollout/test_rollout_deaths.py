"""A challenger whose native code ends the processes that run it."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from following_cases import following
from lifecycle_cases import alive, serving, until
from live_cases import KEY
from live_cases import rollout as a_rollout

from shipworthy.compose import Registered
from shipworthy.errors import RegistryError, ServeError
from shipworthy.registry import Registry
from shipworthy.rollout import Rollout, Rollouts, Spec, prediction_key
from shipworthy.rollout.deaths import MOST, Trying
from shipworthy.rollout.following import Follower
from shipworthy.rollout.instance import Instance, this_instance
from shipworthy.rollout.notes import KEPT, Tried
from shipworthy.server import loading
from shipworthy.server.plan import Plan
from shipworthy.server.process import Process

REGISTRY, NAMES = "/registry", ["iris@champion"]
LIVES = this_instance(worker=False)
ENDED = replace(LIVES, began=LIVES.began - 1)
"""The number of its process was given again."""
RESET = replace(ENDED, boot="before the machine was started again")


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    return tmp_path / "state" / "shipworthy" / "trying"


def of(registry: str = REGISTRY, *names: str, key: bytes = KEY, instance: Instance = LIVES) -> Trying:
    return Trying(registry, key, names or NAMES, instance)


def die(trying: Trying) -> None:
    """What the kernel does for a process that ends: the lock is gone, the file stays."""
    assert trying._file is not None
    trying._file.close()


def died(folder: Path, *rollouts: Rollout, instance: Instance = LIVES) -> None:
    """A process of a server of this registry dies while it tries these."""
    with Registry(folder) as registry:
        one = of(registry.url, "iris@champion", key=prediction_key(registry), instance=instance)
    for rollout in rollouts:
        one.opens(rollout)
    die(one)


def numbers(tried: list[Tried]) -> list[int]:
    return [one.rollout for one in tried]


def composed(folder: Path) -> Registered:
    return Registered(Plan((), names=("iris@champion",), registry=str(folder)))


@pytest.fixture
def registry(folder: Path) -> Iterator[Registry]:
    with Registry(folder) as opened:
        yield opened


def test_what_a_process_tried_is_left_when_it_dies() -> None:
    first = of()
    assert first.left() == []
    first.routes("iris", a_rollout(number=3))
    first.opens(a_rollout(number=2))
    assert of().left() == [], "it lives"
    die(first)
    assert of("/another").left() == [] == of(REGISTRY, "wine").left() == of(key=b"made anew").left()
    second = of()
    assert numbers(second.left()) == [2, 3]
    assert of().left() == [], "each death counts once"
    second.routes("iris", a_rollout(number=3))
    second.routes("iris", None)
    die(second)
    assert of().left() == []


def test_what_is_tried_from_the_load_to_the_end() -> None:
    """A challenger is loaded while another one is asked still; then it takes that one's place, or is refused."""
    old, new = a_rollout(number=3), a_rollout(number=4)
    for steps, left in (
        (lambda one: one.opens(new), [3, 4]),
        (lambda one: (one.opens(new), one.gives_up(new)), [3]),
        (lambda one: (one.opens(new), one.routes(new.model, new)), [4]),
        (lambda one: (one.opens(new), one.routes(new.model, None)), []),
        (lambda one: (one.opens(new), one.routes("another", None)), [3, 4]),
    ):
        trying = of()
        trying.routes(old.model, old)
        steps(trying)
        die(trying)
        assert numbers(of().left()) == left


def test_several_processes_have_a_file_each(home: Path) -> None:
    """Workers of one server, or servers of the same models."""
    one, other = of(), of()
    one.opens(a_rollout(number=1))
    other.opens(a_rollout(number=22))
    assert len([*home.iterdir()]) == 2
    die(other)
    third = of()
    assert numbers(third.left()) == [22], "whichever number it had"
    die(one)
    assert [numbers(of().left()), third.left()] == [[1], []]


def test_who_notes_something_first_takes_no_death_away() -> None:
    """Two workers load a challenger for the first time, and the first of them dies of it."""
    first, second = of(), of()
    assert first.left() == second.left() == []
    first.opens(a_rollout(number=5))
    die(first)
    second.opens(a_rollout(number=5))
    assert numbers(of().left()) == [5]
    die(second)
    assert numbers(of().left()) == [5]


def test_workers_of_a_supervisor_that_lives_die_by_themselves() -> None:
    workers = [of() for _ in range(3)]
    for one in workers:
        one.opens(a_rollout(number=5))
    for one in workers:
        die(one)
    assert numbers(of().left()) == [5, 5, 5]


def test_a_server_that_ends_as_a_whole_is_one_death() -> None:
    """As where the kernel ends its whole group for want of memory; the last one may take a moment to go."""
    workers = [of(instance=ENDED) for _ in range(4)]
    for one in workers:
        one.opens(a_rollout(number=5))
    for one in workers[:3]:
        die(one)
    workers[2]._file = None
    assert numbers(of().left()) == [5]
    die(workers[3])
    assert of().left() == []
    again = of(instance=replace(ENDED, process=ENDED.process + 1))
    again.opens(a_rollout(number=5))
    die(again)
    assert numbers(of().left()) == [5], "that was another run of the server"


def test_a_machine_that_is_started_again_tells_nothing_of_a_challenger() -> None:
    workers = [of(instance=RESET) for _ in range(3)]
    for one in workers:
        one.opens(a_rollout(number=5))
    for one in workers:
        die(one)
    next_one = of()
    assert next_one.left() == []
    assert next_one.is_deadly(a_rollout(number=5)), "it is not to keep a server from starting"
    assert not next_one.is_deadly(a_rollout(number=6))


def test_no_more_deaths_are_remembered_than_are_needed(home: Path) -> None:
    for number in range(KEPT + 5):
        one = of(instance=ENDED)
        one.opens(a_rollout(number=number))
        die(one)
        last = of()
        assert numbers(last.left()) == [number]
    assert last.is_deadly(a_rollout(number=KEPT)) and not last.is_deadly(a_rollout(number=1))
    own, shared = sorted(home.iterdir())
    assert own.name.endswith("-0.json")
    said = json.loads(shared.read_text().partition("\n")[0])
    assert [len(said["deaths"]), len(said["deadly"])] == [KEPT, KEPT]


def test_who_tries_nothing_leaves_no_file(home: Path) -> None:
    nothing = of()
    nothing.routes("iris", None)
    nothing.close()
    nothing.opens(a_rollout())
    assert not home.exists()


def test_who_is_told_to_end_notes_nothing_again() -> None:
    one = of()
    one.routes("iris", a_rollout())
    one.close()
    one.opens(a_rollout(number=6))
    assert of().left() == []


def test_a_server_that_a_program_throws_away_has_not_died() -> None:
    one = of()
    one.opens(a_rollout())
    file = one._file
    del one
    assert file is not None and file.closed
    assert of().left() == []


@pytest.mark.parametrize("text", ["[1", "{}", '["a"]', "", "[]\n[1]", '{"instance": [1], "tried": [[1, "x"]]}'])
def test_a_file_that_says_nothing_is_none(home: Path, text: str) -> None:
    first = of(instance=ENDED)
    first.opens(a_rollout())
    die(first)
    [file] = home.iterdir()
    said = file.read_text()
    file.write_text(text)
    assert of().left() == []
    file.write_text(said)
    shared = home / (file.name.rpartition("-")[0] + ".json")
    shared.write_text(text)
    assert len(of().left()) == 1


def test_which_run_of_a_server_a_process_is_of() -> None:
    assert LIVES.process == os.getpid() and LIVES.lives()
    assert this_instance(worker=True).process == os.getppid()
    assert not ENDED.lives() and not RESET.lives()
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as child:
        other = replace(LIVES, process=child.pid, began=0)
        assert other.lives(), "a system that does not say when a process began"
        child.kill()
        until(lambda: not alive(child.pid))
        began = Path(f"/proc/{child.pid}/stat").read_text().rpartition(")")[2].split()[19]
        assert not replace(other, began=int(began)).lives(), "nobody has waited for it, and it is dead"
    assert not other.lives()


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
    trying.opens(a_rollout())
    trying.routes("iris", a_rollout())
    trying.close()
    assert trying.left() == []
    assert "will not be known" in caplog.text


def no_home(path: Path) -> Path:
    raise RuntimeError("Could not determine home directory.")


def test_a_server_that_is_started_again_tells_of_the_death_once(folder: Path, registry: Registry) -> None:
    """One process is the whole server, and systemd or an operator is who starts it again."""
    rollouts = Rollouts(registry)
    rollout = rollouts.start("iris", "iris:2", Spec("canary", ramp=(0.5,)))
    with serving("iris@champion", "--registry", folder) as server:
        until(lambda: server.versions() == {"1", "2"})
        assert rollouts.get(rollout.id).tally.deaths == 0
        server.signal(signal.SIGKILL)
        server.wait()
    # One that cannot begin tells of it all the same, and the next one does not do so again.
    for _ in range(2):
        composed(folder)._trying.close()
        assert rollouts.get(rollout.id).tally.deaths == 1
    [event] = [event for event in registry.history("iris") if event.kind == "worker-died"]
    assert event.why.startswith(f"the one before process {os.getpid()} on ")


@pytest.mark.parametrize("which", ["a number that is not known", "a number that was given again"])
def test_a_death_in_a_registry_that_was_restored_keeps_no_server_from_starting(
    folder: Path, registry: Registry, which: str, caplog: pytest.LogCaptureFixture
) -> None:
    """Its url and its key are the same; what was tried is not there, or is another rollout."""
    rollouts = Rollouts(registry)
    rollout = rollouts.start("iris", "iris:2", Spec("canary", ramp=(0.5,)))
    lost = (
        replace(rollout, id=rollout.id + 5) if which == "a number that is not known" else a_rollout(number=rollout.id)
    )
    died(folder, lost, replace(rollout, model="another"))
    for _ in range(2):
        composed(folder)._trying.close()
        assert rollouts.get(rollout.id).tally.deaths == 1, "of the two, that which the registry knows"
    assert caplog.text.count("a process died while it tried") == 1


def test_a_death_on_another_machine_is_a_warning_here(registry: Registry) -> None:
    rollouts = Rollouts(registry)
    rollout = rollouts.start("iris", "iris:2", Spec("canary", ramp=(0.5,)))
    assert not of().is_deadly(rollout)
    assert of().is_deadly(rollouts.note_death(rollout.id, "elsewhere"))


def test_a_death_that_cannot_be_told_keeps_no_server_from_starting(
    folder: Path, registry: Registry, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    rollout = Rollouts(registry).start("iris", "iris:2", Spec("canary", ramp=(0.5,)))
    died(folder, rollout)

    def away(*given: object) -> Rollout:
        raise RegistryError("the registry", "cannot be reached", "start it")

    monkeypatch.setattr(Rollouts, "note_death", away)
    parts = composed(folder)
    assert parts._trying.is_deadly(rollout) and "is not counted: the registry: cannot be reached" in caplog.text
    parts._trying.close()


def test_a_challenger_is_noted_before_it_is_loaded_and_after_the_champion(
    folder: Path, registry: Registry, monkeypatch: pytest.MonkeyPatch
) -> None:
    rollouts = Rollouts(registry)
    rollout = rollouts.start("iris", "iris:2", Spec("canary", ramp=(0.5,)))
    opened: list[tuple[str, list[int]]] = []
    made: list[Registered] = []
    open_package = loading.open_package

    def spied(*given: Any, version: str) -> Any:
        opened.append((version, numbers(made[0]._trying._written)))
        return open_package(*given, version=version)

    monkeypatch.setattr(loading, "open_package", spied)
    with following(folder, before=made.append) as server:
        assert server.trials, "from the first request on, where nothing has died"
        assert [one.version for one in server.server.served] == ["2", "1"], "the last one is current"
        rollouts.stop("iris")
        until(lambda: not server.trials and not made[0]._trying._written)
        again = rollouts.start("iris", "iris:3", Spec("canary", ramp=(0.5,)))
        until(lambda: server.trials)
    assert opened == [("1", []), ("2", [rollout.id]), ("3", [again.id])]


def test_a_challenger_that_is_refused_is_tried_no_longer(
    folder: Path, registry: Registry, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also by an error that nobody foresaw: a death of the server later on is none of its."""
    open_package, written = loading.open_package, []

    def refused(*given: Any, version: str) -> Any:
        if version == "2":
            written.append(numbers(made[0]._trying._written))
            raise MemoryError
        return open_package(*given, version=version)

    made: list[Registered] = []
    monkeypatch.setattr(loading, "open_package", refused)
    with following(folder, before=made.append) as server:
        rollout = Rollouts(registry).start("iris", "iris:2", Spec("canary", ramp=(0.5,)))
        until(lambda: written and not made[0]._trying._written)
        assert written[0] == [rollout.id] and server.version() == "1"


@pytest.mark.parametrize("instance", [LIVES, RESET], ids=["a death", "the machine was reset"])
def test_what_a_process_has_died_of_is_loaded_when_the_server_is_ready(
    folder: Path, registry: Registry, instance: Instance, monkeypatch: pytest.MonkeyPatch
) -> None:
    rollout = Rollouts(registry).start("iris", "iris:2", Spec("canary", ramp=(0.5,)))
    died(folder, rollout, instance=instance)
    go, open_package = threading.Event(), loading.open_package

    def slowly(*given: Any, version: str) -> Any:
        assert version == "1" or go.wait(20)
        return open_package(*given, version=version)

    monkeypatch.setattr(loading, "open_package", slowly)
    with following(folder) as server:
        assert {server.version() for _ in range(5)} == {"1"}
        assert Rollouts(registry).get(rollout.id).tally.deaths == (instance is LIVES)
        go.set()
        until(lambda: server.trials)
    with following(folder) as server:
        assert not server.trials, "so it is at every start from now on"
        until(lambda: server.trials)


def test_a_server_that_is_told_to_end_has_not_died(
    folder: Path, registry: Registry, monkeypatch: pytest.MonkeyPatch
) -> None:
    """From the moment on: who told it may not wait until requests in flight are answered, and the registry is told."""
    rollout = Rollouts(registry).start("iris", "iris:2", Spec("canary", ramp=(0.5,)))
    part, told = Process._part, []

    async def slowly(self: Process) -> None:
        told.append(next(home.glob("*-0.json")).read_text().startswith("{}"))
        self.catalog.reroute("iris")
        told.append(next(home.glob("*-0.json")).read_text().startswith("{}"))
        await part(self)

    home = Path(os.environ["XDG_STATE_HOME"]) / "shipworthy" / "trying"
    monkeypatch.setattr(Process, "_part", slowly)
    with following(folder) as server:
        until(lambda: server.trials)
        assert numbers(server.parts._trying._written) == [rollout.id]
        assert str(rollout.id) in next(home.glob("*-0.json")).read_text()
    assert told == [True, True]
    with following(folder) as server:
        assert server.trials
    assert Rollouts(registry).get(rollout.id).tally.deaths == 0


def test_an_end_that_fails_is_no_death(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async def fails(self: Follower) -> None:
        self._registry.close()
        raise OSError("the network is gone")

    monkeypatch.setattr(Follower, "end", fails)
    parts = composed(folder)
    with pytest.raises(OSError, match="the network is gone"):
        asyncio.run(parts.end())
    assert parts._trying._closed


def test_what_refuses_a_server_leaves_nothing_open(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    closed: list[Registry] = []
    close = Registry.close
    monkeypatch.setattr(Registry, "close", lambda self: (closed.append(self), close(self))[1])
    with pytest.raises(ServeError, match="is named twice"):
        Registered(Plan((), names=("iris", "iris:2"), registry=str(folder)))
    with pytest.raises(RegistryError):
        Registered(Plan((), names=("no name!",), registry=str(folder)))
    assert len(closed) == 2


DEADLY = """
import os, signal, sys
from shipworthy.server import loading

open_package = loading.open_package

def deadly(plan, path, *, version=None):
    if version == "2":
        os.kill(os.getpid(), signal.SIGKILL)
    return open_package(plan, path, version=version)

loading.open_package = deadly
from shipworthy import compose

if __name__ == "__main__":
    names = dict(names=["iris@champion"], registry=sys.argv[1], port=0)
    compose.serve(**names, on_ready=lambda server: print("ready", server.url, flush=True))
"""
"""A server whose challenger ends the process that loads it, as native code can."""


@pytest.mark.full
def test_a_challenger_that_ends_the_process_that_loads_it_has_lost(folder: Path, registry: Registry) -> None:
    """The first start has no way to know; from the second on the server serves before it tries again."""
    rollouts = Rollouts(registry)
    rollout = rollouts.start("iris", "iris:2", Spec("canary", ramp=(0.5,)))
    command = [sys.executable, "-c", DEADLY, str(folder)]
    for start in range(MOST):
        done = subprocess.run(command, capture_output=True, text=True, timeout=30)
        assert (done.returncode, "ready" in done.stdout) == (-signal.SIGKILL, start > 0), done.stderr
        assert rollouts.get(rollout.id).tally.deaths == start
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None and process.stdout.readline().startswith("ready")
        assert rollouts.get(rollout.id).state == "rollback"
        process.terminate()
        assert process.wait(20) == 0


@pytest.mark.full
def test_a_challenger_that_ends_its_workers_has_lost(folder: Path, home: Path) -> None:
    """Native code that ends its process looks from outside like a SIGKILL."""
    with Registry(folder) as registry:
        (model,) = registry.models()
        champion = registry.aliases(model.name)["champion"]
        challenger = registry.version(f"{model.name}:{champion + 1}")
        rollouts = Rollouts(registry)

        def noted() -> list[bool]:
            return sorted(f"[[{rollout.id}, " in file.read_text() for file in home.glob("*-*.json"))

        with serving(f"{model.name}@champion", "--registry", folder, "--workers", 2) as server:
            until(lambda: len(server.workers()) == 2)
            rollout = rollouts.start(model.name, challenger.name, Spec("canary", ramp=(0.5,)))
            # What was left is taken over by the next one, so each has to try it before one of them dies.
            until(lambda: noted() == [True] * 2)
            until(lambda: {str(champion), str(challenger.number)} == server.versions())
            for death in range(1, MOST + 1):
                assert rollouts.get(rollout.id).running
                os.kill(server.workers()[0], signal.SIGKILL)
                until(lambda death=death: rollouts.get(rollout.id).tally.deaths == death)  # type: ignore[misc]
                until(lambda: len(server.workers()) == 2)
                if death < MOST:
                    until(lambda: noted() == [True] * 2)
            ended = rollouts.get(rollout.id)
            assert ended.state == "rollback"
            assert ended.reason.startswith(f"{MOST} processes died while they tried the challenger")
            kinds = [event.kind for event in registry.history(model.name)]
            assert kinds.count("worker-died") == MOST
            until(lambda: server.versions() == {str(champion)})


@pytest.mark.full
def test_a_server_that_is_ended_with_all_its_workers_is_one_death(folder: Path, home: Path, registry: Registry) -> None:
    rollouts = Rollouts(registry)
    rollout = rollouts.start("iris", "iris:2", Spec("canary", ramp=(0.5,)))
    with serving("iris@champion", "--registry", folder, "--workers", 3) as server:
        until(lambda: len(server.workers()) == 3)
        workers = server.workers()
        # None of them may hear of the end of another.
        for pid in (server.pid, *workers):
            os.kill(pid, signal.SIGSTOP)
        for pid in (server.pid, *workers):
            os.kill(pid, signal.SIGKILL)
        until(lambda: not any(alive(pid) for pid in workers))
        server.wait()
    for _ in range(2):
        composed(folder)._trying.close()
    assert rollouts.get(rollout.id).tally.deaths == 1
