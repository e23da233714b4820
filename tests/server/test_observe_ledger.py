"""Counters in shared memory: several processes, one of them killed, and readers in between."""

from __future__ import annotations

import errno
import os
import shutil
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from shipworthy.errors import ServeError
from shipworthy.server.observe import Metrics, counters_folder, readers
from shipworthy.server.observe import ledger as ledgers
from shipworthy.server.observe.ledger import DIRECTORY, HEADER, SIZE, VALUES, Key, Ledger, path_of
from shipworthy.server.observe.readers import Reader

WORKER = """
import sys
from pathlib import Path
from shipworthy.server.observe import Metrics

metrics = Metrics(Path(sys.argv[1]), int(sys.argv[2]))
lane = metrics.lane("digits", "1")
lane.in_flight, metrics.ready = lambda: 5, lambda: True
for line in sys.stdin:
    batches = int(line)
    for _ in range(batches):
        lane.ran(3, 4, 2, [0.001, 0.002], 0.01)
        lane.answered("predict", 0.02)
    if batches == 0:
        # A model that comes while the server runs.
        metrics.lane("added", "2").answered("v2", 0.5)
    metrics.flush()
    print("told", flush=True)
while True:
    lane.ran(3, 4, 2, [0.001, 0.002], 0.01)
"""


class Process:
    """A worker that counts when it is told to, and without end when its input is closed."""

    def __init__(self, folder: Path, slot: int) -> None:
        command = [sys.executable, "-c", WORKER, str(folder), str(slot)]
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)

    def run(self, batches: int) -> None:
        assert self.process.stdin is not None and self.process.stdout is not None
        self.process.stdin.write(f"{batches}\n")
        self.process.stdin.flush()
        assert self.process.stdout.readline() == "told\n"

    def kill(self) -> None:
        self.process.send_signal(signal.SIGKILL)
        self.process.wait()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    made = tmp_path / "counters"
    made.mkdir(mode=0o700)
    return made


@pytest.fixture
def processes(folder: Path) -> Iterator[list[Process]]:
    started = [Process(folder, slot) for slot in range(3)]
    yield started
    for one in started:
        one.kill()
        assert one.process.stdin is not None and one.process.stdout is not None
        one.process.stdin.close()
        one.process.stdout.close()


def counters(metrics: Metrics) -> dict[str, float]:
    """Every sample of a counter or a histogram, by its name and labels."""
    text = metrics.render()[0].decode()
    lines = (line.rsplit(" ", 1) for line in text.splitlines() if not line.startswith("#"))
    monotone = ("_total", "_bucket", "_count", "_sum")
    return {name: float(value) for name, value in lines if name.split("{")[0].endswith(monotone)}


def sample(metrics: Metrics, name: str) -> float:
    (found,) = (line for line in metrics.render()[0].decode().splitlines() if line.startswith(name + " "))
    return float(found.rsplit(" ", 1)[1])


def assert_none_fell(before: dict[str, float], after: dict[str, float]) -> None:
    assert [name for name, value in before.items() if after.get(name, -1.0) < value] == []


IN_FLIGHT = 'shipworthy_requests_in_flight{model="digits",version="1"}'
PREDICTED = 'shipworthy_requests_total{model="digits",route="predict",status="200",version="1"}'


def test_workers_add_up_through_a_kill(folder: Path, processes: list[Process]) -> None:
    for one, batches in zip(processes, (10, 20, 30), strict=True):
        one.run(batches)
    asked = Metrics(folder, 3)
    asked.ready = lambda: True
    assert sample(asked, PREDICTED) == 60
    assert sample(asked, IN_FLIGHT) == 15
    assert sample(asked, "shipworthy_workers") == 4
    assert sample(asked, "shipworthy_ready") == 1
    before = counters(asked)

    processes[1].kill()
    killed = counters(asked)
    assert_none_fell(before, killed)
    assert killed[PREDICTED] == 60
    assert sample(asked, IN_FLIGHT) == 10  # what the dead had in flight is lost, and counted no more
    assert sample(asked, "shipworthy_workers") == 3

    processes.append(Process(folder, 1))
    processes[-1].run(7)
    processes[0].run(0)
    replaced = counters(asked)
    assert_none_fell(killed, replaced)
    assert replaced[PREDICTED] == 67
    assert replaced['shipworthy_requests_total{model="added",route="v2",status="200",version="2"}'] == 1
    assert sample(asked, IN_FLIGHT) == 15
    done = asked.statistics("digits", "1")
    assert (done.execution_count, done.inference_count, done.success.count) == (67, 201, 67)
    assert done.success.ns == pytest.approx(67 * 0.02e9)
    asked.close()


