"""A real MLflow server, which lives in an environment of its own, and packages with evidence."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from shipworthy.evidence import Candidate, CandidateResult, Evidence, LatencyPoint, MetricEvidence, ThroughputPoint
from shipworthy.package import read_package, write_package, write_ship
from shipworthy.registry import Registry
from shipworthy.runtime.protocol import OperatingPoint

TESTS = Path(__file__).parent.parent
STORED = TESTS / "package" / "stored" / "format1"
ENVIRONMENT = TESTS / ".envs" / "mlflow"
PYTHON = ENVIRONMENT / "bin" / "python"

QUIET = {"MLFLOW_DISABLE_TELEMETRY": "true", "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"}
STARTS_S = 120


def make_ship(folder: Path, name: str = "digits", why: str = "the fastest") -> Path:
    """The stored package under another name, with evidence; another `why` is another digest."""
    with read_package(STORED) as stored:
        record = stored.record.model_copy(
            update={"name": name, "why": why, "results": (*stored.record.results, _measured(0.9, 2.0), _measured(0.8))}
        )
        tree = write_package(
            folder / f"{name}-tree",
            contract=stored.manifest.contract.model_copy(update={"name": name}),
            variants=[(variant, stored.root / variant.directory) for variant in stored.manifest.variants],
            golden=stored.golden,
            record=record,
            report_html=f"<title>{why}</title>",
            card=f"# {name}\n\n{why}\n",
            replace=True,
        )
    return write_ship(tree, folder / f"{name}.ship")


def _measured(accuracy: float, p50_ms: float | None = None) -> CandidateResult:
    engine = "openvino" if p50_ms is None else "onnxruntime"
    point = OperatingPoint(streams=2, threads=2, batch=8)
    evidence = Evidence(
        metrics=(
            MetricEvidence(
                name="accuracy", split="holdout", samples=100, eager=0.9, candidate=accuracy, drop=0.9 - accuracy
            ),
        ),
        latency=()
        if p50_ms is None
        else tuple(LatencyPoint(batch=n, p50_ms=p50_ms * n, p99_ms=9, runs=9) for n in (1, 8)),
        throughput=(ThroughputPoint(point=point, items_per_s=1000, p50_ms=3, p99_ms=float("inf")),),
        best=point,
        size_mb=0.5,
    )
    verdict = "chosen" if p50_ms else "accepted"
    return CandidateResult(
        candidate=Candidate(engine=engine, precision="fp32"), verdict=verdict, reason="measured", evidence=evidence
    )


def make_registry(folder: Path) -> Registry:
    return Registry(folder, who="ann@harbour")


@contextmanager
def mlflow_server(folder: Path) -> Iterator[str]:
    """The address of a server that keeps everything in `folder`."""
    if not PYTHON.exists():
        pytest.skip(f"there is no MLflow server in {ENVIRONMENT}; make it with: make mlflow-server")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [PYTHON.with_name("mlflow"), "server", "--host", "127.0.0.1", "--port", str(port), "--workers", "1"]
    command += [
        "--backend-store-uri",
        f"sqlite:///{folder}/mlflow.db",
        "--artifacts-destination",
        f"{folder}/artefacts",
    ]
    with (folder / "log").open("w") as log:
        # A session of its own: the server starts processes, and all of them are stopped together.
        process = subprocess.Popen(
            command, stdout=log, stderr=log, cwd=folder, env={**os.environ, **QUIET}, start_new_session=True
        )
    try:
        uri = f"http://127.0.0.1:{port}"
        _wait(uri, process, folder / "log")
        yield uri
    finally:
        os.killpg(process.pid, signal.SIGTERM)
        try:
            process.wait(10)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait(10)


def _wait(uri: str, process: subprocess.Popen[bytes], log: Path) -> None:
    until = time.monotonic() + STARTS_S
    while time.monotonic() < until and process.poll() is None:
        try:
            with urllib.request.urlopen(f"{uri}/health", timeout=5):
                return
        except OSError:
            time.sleep(0.1)
    pytest.fail(f"the MLflow server did not start:\n{log.read_text()[-2000:]}")


def run_there(code: str, uri: str) -> subprocess.CompletedProcess[str]:
    """Run Python where the whole of MLflow is installed, as a user of MLflow would."""
    environment = {**os.environ, **QUIET, "MLFLOW_TRACKING_URI": uri, "PYTHONWARNINGS": "ignore"}
    return subprocess.run([PYTHON, "-c", code], capture_output=True, text=True, check=False, env=environment)
