"""Who used the processors while benchmarks/serve measured."""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace
from typing import cast

import pytest

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT))

from benchmarks.serve import quiet  # noqa: E402
from benchmarks.serve.process import Process  # noqa: E402
from benchmarks.serve.quiet import Elsewhere  # noqa: E402

BURN = "import sys, time\nend = time.process_time() + float(sys.argv[1])\nwhile time.process_time() < end: pass"


def worker(pid: int, *seconds: float) -> SimpleNamespace:
    """A process that has used so many seconds whenever it is asked."""
    left = iter(seconds)
    return SimpleNamespace(pid=pid, cpu_times=lambda: SimpleNamespace(user=next(left), system=0.25))


def test_what_is_left_is_neither_the_servers_nor_ours(monkeypatch: pytest.MonkeyPatch) -> None:
    old, new = worker(1, 3.0, 4.0), worker(2, 0.5)
    members = iter(([old], [old, new]))
    server = cast(Process, SimpleNamespace(members=lambda: next(members)))
    busy, known, clock = iter((100.0, 104.0)), iter((10.0, 10.75)), iter((0.0, 2.0))
    monkeypatch.setattr(quiet, "_busy", lambda: next(busy))
    monkeypatch.setattr(quiet, "_accounted", lambda: next(known))
    monkeypatch.setattr(quiet, "time", SimpleNamespace(perf_counter=lambda: next(clock)))
    with Elsewhere(server) as elsewhere:
        pass
    assert elsewhere.cores == pytest.approx((4.0 - 0.75 - 1.0 - 0.75) / 2)


def test_a_stranger_is_seen_and_a_server_and_a_load_generator_are_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The rest of the machine is left out by counting only what is started here."""
    words = [sys.executable, "-c", BURN]
    with Process([*words, "60"], {}, tmp_path, tmp_path / "log") as process:
        one = process.members()[0]
        monkeypatch.setattr(quiet, "_busy", lambda: one.cpu_times().user + one.cpu_times().system + quiet._accounted())
        with Elsewhere() as stranger:
            time.sleep(1.0)
        with Elsewhere(process) as server:
            subprocess.run([*words, "0.5"], check=True)
    assert stranger.cores > 0.1
    assert server.cores < 0.5 * stranger.cores


def test_all_that_the_machine_did_is_counted() -> None:
    before = quiet._busy()
    subprocess.run([sys.executable, "-c", BURN, "0.5"], check=True)
    assert quiet._busy() - before > 0.4
