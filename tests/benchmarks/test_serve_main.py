"""A run of benchmarks/serve as a whole: builds first, workloads that fail, and an end that leaves no server behind."""

from __future__ import annotations

import argparse
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT))

from benchmarks.serve import __main__ as main  # noqa: E402
from benchmarks.serve.models import CACHE, FLOAT32, HERE, IRIS, UINT8, Model  # noqa: E402
from benchmarks.serve.process import Failed  # noqa: E402
from benchmarks.serve.race import Effort  # noqa: E402
from benchmarks.serve.results import Result, environment, read  # noqa: E402
from benchmarks.serve.store import Store  # noqa: E402
from benchmarks.serve.workloads import ORDER, WORKLOADS, Run, Workload  # noqa: E402


@pytest.fixture
def told() -> list[str]:
    return []


@pytest.fixture
def run(tmp_path: Path, told: list[str]) -> Run:
    store = Store(tmp_path, tmp_path, environment("x"), told.append, order=ORDER)
    return Run(Effort.quick(), (), True, told.append, store)


def raising(error: Exception) -> Callable[[Run], list[Result]]:
    def measure(run: Run) -> list[Result]:
        run.store.keep([Result(IRIS.name, "a", False, rps=1.0)])
        raise error

    return measure


@pytest.mark.parametrize("error", [Failed("no graph"), OSError("no room"), ValueError("odd"), StopIteration("x")])
def test_a_workload_that_raises_is_told_and_keeps_what_it_has(
    run: Run, told: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    monkeypatch.setitem(WORKLOADS, IRIS.name, Workload((IRIS,), raising(error)))
    assert not main.measured(IRIS.name, run, {})
    said = "\n".join(told)
    assert str(error) in said and ("Traceback" in said) == (not isinstance(error, Failed))
    assert [row.rps for row in read(tmp_path / "results.json")[0]] == [1.0] and (tmp_path / "results.md").exists()


def test_a_workload_has_failed_when_no_row_has_figures(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    for row, good in (
        (Result("iris", "a", False, error="died"), False),
        (Result("iris", "a", False, rps=1.0), True),
        (Result("start", "a", False, first_answer_s=1.0), True),
    ):
        monkeypatch.setitem(WORKLOADS, IRIS.name, Workload((IRIS,), lambda run, row=row: [row]))  # type: ignore[misc]
        assert main.measured(IRIS.name, run, {}) is good
    monkeypatch.setitem(WORKLOADS, IRIS.name, Workload((IRIS,), lambda run: []))
    assert main.measured(IRIS.name, run, {})


def test_every_model_is_built_once_before_anything_is_measured(
    run: Run, told: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    tried: list[str] = []

    def prepare(model: Model, *, rebuild: bool) -> None:
        tried.append(model.name)
        if model is UINT8:
            raise Failed("the build has not chosen what is to be served")

    monkeypatch.setattr(main, "prepare", prepare)
    models = [model for workload in WORKLOADS.values() for model in workload.models]
    unbuilt = main.built(models, told.append, rebuild=False)
    assert tried == [IRIS.name, FLOAT32.name, UINT8.name]
    assert unbuilt == {UINT8.name: "the build has not chosen what is to be served"}
    assert not main.measured("open-loop", run, unbuilt) and "not chosen" in told[-1]


def test_a_whole_run_has_its_own_place_and_a_part_of_one_the_cache(tmp_path: Path) -> None:
    def places(**said: object) -> tuple[Path, Path]:
        plain = {"only": (), "servers": (), "quick": False, "out": None}
        return main._places(argparse.Namespace(**{**plain, **said}))

    scratch = CACHE / "results"
    assert places() == places(out=HERE, only=("iris",)) == (scratch, HERE)
    assert places(quick=True) == places(only=("iris",)) == places(servers=("FastAPI",)) == (scratch, scratch)
    assert places(out=tmp_path) == places(out=tmp_path, quick=True) == (tmp_path, tmp_path)


RUN = """
import sys
from pathlib import Path
import benchmarks.serve.__main__ as main
from benchmarks.serve.models import IRIS
from benchmarks.serve.process import Process
from benchmarks.serve.workloads import WORKLOADS, Workload

def measure(run):
    folder = Path(sys.argv[1])
    child = "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); time.sleep(60)"
    words = f"import subprocess, sys; subprocess.run([sys.executable, '-c', {child!r}])"
    with Process([sys.executable, "-c", words], {}, folder, folder / "log") as process:
        process.wait(lambda: None if len(process.members()) == 2 else "alone", 30.0)
        (folder / "members").write_text(" ".join(str(one.pid) for one in process.members()))
        process.wait(lambda: "silent", 60.0)

main.prepare = lambda model, rebuild: None
WORKLOADS["iris"] = Workload((IRIS,), measure)
sys.exit(main.main(["--only", "iris", "--quick", "--out", sys.argv[1]]))
"""


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP], ids=lambda number: number.name)
def test_a_run_that_is_ended_takes_its_servers_with_it(number: signal.Signals, tmp_path: Path) -> None:
    process = subprocess.Popen([sys.executable, "-c", RUN, str(tmp_path)], cwd=ROOT, stderr=subprocess.PIPE, text=True)
    try:
        until = time.monotonic() + 60
        while not (tmp_path / "members").exists() or not (tmp_path / "members").read_text():
            assert process.poll() is None and time.monotonic() < until
            time.sleep(0.05)
        pids = [int(pid) for pid in (tmp_path / "members").read_text().split()]
        assert len(pids) == 2 and all(psutil.pid_exists(pid) for pid in pids)
        os.kill(process.pid, number)
        _, said = process.communicate(timeout=60)
    finally:
        process.kill()
    assert process.returncode == 128 + number and "Traceback" not in said
    assert not any(psutil.pid_exists(pid) and psutil.Process(pid).status() != "zombie" for pid in pids)
