"""The examples of docs/protocol.md, run as they stand."""

from __future__ import annotations

import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from server_cases import digits, predictor
from v2_cases import Served, serving

from shipworthy.contract import Arrays
from shipworthy.predict import Predictor

pytest.importorskip("tritonclient")

PAGE = (Path(__file__).parents[2] / "docs" / "protocol.md").read_text(encoding="utf-8")


_MEANS = np.array([[5.006, 3.428, 1.462, 0.246], [5.936, 2.77, 4.26, 1.326], [6.588, 2.974, 5.552, 2.026]], np.float32)


def iris() -> Predictor:
    """The nearest of the mean flowers of Fisher's data set."""

    def run(feeds: Arrays) -> dict[str, np.ndarray]:
        return {"logits": -((feeds["features"][:, None] - _MEANS) ** 2).sum(axis=2)}

    given = {
        "name": "iris",
        "inputs": {"features": {"dtype": "float32", "shape": ("batch", 4)}},
        "outputs": {"logits": {"dtype": "float32", "shape": ("batch", 3), "kind": "logits"}},
        "task": {"kind": "classification", "labels": ("setosa", "versicolor", "virginica")},
    }
    return predictor(given, run)


@pytest.fixture(scope="module")
def served() -> Iterator[Served]:
    with serving(iris(), digits()) as server:
        yield server


def here(block: str, served: Served) -> str:
    """The block with the addresses of this server."""
    assert "localhost:8000" in block or "localhost:8001" in block
    return block.replace("localhost:8000", served.http).replace("localhost:8001", served.grpc)


@pytest.mark.parametrize("block", re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL))
def test_python_examples_hold(block: str, served: Served) -> None:
    exec(compile(here(block, served), "protocol.md", "exec"), {})


@pytest.mark.skipif(shutil.which("curl") is None, reason="curl is not installed")
@pytest.mark.parametrize("block", re.findall(r"```bash\n(.*?)```", PAGE, re.DOTALL))
def test_curl_examples_are_answered(block: str, served: Served, tmp_path: Path) -> None:
    script = here(block, served).replace("curl -s", "curl -s --fail-with-body")
    done = subprocess.run(["bash", "-e", "-c", script], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    answer = done.stdout or (tmp_path / "answer.bin").read_text(encoding="latin-1")
    assert answer.startswith(("{", "[")) and '"error"' not in answer
    if "classification" in block:
        assert ":0:setosa" in answer