def test_no_counter_falls_while_a_worker_writes_and_is_killed(
    folder: Path, processes: list[Process], effort: float
) -> None:
    asked = Metrics(folder, 3)
    for one in processes:
        one.run(1)
        assert one.process.stdin is not None
        one.process.stdin.close()
    before, kill_at = counters(asked), {5, 15}
    for turn in range(max(20, int(400 * effort))):
        if turn in kill_at:
            processes[turn % 3].kill()
        now = counters(asked)
        assert_none_fell(before, now)
        before = now
    batches = before['shipworthy_batch_rows_count{model="digits",version="1"}']
    assert batches > 1000
    assert before['shipworthy_batch_rows_sum{model="digits",version="1"}'] >= 3 * batches
    asked.close()


def test_a_replacement_goes_on_where_the_dead_ended(folder: Path) -> None:
    first = Ledger.open(folder, 0)
    first.series("a", ("x",), 2)[:] = 1.0, 2.0
    first.series("level", gauge=True)[0] = 7.0
    first.close()
    second = Ledger.open(folder, 0)
    assert second.series("a", ("x",), 2).tolist() == [1.0, 2.0]
    assert second.series("level", gauge=True).tolist() == [0.0]
    assert second.page.pid == os.getpid()


def test_what_workers_lost_and_ended_adds_up_through_a_replacement(folder: Path) -> None:
    """Each process begins its own totals at zero; the sum does not."""
    refused = 'shipworthy_connections_ended_total{reason="overloaded"}'
    for traces, ended in ((5, 2), (7, 3)):
        worker = Metrics(folder, 0)
        worker.traces_lost, worker.connections_ended = (
            lambda lost=traces: lost,
            lambda count=ended: {"overloaded": count},
        )
        worker.flush()
        worker.close()
    other, asked = Metrics(folder, 1), Metrics(folder, 2)
    other.connections_ended = lambda: {"overloaded": 10, "idle": 1}
    other.flush()
    assert sample(asked, refused) == 15
    assert sample(asked, 'shipworthy_connections_ended_total{reason="idle"}') == 1
    assert sample(asked, "shipworthy_traces_dropped_total") == 12
    other.close()
    asked.close()


def test_a_slot_has_one_owner(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ledgers, "_LOCK_WAIT_S", 0.02)
    owner = Ledger.open(folder, 0)
    with pytest.raises(ServeError, match="slot 0 of the counters: is another worker's"):
        Ledger.open(folder, 0)
    owner.close()
    Ledger.open(folder, 0).close()


def test_a_folder_that_others_can_reach_is_refused(folder: Path) -> None:
    folder.chmod(0o755)
    with pytest.raises(ServeError, match="can be reached by other users"):
        Ledger.open(folder, 0)


