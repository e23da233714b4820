"""The promise: the base install and one engine verify and serve a package, and torch is not there."""

from __future__ import annotations

import json
import time
from pathlib import Path

import pytest

from without_torch import Environment

ASK = """
import importlib.util, json, sys
from shipworthy.package import verify
from shipworthy.predict import load

path, engine = sys.argv[1:]
report = verify(path)
with load(path) as predictor:
    one = predictor.predict({"features": [5.1, 3.5, 1.4, 0.2]})
    many = predictor.predict([[5.1, 3.5, 1.4, 0.2], [6.2, 2.9, 4.3, 1.3]])
    said = predictor.passed_over
print(json.dumps({
    "torch": importlib.util.find_spec("torch") is not None or "torch" in sys.modules,
    "replayed": [row.id for row in report.variants if row.replayed],
    "details": [row.detail for row in report.variants],
    "passed_over": said, "one": one, "many": many["predictions"],
}))
"""

FIRST_ANSWER = """
import sys
from shipworthy.predict import load
print(load(sys.argv[1]).predict([5.1, 3.5, 1.4, 0.2])["label"], flush=True)
"""


@pytest.mark.timeout(1200)
def test_a_package_is_verified_and_answers_without_torch(
    environment: Environment, stored_ship: Path, tmp_path: Path
) -> None:
    done = environment.run("python", "-c", ASK, stored_ship, environment.engine, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    said = json.loads(done.stdout)
    assert said["torch"] is False
    assert said["replayed"] == [f"{environment.engine}-fp32"]
    assert said["one"]["variant"] == f"{environment.engine}-fp32"
    assert [answer["sample_index"] for answer in said["many"]] == [0, 1]
    assert said["many"][0]["label"] == said["one"]["label"]
    other = {"onnxruntime": "openvino", "openvino": "onnxruntime"}[environment.engine]
    assert any(f"shipworthy[{other}]" in detail for detail in said["details"])
    assert [name for name, _ in said["passed_over"]] == ([f"{other}-fp32"] if other == "onnxruntime" else [])


@pytest.mark.timeout(1200)
def test_torch_cannot_be_imported_there(environment: Environment, tmp_path: Path) -> None:
    done = environment.run("python", "-c", "import torch", cwd=tmp_path)
    assert done.returncode == 1 and "No module named 'torch'" in done.stderr


@pytest.mark.timeout(1200)
def test_the_command_line_works_there(environment: Environment, stored: Path, tmp_path: Path) -> None:
    verified = environment.run("shipworthy", "verify", "--json", stored, cwd=tmp_path)
    assert verified.returncode == 0, verified.stderr
    assert json.loads(verified.stdout)["name"] == "iris"
    asked = environment.run("shipworthy", "predict", stored, '{"features": [5.1, 3.5, 1.4, 0.2]}', cwd=tmp_path)
    assert asked.returncode == 0, asked.stderr
    assert json.loads(asked.stdout)["model"] == "iris"


@pytest.mark.timeout(1200)
def test_no_other_engine_is_there(environment: Environment, tmp_path: Path) -> None:
    code = """
from shipworthy.runtime import ENGINES, engine_version
print([name for name, engine in ENGINES.items() if engine.packable and engine_version(name) is not None])
"""
    done = environment.run("python", "-c", code, cwd=tmp_path)
    assert done.stdout.strip() == str([environment.engine]), done.stderr


@pytest.mark.timeout(1200)
def test_the_environment_is_small_and_soon_answers(
    environment: Environment, stored_ship: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    seconds = []
    for _ in range(3):
        start = time.perf_counter()
        done = environment.run("python", "-c", FIRST_ANSWER, stored_ship, cwd=tmp_path)
        seconds.append(time.perf_counter() - start)
        assert done.returncode == 0, done.stderr
    size = environment.megabytes()
    with capsys.disabled():
        print(f"\n{environment.engine}, no torch: {size:.0f} MB, first answer after {min(seconds):.2f} s")
    assert size < 400
