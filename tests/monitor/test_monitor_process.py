"""The monitor process: who is heard, what is shown, and what a restart keeps."""

from __future__ import annotations

import json
import logging
import os
import resource
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import monitor_cases
import numpy as np
import pytest
from process_cases import Opened, Worker, running
from watching_cases import places as made_places
from watching_cases import wait_until

from shipworthy.errors import MonitorError
from shipworthy.monitor import keeping
from shipworthy.monitor import process as module
from shipworthy.monitor.keeping import Keeper, Start
from shipworthy.monitor.observed import Watcher
from shipworthy.monitor.options import MonitorOptions
from shipworthy.monitor.places import Places
from shipworthy.monitor.remembering import Remembering
from shipworthy.monitor.running import node_name, opening
from shipworthy.monitor.store import States
from shipworthy.monitor.view import Alarm, View
from shipworthy.monitor.wire import Acknowledge, Acknowledged, Begin, Layout, Part, Rows
from shipworthy.signals import save_reference


@pytest.fixture
def places() -> Iterator[Places]:
    with made_places() as made:
        yield made


@pytest.fixture(autouse=True)
def soon(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "SHOW_S", 0.02)
    monkeypatch.setattr(module, "LOOKING", 1.0)


def shown(places: Places, model: str = "digits") -> list[dict[str, object]]:
    file = places.view(model)
    views: list[dict[str, object]] = json.loads(file.read_bytes()) if file.exists() else []
    return views


def test_rows_of_all_workers_reach_one_watch_of_their_version(places: Places) -> None:
    opened = Opened()
    with running(places, opened):
        one, other = Worker(places), Worker(places)
        one.begin(reference=b"reference")
        other.begin(number=7)
        one.rows(1.0, 2.0, seen=10)
        other.rows(3.0, number=7, seen=5)
        wait_until(lambda: opened.all and next(iter(opened.all.values())).requests == 15)
        ((name, counted),) = opened.all.items()
        assert name == ("digits", "1") and counted.reference == b"reference" and counted.watchers == 2
        assert sorted(counted.rows) == [1.0, 2.0, 3.0] and counted.rows.index(1.0) < counted.rows.index(2.0)
        one.end()
        other.close()
        wait_until(lambda: counted.watchers == 0)
        one.rows(4.0)
        one.begin(version="2", number=2)
        wait_until(lambda: len(opened.all) == 2)
        assert counted.requests == 15, "it is watched no more"


def test_what_is_seen_is_shown_merged_and_told(places: Places) -> None:
    told: list[Alarm] = []
    seen: list[View] = []
    with running(places, Opened(), on_alarm=[told.extend], on_views=seen.extend):
        worker = Worker(places)
        worker.begin()
        worker.begin(model="other models", number=2)
        worker.rows(1.0, seen=3)
        wait_until(lambda: [one["requests"] for one in shown(places)] == [3])
        wait_until(lambda: [one["notes"] for one in shown(places, "other models")] == [["merged"]])
        wait_until(places.exposition.exists)
        wait_until(lambda: b'shipworthy_monitor_requests_total{model="digits"' in places.exposition.read_bytes())
        wait_until(lambda: seen)
    assert {alarm.model for alarm in told} == {"digits"} and seen[-1].notes == ("merged",)
    assert places.view("digits").stat().st_mode & 0o77 == 0 and places.exposition.stat().st_mode & 0o77 == 0


def test_what_is_refused_is_said_and_ends_nothing(places: Places, caplog: pytest.LogCaptureFixture) -> None:
    opened = Opened()
    with running(places, opened):
        good, bad = Worker(places), Worker(places)
        bad.begin(model="bad")
        bad.rows(1.0)
        bad.begin(number=2)
        wait_until(lambda: opened.all)
        bad.wire.sendall(b"GET / HTTP/1.1\r\n\r\n")
        assert bad.hear() is None, "who speaks otherwise is not heard"
        good.begin()
        good.rows(1.0)
        wait_until(lambda: opened.all["digits", "1"].requests == 1)
        assert opened.all["digits", "1"].watchers == 1
    assert ["bad" in record.message or "cannot be read" in record.message for record in caplog.records] == [True, True]


def test_a_version_that_breaks_its_watch_ends_no_other(places: Places, caplog: pytest.LogCaptureFixture) -> None:
    opened = Opened()

    def opening(said: Begin, reference: bytes) -> Watcher:
        if said.version == "2":
            raise OSError("there is no room")
        return opened(said, reference)

    with running(places, opening):
        worker = Worker(places)
        worker.begin(version="2", number=2)
        worker.rows(1.0, number=2)
        worker.begin()
        worker.rows(1.0)
        wait_until(lambda: [one["version"] for one in shown(places)] == ["1"])
    (record,) = caplog.records
    assert "version 2 is not watched: there is no room" in record.message and record.exc_info is not None