def test_a_folder_without_room_is_said_so(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(descriptor: int, content: bytes) -> int:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patch:
        patch.setattr(os, "write", full)
        with pytest.raises(ServeError, match="No space left on device; free 1024 kB"):
            Ledger.open(folder, 0)
    Ledger.open(folder, 0).close()


def test_a_worker_outlives_its_folder(folder: Path) -> None:
    metrics = Metrics(folder, 0)
    lane = metrics.lane("digits", "1")
    shutil.rmtree(folder)
    lane.ran(1, 1, 1, [0.1], 0.1)
    assert b"shipworthy_build_info" in metrics.render()[0]
    metrics.close()


def test_files_are_their_owners_alone(folder: Path) -> None:
    Ledger.open(folder, 0)
    assert path_of(folder, 0).stat().st_mode & 0o777 == 0o600
    assert path_of(folder, 0).stat().st_size == SIZE


def test_a_link_in_the_place_of_a_file_is_not_followed(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "other").write_bytes(b"mine")
    path_of(folder, 0).symlink_to(tmp_path / "other")
    with pytest.raises(OSError, match="symbolic links"):
        Ledger.open(folder, 0)
    assert (tmp_path / "other").read_bytes() == b"mine"


def test_series_are_bounded_and_the_rest_is_counted() -> None:
    ledger = Ledger.private()
    wide = VALUES // 4
    kept = [ledger.series("wide", (str(number),), wide) for number in range(4)]
    spare = ledger.series("wide", ("4",), wide)
    assert spare is ledger.series("wide", ("4",), wide)
    spare += 1.0
    assert sum(float(one.sum()) for one in kept) == 0.0
    assert ledger.page.lost == 1
    assert ledger.series("long", ("x" * 3000,)).shape == (1,)
    assert ledger.page.lost == 2
    assert len(Reader(ledger).read().keys("wide")) == 4


def test_a_full_directory_keeps_what_it_has() -> None:
    ledger = Ledger.private()
    label = "y" * 1900
    for number in range(DIRECTORY // 1900 + 5):
        ledger.series("s", (str(number), label))[0] = 1.0
    assert ledger.page.lost > 0
    keys = Reader(ledger).read().keys("s")
    assert len(keys) + ledger.page.lost == DIRECTORY // 1900 + 5


def test_a_reader_stops_at_a_record_that_is_not_whole(folder: Path) -> None:
    ledger = Ledger.open(folder, 0)
    ledger.series("first")[0] = 1.0
    reader = Reader(folder)
    place = HEADER + int(ledger.page.header[4])
    ledger.series("second")[0] = 2.0
    byte = ledger.page.memory[place + 20]
    ledger.page.memory[place + 20] = byte ^ 1  # not all of it has arrived
    assert ("second",) not in reader.read()
    ledger.page.memory[place + 20] = byte
    totals = reader.read()
    assert totals.value(("first",)).tolist() == [1.0]
    assert totals.value(("second",)).tolist() == [2.0]
    reader.close()


def test_a_file_that_is_being_made_is_passed_over(folder: Path) -> None:
    path_of(folder, 0).write_bytes(bytes(SIZE))
    path_of(folder, 1).write_bytes(b"")
    assert Reader(folder).read().workers == []
    ledger = Ledger.open(folder, 0)
    ledger.series("a")[0] = 3.0
    assert Reader(folder).read().value(("a",)).tolist() == [3.0]


def test_series_can_be_added_while_others_read(folder: Path) -> None:
    ledger, reader, stop = Ledger.open(folder, 0), Reader(folder), threading.Event()
    seen: list[set[str]] = []
    foreign: list[Key] = []

    def read() -> None:
        while not stop.is_set():
            totals = reader.read()
            keys = totals.keys("s")
            seen.append({key[1] for key in keys})
            foreign.extend(key for key in keys if not set(totals.value(key)) <= {0.0, float(key[1])})

    thread = threading.Thread(target=read)
    thread.start()
    for number in range(1, 400):
        ledger.series("s", (str(number),), 3)[:] = number
    stop.set()
    thread.join()
    # Published in their order, each with its own numbers or none yet.
    assert all(names == {str(number) for number in range(1, len(names) + 1)} for names in seen)
    assert foreign == []
    assert len(reader.read().keys("s")) == 399


@given(st.lists(st.tuples(st.text(max_size=20), st.text(max_size=20)), max_size=20))
def test_any_labels_come_back_as_they_were(labels: list[tuple[str, str]]) -> None:
    ledger = Ledger.private()
    for number, one in enumerate(labels):
        ledger.series("s", one)[0] = number
    last = {one: float(number) for number, one in enumerate(labels)}
    totals = Reader(ledger).read()
    assert {key[1:]: totals.value(key)[0] for key in totals.keys("s")} == last


def test_the_folder_is_private_and_goes_with_the_server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(readers, "_memory_folder", lambda: tmp_path)
    with counters_folder() as folder:
        assert folder.stat().st_mode & 0o777 == 0o700
        Ledger.open(folder, 0).series("a")[0] = 1.0
        with counters_folder() as other:
            assert folder.exists() and other != folder  # one that is in use is not swept away
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_was_left_is_swept_away(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(readers, "_memory_folder", lambda: tmp_path)
    left = tmp_path / (readers.PREFIX + "left")
    left.mkdir(mode=0o700)
    (left / "lock").touch()
    kept = tmp_path / (readers.PREFIX + "without-a-lock")
    kept.mkdir()
    with counters_folder():
        assert not left.exists()
    assert kept.exists()


def test_numbers_are_whole_while_they_are_written(folder: Path) -> None:
    """A value alternates between two patterns of all its bytes; no mixture of them is ever read."""
    ledger, reader, stop = Ledger.open(folder, 0), Reader(folder), threading.Event()
    patterns = np.array([0x0101010101010101, 0x3F3F3F3F3F3F3F3F], np.uint64).view(np.float64)
    series = ledger.series("s", width=64)

    def write() -> None:
        while not stop.is_set():
            series[:] = patterns[0]
            series[:] = patterns[1]

    thread = threading.Thread(target=write)
    thread.start()
    found: set[float] = set()
    for _ in range(300):
        found |= set(reader.read().value(("s",)).tolist())
    stop.set()
    thread.join()
    assert found <= {0.0, *patterns.tolist()}
