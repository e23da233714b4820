"""A worker process does what it is told, and every way to die has its own name."""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import psutil
import pytest

from shipworthy.data import read_cases
from shipworthy.errors import EngineError, MeasureError
from shipworthy.measure import Deadline, Done, MemoryReply, ReadMemory, RunCases, Worker, open_graph
from shipworthy.measure.messages import TimeLoop, TimeReply
from shipworthy.runtime import Artifact, OperatingPoint

Pickled = Callable[[str], Artifact]
WorkerFor = Callable[..., Worker]


def _open(worker: Worker, artifact: Artifact, feeds: Path) -> float:
    return open_graph(worker, artifact, OperatingPoint(), feeds, (1, 2, 4))


def test_a_worker_answers_times_and_leaves(
    pickled: Pickled, worker_for: WorkerFor, feeds: Path, tmp_path: Path
) -> None:
    worker = worker_for("scale")
    assert _open(worker, pickled("Scale"), feeds) > 0
    worker.ask(RunCases(feeds=feeds, outputs=tmp_path / "out.npz"), Done)
    outputs = dict(read_cases(tmp_path / "out.npz"))
    assert list(outputs) == ["1", "2", "4"]
    np.testing.assert_array_equal(outputs["4"]["y"], np.full((4, 3), 2, np.float32))
    reply = worker.ask(TimeLoop(case="2", streams=2, seconds=0.05, least=3), TimeReply)
    assert len(reply.times) >= 6
    assert reply.rate == pytest.approx(2 / np.mean(reply.times), rel=0.3)
    assert 50 < worker.ask(ReadMemory(), MemoryReply).peak_mb < 3000
    worker.close()
    assert not psutil.pid_exists(worker.pid)


def test_prints_do_not_disturb_the_protocol(
    pickled: Pickled, worker_for: WorkerFor, feeds: Path, tmp_path: Path
) -> None:
    worker = worker_for("chatter")
    _open(worker, pickled("Chatter"), feeds)
    worker.ask(RunCases(feeds=feeds, outputs=tmp_path / "out.npz"), Done)
    assert len(list(read_cases(tmp_path / "out.npz"))) == 3
    worker.close()
    log = (tmp_path / "chatter.txt").read_text()
    assert "words on standard output" in log
    assert "and on the descriptor" in log


def test_a_model_that_reads_the_terminal_gets_its_end(pickled: Pickled, worker_for: WorkerFor, feeds: Path) -> None:
    assert _open(worker_for("reader"), pickled("Reader"), feeds) > 0


def test_a_segfault_is_a_crash_with_its_place(pickled: Pickled, worker_for: WorkerFor, feeds: Path) -> None:
    with pytest.raises(MeasureError, match=r"died of SIGSEGV .*forward \(badly_behaved.py, line \d+\)") as caught:
        _open(worker_for("segfault"), pickled("Segfault"), feeds)
    assert caught.value.gate == "crash"
    assert caught.value.culprit == "segfault"


def test_leaving_the_process_is_a_crash(pickled: Pickled, worker_for: WorkerFor, feeds: Path) -> None:
    with pytest.raises(MeasureError, match="exit status 7") as caught:
        _open(worker_for("quitter"), pickled("Quitter"), feeds)
    assert caught.value.gate == "crash"


def test_a_deadline_ends_all_workers_that_share_it(
    pickled: Pickled, feeds: Path, tmp_path: Path, bad_modules: Path
) -> None:
    deadline = Deadline()
    with Worker("late", tmp_path / "late.txt", threads=1, paths=(bad_modules,), deadline=deadline) as worker:
        _open(worker, pickled("Scale"), feeds)
        deadline.at = time.monotonic()
        start = time.monotonic()
        with pytest.raises(MeasureError, match="the time of the build was up while doing 'time'") as caught:
            worker.ask(TimeLoop(case="1", seconds=30), TimeReply)
        assert caught.value.gate == "budget"
        assert time.monotonic() - start < 5
        assert not psutil.pid_exists(worker.pid)


