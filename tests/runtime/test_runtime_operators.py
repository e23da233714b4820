"""What an engine spends its time on, node by node."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from engine_zoo import Ready
from torch import nn

from shipworthy.contract import Contract
from shipworthy.errors import EngineError, InputError, MissingExtra
from shipworthy.exporters import export
from shipworthy.model import LoadedModel, infer_outputs
from shipworthy.runtime import ENGINES, Artifact, OperatingPoint, open_runner
from shipworthy.runtime.operators import OperatorTime, _own_times, operator_times

Make = Callable[[str, str, str], Ready]

ENGINES_THAT_TELL = ("openvino", "onnxruntime")
POINT = OperatingPoint(threads=1, batch=8)


class Wide(nn.Module):
    """Takes milliseconds, so that whole microseconds are exact enough."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(16, 64, 3, padding=1)
        self.body, self.head = nn.Linear(64 * 256, 256), nn.Linear(256, 64)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.head(torch.tanh(self.body(torch.relu(self.conv(x)).flatten(1))))


class Branch(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.up, self.down = nn.Linear(64, 512), nn.Linear(64, 512)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        if x.sum() > 0:  # noqa: SIM108 - a branch as scripts know it
            y = self.up(x)
        else:
            y = torch.relu(self.down(x))
        return y


def artifact_of(module: nn.Module, shape: list[str | int], engine: str, folder: Path) -> Artifact:
    contract = Contract.model_validate({"name": "net", "inputs": {"x": {"dtype": "float32", "shape": shape}}})
    random = np.random.default_rng(0)
    sizes = [size for size in shape[1:] if isinstance(size, int)]
    probes = [{"x": random.standard_normal((n, *sizes)).astype("float32") + s} for n in (2, 3) for s in (1, -1)]
    model = LoadedModel("module", module.eval())
    contract = infer_outputs(model, contract, probes[0], probes[-1])
    return export(model, contract, engine, "fp32", folder, probes).artifact


@pytest.mark.parametrize("engine", ENGINES_THAT_TELL)
def test_the_nodes_are_those_that_execute(engine: str, ready: Make) -> None:
    made = ready(engine, "fp32", "conv")
    found = operator_times(made.exported.artifact, POINT, made.specimen.feeds(8), seconds=0.1)
    runner = open_runner(made.exported.artifact)
    heavy = {(kernel.op, kernel.precision): kernel.count for kernel in runner.kernels() if kernel.heavy}
    runner.close()
    counted: dict[tuple[str, str], int] = {}
    for row in found:
        assert row.us >= 0 and row.calls >= 5
        if row.heavy:
            counted[row.op, row.precision] = counted.get((row.op, row.precision), 0) + 1
    assert counted == heavy
    assert [row.us for row in found] == sorted((row.us for row in found), reverse=True)
    assert OperatorTime.model_validate_json(found[0].model_dump_json()) == found[0]


@pytest.mark.parametrize("engine", ENGINES_THAT_TELL)
def test_the_times_add_up_to_that_of_a_run(engine: str, tmp_path: Path) -> None:
    artifact = artifact_of(Wide(), ["batch", 16, 16, 16], engine, tmp_path)
    feeds = {"x": np.ones((8, 16, 16, 16), "float32")}
    runner = open_runner(artifact, POINT)
    for _ in range(3):
        runner.run(feeds)
    times = []
    for _ in range(15):
        start = time.perf_counter()
        runner.run(feeds)
        times.append(time.perf_counter() - start)
    runner.close()
    total = sum(row.us for row in operator_times(artifact, POINT, feeds, seconds=0.2))
    # The machine may be busy with something else in either of the two: only a wrong unit or a wrong count is meant.
    assert 0.25 * min(times) * 1e6 < total < 10 * max(times) * 1e6


def test_bf16_is_seen(ready: Make) -> None:
    made = ready("openvino", "bf16", "mlp")
    found = operator_times(made.exported.artifact, POINT, made.specimen.feeds(256), seconds=0.05)
    assert {row.precision for row in found if row.heavy} == {"bf16"}


def test_openvino_counts_a_branch_as_one_node_with_its_precision(tmp_path: Path) -> None:
    artifact = artifact_of(Branch(), ["batch", 64], "openvino", tmp_path)
    found = operator_times(artifact, POINT, {"x": np.ones((64, 64), "float32")}, seconds=0.1)
    branch = next(row for row in found if row.op == "If")
    assert (branch.precision, branch.heavy) == ("fp32", True)


def test_onnxruntime_shows_what_is_inside_a_branch(tmp_path: Path) -> None:
    artifact = artifact_of(Branch(), ["batch", 64], "onnxruntime", tmp_path)
    found = {row.op: row for row in operator_times(artifact, POINT, {"x": np.ones((8, 64), "float32")}, seconds=0.05)}
    assert {"If", "Gemm"} <= set(found)
    assert "Relu" not in found, "the branch that was not taken"


def test_a_node_has_not_the_time_of_those_inside_it() -> None:
    def event(name: str, start: int, length: int, cat: str = "Node") -> dict[str, object]:
        return {"cat": cat, "name": name, "ts": start, "dur": length, "tid": 1, "args": {"op_name": name[0]}}

    warm = [event("model_run", start, 5, "Session") for start in (0, 10, 20)]
    late = [event("X_kernel_time", 11, 2), event("model_run", 30, 40, "Session")]
    nodes = [("I_kernel_time", 31, 20), ("A_kernel_time", 32, 5), ("B_kernel_time", 40, 12), ("C_kernel_time", 52, 4)]
    found = _own_times([*warm, *late, *(event(*node) for node in nodes)])
    assert [(node.name, node.own) for node in found] == [("I", 3), ("A", 5), ("B", 12), ("C", 4)]


@pytest.mark.parametrize("engine", [name for name in ENGINES if name not in (*ENGINES_THAT_TELL, "onnx-reference")])
def test_an_engine_that_cannot_tell(engine: str, ready: Make) -> None:
    artifact = replace(ready("onnxruntime", "fp32", "mlp").exported.artifact, engine=engine)
    with pytest.raises(EngineError, match=r"does not tell.*use one of openvino, onnxruntime"):
        operator_times(artifact, POINT, {})


@pytest.mark.parametrize("engine", ENGINES_THAT_TELL)
def test_wrong_feeds_files_and_a_missing_engine(
    engine: str, ready: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = ready(engine, "fp32", "mlp")
    feeds = made.specimen.feeds(2)
    with pytest.raises(InputError, match="features"):
        operator_times(made.exported.artifact, POINT, {})
    with pytest.raises(EngineError, match=r"refuses|cannot be timed"):
        operator_times(replace(made.exported.artifact, directory=tmp_path), POINT, feeds)
    monkeypatch.setitem(sys.modules, ENGINES[engine].module, None)
    with pytest.raises(MissingExtra):
        operator_times(made.exported.artifact, POINT, feeds)


def test_the_module_brings_no_engine() -> None:
    code = (
        "import sys, shipworthy.runtime.operators;"
        "heavy = [m for m in ('torch', 'onnxruntime', 'openvino') if m in sys.modules];"
        "assert not heavy, heavy"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
