"""The promise: the base install and one engine verify and serve a package, and torch is not there.

The environment is made once for each set of pins, and kept in pytest's cache."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent.parent
PINS = (ROOT / "pyproject.toml", ROOT / "constraints.txt")

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


@dataclass(frozen=True, slots=True)
class Environment:
    """A virtual environment with the base install and one engine."""

    engine: str
    folder: Path

    def run(self, *arguments: str | Path, cwd: Path) -> subprocess.CompletedProcess[str]:
        clean = {key: value for key, value in os.environ.items() if not key.startswith(("PYTHON", "COVERAGE"))}
        command = [self.folder / "bin" / arguments[0], *arguments[1:]]
        return subprocess.run(command, capture_output=True, text=True, check=False, cwd=cwd, env=clean)

    def megabytes(self) -> float:
        return sum(path.lstat().st_size for path in self.folder.rglob("*")) / 1e6


def make(engine: str, folder: Path) -> None:
    """Create the environment; a folder is only ever seen whole, because a marker is written last."""
    shutil.rmtree(folder, ignore_errors=True)
    subprocess.run([sys.executable, "-m", "venv", folder], check=True, capture_output=True)
    install = [folder / "bin" / "python", "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
    wanted = ["--constraint", ROOT / "constraints.txt", "--editable", f"{ROOT}[{engine}]"]
    done = subprocess.run([*install, *wanted], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    (folder / ".whole").touch()


@pytest.fixture(scope="module", params=["onnxruntime", pytest.param("openvino", marks=pytest.mark.long)])
def environment(request: pytest.FixtureRequest) -> Environment:
    engine: str = request.param
    if engine == "openvino" and not request.config.getoption("--full"):
        pytest.skip("the second engine's environment is made with --full")
    text = b"".join(path.read_bytes() for path in PINS) + f"{sys.version}{ROOT}".encode()
    assert request.config.cache is not None
    cache = request.config.cache.mkdir("without-torch")
    folder = cache / f"{engine}-{hashlib.sha256(text).hexdigest()[:12]}"
    for old in cache.glob(f"{engine}-*"):
        if old != folder:
            shutil.rmtree(old)
    if not (folder / ".whole").exists():
        make(engine, folder)
    return Environment(engine, folder)


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
