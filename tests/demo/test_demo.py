"""The demo as a newcomer types it, what it leaves behind, and the README's own lines run on that."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import time
import urllib.request
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from shipworthy.contract import read_contract
from shipworthy.predict import load
from without_torch import Environment

ROOT = Path(__file__).parent.parent.parent
PORTABLE = ("onnxruntime", "openvino")

# It builds for minutes, and `make demo` shows the most of it.
pytestmark = [pytest.mark.full, pytest.mark.timeout(1200)]


def shipworthy(*words: str | Path, cwd: Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "shipworthy", *map(str, words)]
    done = subprocess.run(command, cwd=cwd, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done


def last_line(done: subprocess.CompletedProcess[str]) -> dict[str, Any]:
    line: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return line


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("demo")


@pytest.fixture(scope="module")
def said(home: Path) -> dict[str, Any]:
    """What `shipworthy demo --once` says last, in an empty folder."""
    return last_line(shipworthy("demo", "--once", cwd=home))


@pytest.fixture(scope="module")
def project(home: Path, said: dict[str, Any]) -> Path:
    return home / "shipworthy-demo"


def test_the_accuracy_over_http_is_the_variants_own(said: dict[str, Any]) -> None:
    assert said["accuracy_http"] == said["accuracy_in_process"]
    assert said["accuracy_eager"] > 0.9


def test_the_accuracy_is_within_the_contracts_limit(said: dict[str, Any], project: Path) -> None:
    limit = read_contract(project / "shipworthy.toml").limits.max_metric_drop
    assert limit is not None
    assert said["accuracy_eager"] - said["accuracy_http"] <= limit


def test_five_engines_are_measured_and_the_chosen_one_is_faster_than_eager(said: dict[str, Any]) -> None:
    assert set(said["engines"]) == {"torch", "torchscript", "aoti", "onnxruntime", "openvino"}
    assert said["chosen"].split("-")[0] in said["engines"]
    assert said["speedup"] > 1
    assert said["first_answer_s"] > 0


def test_noise_in_what_is_asked_is_noticed(said: dict[str, Any]) -> None:
    assert "image" in said["drift"]
    assert said["drift_scored"] > 0


def test_the_report_and_the_package_are_there(said: dict[str, Any], home: Path, project: Path) -> None:
    assert said["chosen"] in (project / "report.html").read_text(encoding="utf-8")
    report = json.loads(shipworthy("verify", "--json", "--allow-code", said["package"], cwd=home).stdout)
    assert all(row["replayed"] for row in report["variants"])


def test_a_second_run_repeats_no_measurement(said: dict[str, Any], home: Path, project: Path) -> None:
    journal = project / ".shipworthy" / "digits" / "journal.jsonl"

    def started() -> list[str]:
        rows = [json.loads(line) for line in journal.read_text(encoding="utf-8").splitlines()]
        return [row["key"] for row in rows if row["event"] == "started"]

    before = started()
    again = last_line(shipworthy("demo", "--once", cwd=home))
    assert started() == before
    # What the monitor has seen by then is a matter of chance, and of when.
    assert {**again, "first_answer_s": 0, "drift": ""} == {**said, "first_answer_s": 0, "drift": ""}
    assert all(" drifts: " in each["drift"] for each in (again, said))


@pytest.fixture(scope="module")
def portable(project: Path) -> Path:
    """A package of the same model for the engines that need no torch; what was measured before is taken up."""
    engines = [word for engine in PORTABLE for word in ("--engine", engine)]
    shipworthy("build", *engines, "--quiet", "--out", "portable.ship", cwd=project)
    return project / "portable.ship"


def test_it_is_verified_and_served_where_there_is_no_torch(
    portable: Path, environment: Environment, capsys: pytest.CaptureFixture[str]
) -> None:
    verified = environment.run("shipworthy", "verify", portable, cwd=portable.parent)
    assert verified.returncode == 0, verified.stderr
    assert f"replayed: {environment.engine}-fp32" in verified.stdout
    image = np.load(portable.parent / "holdout.npz")["image"][:3]
    answers, seconds = served_answers(environment, portable, image)
    variant = answers[0]["variant"]
    with load(portable, variant=variant) as predictor:
        expected = predictor.predict([{"image": one} for one in image])["predictions"]
    for got, here in zip(answers, expected, strict=True):
        assert got["predicted_class"] == here["predicted_class"]
        assert np.allclose(got["probabilities"], here["probabilities"], atol=1e-5)
    with capsys.disabled():
        print(f"\ndemo, {variant}, no torch: {environment.megabytes():.0f} MB, first answer after {seconds:.2f} s")


def served_answers(environment: Environment, package: Path, images: np.ndarray) -> tuple[list[dict[str, Any]], float]:
    """Answers of `shipworthy serve` in that environment, and the seconds from the command to the first one."""
    clean = {key: value for key, value in os.environ.items() if not key.startswith("PYTHON")}
    start = time.perf_counter()
    command = [environment.folder / "bin" / "shipworthy", "serve", package, "--port", "0"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=clean) as server:
        assert server.stdout is not None
        url = next(line.split()[1] for line in server.stdout if line.startswith("ready: "))
        body = json.dumps({"instances": [{"image": image.tolist()} for image in images]}).encode()
        request = urllib.request.Request(f"{url}/predict", body, {"content-type": "application/json"})
        with urllib.request.urlopen(request, timeout=30) as response:
            answers = json.load(response)["predictions"]
        seconds = time.perf_counter() - start
        server.terminate()
        assert server.wait(30) == 0
    return answers, seconds


def test_the_readmes_python_runs(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    blocks = re.findall(r"```python\n(.*?)```", (ROOT / "README.md").read_text(encoding="utf-8"), re.DOTALL)
    assert blocks
    monkeypatch.chdir(project)
    monkeypatch.syspath_prepend(str(project))
    for block in blocks:
        exec(compile(block, "README.md", "exec"), {})


def test_a_taken_port_is_said_without_a_traceback(project: Path) -> None:
    import socket

    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        command = [sys.executable, "-m", "shipworthy", "demo", "--once", "--port", str(taken.getsockname()[1])]
        done = subprocess.run(command, cwd=project.parent, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert "in use" in done.stderr
    assert "Traceback" not in done.stderr
