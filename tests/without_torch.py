"""Virtual environments with the base install and one engine, without torch.

Each is made once for each set of pins, and kept in pytest's cache."""

from __future__ import annotations

import fcntl
import hashlib
import os
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PINS = (ROOT / "pyproject.toml", ROOT / "constraints.txt")


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


@pytest.fixture(scope="session", params=["onnxruntime", pytest.param("openvino", marks=pytest.mark.long)])
def environment(request: pytest.FixtureRequest) -> Environment:
    engine: str = request.param
    if engine == "openvino" and not request.config.getoption("--full"):
        pytest.skip("the second engine's environment is made with --full")
    text = b"".join(path.read_bytes() for path in PINS) + f"{sys.version}{ROOT}".encode()
    assert request.config.cache is not None
    cache = request.config.cache.mkdir("without-torch")
    folder = cache / f"{engine}-{hashlib.sha256(text).hexdigest()[:12]}"
    with (cache / f"{engine}.lock").open("w") as lock:
        # Another test process may want the same one.
        fcntl.flock(lock, fcntl.LOCK_EX)
        for old in cache.glob(f"{engine}-*"):
            if old != folder:
                shutil.rmtree(old)
        if not (folder / ".whole").exists():
            make(engine, folder)
    return Environment(engine, folder)