@pytest.mark.parametrize("name", ["Sleeper", pytest.param("Spinner", marks=pytest.mark.full)])
def test_no_answer_is_a_hang_and_ends_the_whole_group(
    name: str, pickled: Pickled, worker_for: WorkerFor, feeds: Path
) -> None:
    worker = worker_for(name.lower(), step_s=6.0)
    with pytest.raises(MeasureError, match="no answer to 'open' within 6 s") as caught:
        _open(worker, pickled(name), feeds)
    assert caught.value.gate == "hang"
    assert _all_gone(worker.pid)


@pytest.mark.parametrize("name", ["Glutton", "Breeder"])
def test_too_much_memory_is_its_own_gate(name: str, pickled: Pickled, worker_for: WorkerFor, feeds: Path) -> None:
    worker = worker_for(name.lower(), step_s=60.0, memory_mb=700.0)
    with pytest.raises(MeasureError, match="above the cap of 700 MB") as caught:
        _open(worker, pickled(name), feeds)
    assert caught.value.gate == "memory"
    assert _all_gone(worker.pid)


def test_an_exception_is_an_engine_error_and_the_worker_lives(
    pickled: Pickled, worker_for: WorkerFor, feeds: Path
) -> None:
    worker = worker_for("thrower")
    with pytest.raises(EngineError, match="no such thing"):
        _open(worker, pickled("Thrower"), feeds)
    assert _open(worker, pickled("Scale"), feeds) > 0


def test_a_dead_worker_says_so_again(pickled: Pickled, worker_for: WorkerFor, feeds: Path) -> None:
    worker = worker_for("scale")
    worker.kill()
    with pytest.raises(MeasureError):
        _open(worker, pickled("Scale"), feeds)


@pytest.mark.parametrize("preload", [None, "spins"], ids=["waiting", "holding the interpreter's lock"])
def test_a_worker_does_not_outlive_a_killed_parent(preload: str | None, tmp_path: Path) -> None:
    # A regular expression holds the lock while it searches, and this one searches for ages.
    (tmp_path / "spins.py").write_text("import re\nopen('begun', 'w').close()\nre.match('(a+)+$', 'a' * 60 + 'b')\n")
    parent = tmp_path / "parent.py"
    parent.write_text(
        textwrap.dedent(
            f"""
            import time
            from pathlib import Path
            from shipworthy.measure import Worker
            here = Path({str(tmp_path)!r})
            worker = Worker("orphan", here / "log.txt", paths=[here], preload={preload!r})
            print(worker.pid, flush=True)
            time.sleep(60)
            """
        )
    )
    process = subprocess.Popen([sys.executable, str(parent)], stdout=subprocess.PIPE, text=True, cwd=tmp_path)
    assert process.stdout is not None
    pid = int(process.stdout.readline())
    end = time.monotonic() + 30
    while preload and not (tmp_path / "begun").exists() and time.monotonic() < end:
        time.sleep(0.05)
    assert (tmp_path / "begun").exists() == bool(preload)
    assert psutil.pid_exists(pid)
    process.kill()
    process.wait()
    process.stdout.close()
    assert _all_gone(pid)


def _all_gone(group: int) -> bool:
    """Whether the group is empty soon: the kernel takes a moment to free what a killed process held."""
    end = time.monotonic() + 10
    while _alive_in_group(group) and time.monotonic() < end:
        time.sleep(0.05)
    return not _alive_in_group(group)


def _alive_in_group(group: int) -> list[int]:
    found = []
    for process in psutil.process_iter(["pid", "status"]):
        try:
            if os.getpgid(process.pid) == group and process.info["status"] != psutil.STATUS_ZOMBIE:
                found.append(process.pid)
        except ProcessLookupError:
            continue
    return found
