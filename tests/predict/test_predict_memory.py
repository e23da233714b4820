"""Packages that come and go leave nothing behind."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import mlp
import numpy as np
import pytest

from shipworthy.contract import Array

RELOADS = """
import os, sys
from shipworthy.predict import load

def resident() -> float:
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 1e6

package, variant, cycles = sys.argv[1], sys.argv[2], int(sys.argv[3])
sizes = []
for _ in range(cycles):
    with load(package, variant=variant) as predictor:
        predictor.predict([[1.0, 2, 3, 4]] * 9)
    sizes.append(resident())
print(" ".join(map(str, sizes)))
"""
HIDDEN = 200_000
"""Units that make weights of 6.4 MB: a package that stays in memory cannot be overlooked."""


def eager(features: Array) -> Array:
    """As mlp's own, without the threads of a BLAS: those may hang in a process whose other tests have forked it."""
    w1, b1, w2, b2 = mlp.weights()
    hidden = np.maximum(np.einsum("bi,ih->bh", features, w1) + b1, np.float32(0))
    logits: Array = np.einsum("bh,hc->bc", hidden, w2) + b2
    return logits


@pytest.fixture(scope="module")
def large(tmp_path_factory: pytest.TempPathFactory) -> Path:
    pytest.importorskip("onnxruntime")
    pytest.importorskip("openvino")
    folder = tmp_path_factory.mktemp("large")
    random = np.random.default_rng(5)
    weights = tuple(random.normal(0, 0.01, size).astype(np.float32) for size in ((4, HIDDEN), HIDDEN, (HIDDEN, 3), 3))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(mlp, "weights", lambda: weights)
        patch.setattr(mlp, "eager", eager)
        graph = mlp.write_onnx(folder / "onnx")
        both = [("onnxruntime", graph), ("openvino", mlp.write_openvino(folder / "openvino", graph))]
        variants = [(mlp.variant(engine, tolerance={"logits": 0.01}), path) for engine, path in both]
        return mlp.write(folder / "package", folder / "work", variants=variants)


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="reads /proc")
@pytest.mark.parametrize("engine", ["onnxruntime", "openvino"])
def test_memory_returns_to_its_level(engine: str, large: Path, request: pytest.FixtureRequest) -> None:
    """Of 100 loads with --full, of 10 without. The first ones fill the caches that an engine has for itself."""
    cycles = 100 if request.config.getoption("--full") else 10
    done = subprocess.run(
        [sys.executable, "-c", RELOADS, str(large), f"{engine}-fp32", str(cycles)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    sizes = [float(size) for size in done.stdout.split()]
    assert len(sizes) == cycles
    level = max(sizes[:3])
    assert max(sizes[3:]) < level + 5, sizes