def test_a_version_that_cannot_be_shown_hides_no_other(places: Places) -> None:
    opened = Opened()
    with running(places, opened):
        worker = Worker(places)
        worker.begin()
        worker.begin(version="2", number=2)
        wait_until(lambda: len(shown(places)) == 2)
        opened.all["digits", "1"].fails = ValueError()
        worker.rows(1.0, number=2)
        wait_until(lambda: [one["version"] for one in shown(places)] == ["2"])


def test_acknowledgements_are_answered(places: Places) -> None:
    opened = Opened()
    with running(places, opened):
        worker, person = Worker(places), Worker(places)
        worker.begin()
        wait_until(lambda: opened.all)
        opened.all["digits", "1"].alarms = {"a1"}
        person.say(Acknowledge(model="digits", alarm="a1", who="ada", why="seen"))
        assert person.hear() == Acknowledged(found=True)
        for model, alarm in (("digits", "a2"), ("prices", "a1")):
            person.say(Acknowledge(model=model, alarm=alarm, who="ada", why="seen"))
            assert person.hear() == Acknowledged(found=False)


def test_a_version_that_nobody_serves_any_more_is_let_go(places: Places, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "KEEP_S", 0.02)
    monkeypatch.setattr(module, "RETIRE_S", 0.1)
    opened = Opened()
    with running(places, opened):
        worker = Worker(places)
        worker.begin()
        worker.begin(version="2", number=2)
        worker.end()
        wait_until(lambda: [one["version"] for one in shown(places)] == ["2"])
        assert opened.all["digits", "1"].kept > 1, "what it knew was saved before"
        worker.close()
        wait_until(lambda: not places.view("digits").exists())


def test_the_end_reads_what_has_come_and_saves_it(places: Places) -> None:
    opened = Opened()
    with running(places, opened) as made:
        worker = Worker(places)
        worker.begin()
        for number in range(1000):
            worker.rows(float(number))
        worker.close()
        made.end()
        assert made.orphaned
        (counted,) = opened.all.values()
        assert counted.requests == 1000 and counted.kept == 1
        assert shown(places)[0]["requests"] == 1000


@pytest.fixture
def points(tmp_path: Path) -> tuple[Begin, bytes]:
    """What a worker says of a model, and the bytes of its reference."""
    file = tmp_path / "reference"
    save_reference(monitor_cases.reference(), file)
    contract = monitor_cases.contract().model_dump_json()
    return Begin(number=1, model="points", version="1", variant="v", contract=contract), file.read_bytes()


def tell(worker: Worker, rows: int, random: np.random.Generator, *, shift: float = 0.0) -> None:
    """So many rows, of twice as many that were answered; another one was lost."""
    asked, answered, _ = monitor_cases.draw(rows, random, shift=shift)
    layouts = [
        Layout(name="point", output=False, dtype="<f4", shape=[2]),
        Layout(name="logits", output=True, dtype="<f4", shape=[3]),
    ]
    said = Rows(number=1, at=1e9, seen=2 * rows, lost=1, parts=[Part(rows=rows, arrays=layouts)])
    worker.say(said, np.full(rows, 1e-3).tobytes() + asked.tobytes() + answered.tobytes())


def test_a_restart_goes_on_where_the_last_state_was_saved(
    places: Places, tmp_path: Path, points: tuple[Begin, bytes]
) -> None:
    random = np.random.default_rng(1)
    for turn in (1, 2):
        remembering = Remembering(States(tmp_path / "states"))
        with running(places, opening(MonitorOptions(), "here", remembering)):
            worker = Worker(places)
            worker.say(*points)
            tell(worker, 300, random)
            worker.close()
            wait_until(lambda: shown(places, "points"))
        remembering.close()
        (seen,) = shown(places, "points")
        assert (seen["scored"], seen["requests"], seen["unscored"]) == (300 * turn, 600 * turn, turn)
        places.socket.unlink()
    (stored,) = States(tmp_path / "states").views("points")
    assert stored.scored == 600 and stored.nodes == ("here",) and not stored.alarms


