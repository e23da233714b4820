"""How the servers of benchmarks/serve are started: limits, logs, what they have against late answers."""

from __future__ import annotations

import json
import runpy
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from xml.etree import ElementTree

import numpy as np
import pytest

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT))

from benchmarks.serve import cold, models, servers  # noqa: E402
from benchmarks.serve.models import IRIS, ONNX  # noqa: E402
from benchmarks.serve.process import Failed  # noqa: E402
from benchmarks.serve.race import Effort  # noqa: E402
from benchmarks.serve.servers import APPS, EMPTY, OURS, SERVERS, Job, Server  # noqa: E402

BY_NAME = {server.name: server for server in SERVERS}


@pytest.fixture
def job(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Job:
    """Of iris, whose graph is there and empty; archives of models are not made."""
    monkeypatch.setattr(models, "CACHE", tmp_path)
    monkeypatch.setattr(servers, "_archive", lambda store: store)
    (tmp_path / "iris").mkdir()
    (tmp_path / "iris" / "model.onnx").touch()
    folder = tmp_path / "server"
    folder.mkdir()
    return Job(IRIS, ONNX, 1, 4321, folder)


def test_a_limit_reaches_the_web_servers_that_shed_nothing_else(job: Job) -> None:
    """uvicorn refuses the one that makes the number full: it is told one more."""
    fastapi, mlserver = BY_NAME["FastAPI"].start, BY_NAME["MLServer"].start
    assert "--limit-concurrency" not in fastapi(job).words
    for workers, told in ((1, "11"), (2, "6"), (3, "5")):
        words = fastapi(replace(job, limit=10, workers=workers)).words
        assert words[words.index("--limit-concurrency") + 1] == told
    assert not any("mlserver_limited" in word for word in mlserver(job).words)
    words = mlserver(replace(job, limit=10, workers=2)).words
    assert words[1:] == [str(APPS / "mlserver_limited.py"), "11", "start", str(job.folder)]


@pytest.mark.parametrize("server", SERVERS, ids=lambda one: one.name)
def test_only_servers_that_shed_nothing_else_have_a_limit(server: Server, job: Job) -> None:
    started = [server.start(replace(job, limit=limit, folder=job.folder)).words for limit in (None, 7)]
    assert (started[0] != started[1]) == (server.shed_by is not None or server.name == EMPTY)
    assert not (server.ours and server.shed_by)


@pytest.mark.skipif(not Path(servers.python("mlserver")).exists(), reason="needs the environment of MLServer")
def test_mlserver_takes_the_limit() -> None:
    code = (
        "import runpy, sys, mlserver.cli as cli, mlserver.settings as settings\n"
        "cli.main = lambda: print(sys.argv[1:], settings.Settings()._custom_rest_server_settings)\n"
        "sys.argv = ['mlserver_limited.py', '11', 'start', 'folder']\n"
        f"runpy.run_path({str(APPS / 'mlserver_limited.py')!r}, run_name='__main__')\n"
    )
    ended = subprocess.run([servers.python("mlserver"), "-c", code], capture_output=True, text=True, timeout=120)
    said = ended.stdout.strip().splitlines()[-1:]
    assert said == ["['start', 'folder'] {'limit_concurrency': 11, 'log_level': 'error'}"], ended.stderr


def test_torchserve_logs_no_requests(job: Job) -> None:
    words = BY_NAME["TorchServe"].start(job).words
    root = ElementTree.parse(words[words.index("--log-config") + 1]).getroot()
    levels = {one.get("name", "root"): one.get("level") for one in root.iter() if one.tag in ("Logger", "Root")}
    assert levels["root"] == "warn" and set(levels.values()) <= {"warn", "error", "off"}
    assert [one.tag for one in root.find("Appenders") or ()] == ["Console"]


def test_an_archive_that_cannot_be_made_is_said(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(servers, "_program", lambda environment, name: sys.executable)
    with pytest.raises(Failed, match=r"torch-model-archiver failed: \w"):
        servers._archive(tmp_path / "store")


def test_peers_use_what_they_have_against_late_answers(job: Job) -> None:
    hasty = replace(job, deadline_s=0.05)
    told = [json.loads(BY_NAME["LitServe"].start(one).variables["BENCH_MODEL"]) for one in (job, hasty)]
    assert [one["timeout_s"] for one in told] == [30.0, 0.05]
    assert [one["most_queued"] for one in told] == [-1, 16]
    queues = []
    for one in (job, hasty):
        BY_NAME["TorchServe"].start(one)
        queues.append((one.folder / "config.properties").read_text())
    assert "job_queue_size=1000\n" in queues[0] and "job_queue_size=16\n" in queues[1]
    assert BY_NAME["Ray Serve"].start(job).variables["RAY_SERVE_THROUGHPUT_OPTIMIZED"] == "1"


def test_answers_are_computed_once_for_each_graph(job: Job, monkeypatch: pytest.MonkeyPatch) -> None:
    opened: list[str] = []

    def fake(told: dict[str, Any]) -> Any:
        opened.append(told["graph"])
        return lambda rows: np.full((len(rows), 3), len(opened), np.float32)

    monkeypatch.setattr(models, "opened", fake)
    first = IRIS.expected(ONNX)
    assert first is IRIS.expected(ONNX) and len(opened) == 1 and not first.flags.writeable
    assert first.shape == (models.SAMPLES, 3)
    graph = IRIS.graph(ONNX)
    time.sleep(0.02)
    graph.write_bytes(b"built anew")
    assert IRIS.expected(ONNX)[0, 0] == 2 and opened == [str(graph)] * 2


def test_the_empty_application_starts_without_an_engine(job: Job, monkeypatch: pytest.MonkeyPatch) -> None:
    @contextmanager
    def visited(*_: object, **__: object) -> Iterator[object]:
        yield SimpleNamespace(first_answer_s=0.5, process=SimpleNamespace(rss_mb=lambda: 10.0))

    monkeypatch.setattr(cold, "visited", visited)
    monkeypatch.setattr(models.Model, "expected", lambda model, engine: np.zeros((1, 3), np.float32))
    rows = cold.starts(IRIS, [BY_NAME[EMPTY], BY_NAME[OURS]], ONNX, Effort(starts=2), lambda text: None)
    assert [(row.server, row.engine, row.rounds) for row in rows] == [(EMPTY, None, 2), (OURS, ONNX, 2)]


def test_in_process_says_the_rate_of_every_batch_size(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A batch takes 2 ms whatever its size, but for the largest."""

    class Fake:
        batch_sizes = (1, 2, 4, 8, 16)
        point = SimpleNamespace(streams=2, batch=1)
        variant = SimpleNamespace(id="some")
        package = SimpleNamespace(golden=SimpleNamespace(cases=[SimpleNamespace(inputs={"x": np.zeros((3, 4))})]))

        def run(self, feeds: dict[str, np.ndarray[Any, Any]]) -> None:
            time.sleep(0.05 if len(feeds["x"]) == 8 else 0.002)

        def __enter__(self) -> Fake:
            return self

        def __exit__(self, *_: object) -> None:
            pass

    monkeypatch.setattr("shipworthy.load", lambda package: Fake())
    runpy.run_path(str(APPS / "in_process.py"))["main"]("package", 1.2)
    told = json.loads(capsys.readouterr().out)
    assert list(told["rates"]) == ["1", "2", "4", "8"] and told["batch"] == 4
    assert told["rate"] == told["rates"]["4"] and (told["streams"], told["variant"]) == (2, "some")
    assert 100 < told["rates"]["8"] < 330