def test_nodes_see_one_another_and_hear_what_was_acknowledged(
    places: Places, tmp_path: Path, points: tuple[Begin, bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "KEEP_S", 0.05)
    random = np.random.default_rng(1)
    with made_places() as elsewhere, ExitStack() as nodes:
        workers = []
        for at, node in ((places, "a"), (elsewhere, "b")):
            remembering = Remembering(States(tmp_path / "states"))
            nodes.callback(remembering.close)
            nodes.enter_context(running(at, opening(MonitorOptions(), node, remembering, shared=True)))
            workers.append(Worker(at))
            workers[-1].say(*points)
        for worker, rows in zip(workers, (200, 300), strict=True):
            tell(worker, rows, random)
        for at in (places, elsewhere):
            wait_until(lambda: [one["scored"] for one in shown(at, "points")] == [500])  # noqa: B023
            assert b'scored_total{model="points",version="1"} 500' not in at.exposition.read_bytes()
        tell(workers[0], 600, random, shift=5.0)
        wait_until(lambda: standing(elsewhere))
        for alarm in standing(elsewhere):
            workers[1].say(Acknowledge(model="points", alarm=alarm, who="ada", why="seen"))
            assert workers[1].hear() == Acknowledged(found=True)
        wait_until(lambda: not standing(places))


def test_a_new_baseline_is_taken_on_every_node_once(
    places: Places, tmp_path: Path, points: tuple[Begin, bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "KEEP_S", 0.05)
    random = np.random.default_rng(1)
    with made_places() as elsewhere, ExitStack() as nodes:
        workers = []
        for at, node in ((places, "a"), (elsewhere, "b")):
            remembering = Remembering(States(tmp_path / "states"))
            nodes.callback(remembering.close)
            nodes.enter_context(running(at, opening(MonitorOptions(), node, remembering, shared=True)))
            workers.append(Worker(at))
            workers[-1].say(*points)
        tell(workers[0], 600, random, shift=5.0)
        wait_until(lambda: standing(elsewhere))
        alarm = standing(elsewhere)[0]
        workers[1].say(Acknowledge(model="points", alarm=alarm, who="ada", why="new", new_baseline=100))
        assert workers[1].hear() == Acknowledged(found=True)
        # The other alarm of the first node is of the old reference too.
        wait_until(lambda: not standing(places))
        for worker in workers:
            tell(worker, 300, random, shift=5.0)
        for at in (places, elsewhere):
            wait_until(lambda: [references(at)] == [[100]])  # noqa: B023
            wait_until(lambda: not standing(at))  # noqa: B023
        states = States(tmp_path / "states")
        wait_until(lambda: sorted(view.scored for view in states.views("points")) == [200, 800])
    # A node that knows nothing takes it as well; one that has taken it does not again.
    for node, expected in (("a", [100]), ("c", [])):
        with made_places() as again:
            remembering = Remembering(States(tmp_path / "states"))
            with running(again, opening(MonitorOptions(), node, remembering, shared=True)):
                worker = Worker(again)
                worker.say(*points)
                wait_until(lambda: alone(tmp_path, node) == expected)  # noqa: B023
            remembering.close()


def references(places: Places) -> list[int]:
    """Samples of the references of what is shown."""
    promises: Any = [one["promise"] for one in shown(places, "points")]
    return [promise["reference"] for promise in promises if promise is not None]


def alone(place: Path, node: str) -> list[int] | None:
    view = States(place / "states").view("points", "1", node)
    return None if view is None else [view.promise.reference] if view.promise is not None else []


def standing(places: Places) -> list[str]:
    alarms: Any = [alarm for one in shown(places, "points") for alarm in one["alarms"]]  # type: ignore[attr-defined]
    return [alarm["id"] for alarm in alarms if alarm["acknowledged"] is None]


def test_two_servers_of_a_machine_have_names_of_their_own(tmp_path: Path) -> None:
    with node_name(str(tmp_path)) as one, node_name(str(tmp_path)) as other, node_name(f"{tmp_path}-2") as elsewhere:
        assert other == f"{one}-2" and elsewhere == one
    with node_name(str(tmp_path)) as again:
        assert again == one


def test_a_name_that_is_no_file_is_left_to_its_owner(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    with node_name("here") as host:
        (lock,) = tmp_path.iterdir()
    lock.unlink()
    lock.symlink_to(tmp_path / "elsewhere")
    lock.with_name(lock.name.replace("-0.lock", "-1.lock")).mkdir()
    with node_name("here") as name:
        assert name == f"{host}-3"
    assert not (tmp_path / "elsewhere").exists()


def test_a_machine_has_so_many_names(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("shipworthy.monitor.running.NODES", 1)
    with node_name(str(tmp_path)), pytest.raises(MonitorError, match="is used by 1 servers"), node_name(str(tmp_path)):
        pass


LEAN = """
import sys
import shipworthy.compose, shipworthy.monitor.running
heavy = {"torch", "onnxruntime", "openvino", "fastapi", "uvicorn", "sqlalchemy", "scipy", "fsspec"} & set(sys.modules)
assert not heavy, heavy
"""


def test_the_process_loads_neither_an_engine_nor_a_web_server() -> None:
    assert subprocess.run([sys.executable, "-c", LEAN], timeout=60, check=False).returncode == 0


def test_nothing_is_started_before_somebody_connects() -> None:
    with Keeper(MonitorOptions()) as keeper:
        folder = keeper.places.folder
        assert folder.stat().st_mode & 0o77 == 0 and keeper.places.socket.is_socket()
        assert keeper.pid is None
    assert not folder.exists()
    keeper.close()


def test_what_a_server_that_was_killed_has_left_is_removed_by_the_next(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    monkeypatch.setattr(keeping, "LONGEST_PATH", 1000)
    left = tmp_path / f"{keeping.PREFIX}left"
    left.mkdir()
    (left / "lock").touch()
    (left / "states").mkdir()
    monkeypatch.setattr(socket.socket, "bind", lambda wire, path: None)
    monkeypatch.setattr(socket.socket, "listen", lambda wire, waiting: None)
    monkeypatch.setattr(keeping.Keeper, "_keep", lambda keeper: None)
    with Keeper(MonitorOptions()) as one, Keeper(MonitorOptions()) as other:
        assert not left.exists()
        assert one.places.folder.is_dir() and other.places.folder.is_dir(), "they are in use"
    assert not [*tmp_path.iterdir()]


def test_what_the_parent_says_keeps_its_secrets() -> None:
    start = Start("/tmp/x", MonitorOptions(webhook_secret="hush"), registry="postgresql://me:hush@host/db")
    assert "hush" not in repr(start)


TALKATIVE = """
import socket, sys
print("x" * 200_000, flush=True)
wire, _ = socket.socket(fileno=int(sys.argv[2])).accept()
wire.sendall(b"!")
while sys.stdin.buffer.read(1 << 16): pass
"""


def test_a_process_that_prints_goes_on_however_many_files_are_open(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "talkative.py").write_text(TALKATIVE)
    monkeypatch.syspath_prepend(str(tmp_path))
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    many = 2048 if hard == resource.RLIM_INFINITY else min(2048, hard)
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, many), hard))
    try:
        with ExitStack() as opened:
            for _ in range(1100):
                opened.enter_context(Path(os.devnull).open())
            with Keeper(MonitorOptions(), module="talkative") as keeper:
                worker = Worker(keeper.places)
                assert worker.wire.recv(1) == b"!"
                worker.close()
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    assert not caplog.records


def test_a_process_that_dies_before_it_is_told_anything_is_started_again() -> None:
    with Keeper(MonitorOptions()) as keeper:
        process = subprocess.Popen([sys.executable, "-c", ""], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        process.wait()
        assert process.stdin is not None
        process.stdin.write(b"{}")
        assert keeper._attend(process), "it was not the server that wanted it"


def test_pauses_between_starts_grow_to_half_a_minute_and_never_end() -> None:
    assert [keeping._pause(failures) for failures in (0, 1, 2, 6, 5000)] == [0.5, 1.0, 2.0, 30.0, 30.0]


@pytest.mark.full
def test_a_process_that_dies_is_started_again_and_one_that_is_ended_saves(
    tmp_path: Path, points: tuple[Begin, bytes], caplog: pytest.LogCaptureFixture
) -> None:
    random, place = np.random.default_rng(1), str(tmp_path / "states")
    with caplog.at_level(logging.ERROR), Keeper(MonitorOptions(), place=place) as keeper:

        def scored() -> object:
            return next((one["scored"] for one in shown(keeper.places, "points")), 0)

        def one_more(rows: int, total: int) -> tuple[Worker, int]:
            worker = Worker(keeper.places)
            worker.say(*points)
            tell(worker, rows, random)
            wait_until(lambda: scored() == total)
            assert keeper.pid is not None
            return worker, keeper.pid

        for total in (100, 200):
            worker, pid = one_more(100, total)
            # It saves what it knows, and whoever connects then finds another one.
            os.kill(pid, signal.SIGTERM)
            assert worker.hear() is None
        worker, pid = one_more(100, 300)
        os.kill(pid, signal.SIGKILL)
        assert worker.hear() is None
        worker, pid = one_more(50, 250)
        worker.close()
    assert not Path(f"/proc/{pid}").exists()
    assert [view.scored for view in States(place).views("points")] == [250]
    assert len(caplog.records) == 3
