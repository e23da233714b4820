"""The harness of benchmarks/optimize on a tiny model: what it measures, what it writes, and what a failing row does."""

from __future__ import annotations

import json
import sys
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT))

from benchmarks.optimize import bench as benching  # noqa: E402
from benchmarks.optimize import results, rows  # noqa: E402
from benchmarks.optimize.made import Made, make  # noqa: E402
from benchmarks.optimize.results import FIELDS, Result  # noqa: E402
from benchmarks.optimize.rows import ROWS, Row  # noqa: E402
from benchmarks.optimize.serving import Failed, Server  # noqa: E402
from benchmarks.optimize.subject import CONTRACTS, SUBJECTS, Input, Subject, read_subject  # noqa: E402
from benchmarks.optimize.timing import Effort, Laps, Point, Racer, best_point, interleave, ratio, survey  # noqa: E402

NETS = """
import torch
from torch import nn

class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.head = nn.Linear(6, 3)
    def forward(self, x):
        return self.head(x)

def tiny():
    torch.manual_seed(0)
    return Net().eval()
"""
WANTED = (
    *("model", "row", "ours", "batch1_ms", "throughput", "ratio_to_eager", "metric_drop"),
    *("size_mb", "rss_mb", "build_s", "peak_share"),
)
BROKEN = Row("broken", "A peer that is not there", "made:no_such_maker", "eager")
LOST = Row("lost", "A peer that fails once it was surveyed", "make_onnx:plain", "onnxruntime", streams=(1,))


class Failing(Server):
    """The row `lost`, which has no answers."""

    def ask(self, do: str, *, limit: float = 300.0, **parts: Any) -> dict[str, Any]:
        if self.name == "lost" and do == "answers":
            raise Failed("it has no answers")
        return super().ask(do, limit=limit, **parts)


@pytest.fixture(scope="module")
def subject(tmp_path_factory: pytest.TempPathFactory) -> Subject:
    from safetensors.torch import save_file

    root = tmp_path_factory.mktemp("optimize")
    (root / "tiny_bench_nets.py").write_text(NETS)
    made = Subject(
        "tiny",
        "A tiny model",
        "tiny_bench_nets:tiny",
        {"x": Input("float32", (6,))},
        folder=root / "data",
        root=root,
        batches=(1, 2),
        kind="mlp",
        classes=3,
    )
    made.folder.mkdir()
    save_file(made.bare().state_dict(), made.folder / "weights.safetensors")
    x = np.random.default_rng(0).standard_normal((40, 6)).astype(np.float32)
    for split in ("calibration", "holdout"):
        np.savez(made.folder / f"{split}.npz", x=x, label=np.arange(40) % 3)
    return made


def _artifacts(root: Path, subject: Subject) -> None:
    """What an earlier run would have left: a child that only makes them would import torch for nothing."""
    from onnx import TensorProto, helper, numpy_helper, save_model

    state = {name: tensor.numpy() for name, tensor in subject.module().state_dict().items()}
    graph = helper.make_graph(
        [helper.make_node("Gemm", ["x", "head.weight", "head.bias"], ["output"], transB=1)],
        "tiny",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["batch", 6])],
        [helper.make_tensor_value_info("output", TensorProto.FLOAT, ["batch", 3])],
        [numpy_helper.from_array(array, name) for name, array in state.items()],
    )
    for name in ("eager", "onnxruntime", "lost"):
        folder = root / subject.name / name
        folder.mkdir(parents=True)
        subject.write(folder / "subject.json")
        made = {"build_s": 2.0, "size_mb": 0.5, "precision": "fp32", "peak": "torch-fp32"}
        (folder / "made.json").write_text(json.dumps(made))
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)
    for name in ("onnxruntime", "lost"):
        save_model(model, root / subject.name / name / "model.onnx")


@pytest.fixture(scope="module")
def found(subject: Subject, tmp_path_factory: pytest.TempPathFactory) -> list[Result]:
    """One run of eager and ONNX Runtime, of a row without answers, and of one that cannot be made."""
    effort = Effort(look_s=0.01, slice_s=0.01, rounds=5, phase_s=1.0)
    root = tmp_path_factory.mktemp("artifacts")
    _artifacts(root, subject)
    run = benching.Run(root, effort, told=lambda _: None, resume=True)
    table = (*(replace(row, streams=(1,)) for row in ROWS if row.name in ("eager", "onnxruntime")), LOST, BROKEN)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(rows, "ROWS", table)
        patch.setattr(benching, "Server", Failing)
        return benching.bench(subject, run, peaks={"torch-fp32": 1e9})


def test_every_row_is_there_and_a_failing_one_has_its_error(found: list[Result]) -> None:
    assert [row.row for row in found] == ["eager", "onnxruntime", "lost", "broken"]
    eager, onnx, lost, broken = found
    assert eager.error is None and onnx.error is None
    assert broken.error is not None and "StopIteration" in broken.error
    assert lost.error == "it has no answers" and lost.throughput is None
    assert broken.throughput is None and broken.ratio_to_eager is None


def test_what_is_measured_fits_together(found: list[Result]) -> None:
    eager, onnx, *_ = found
    assert eager.ratio_to_eager == pytest.approx(1.0) and eager.ratio_low == pytest.approx(1.0)
    assert eager.sqnr_db == 999 and eager.metric_drop == 0
    assert onnx.sqnr_db is not None and onnx.sqnr_db > 60 and onnx.metric_drop == 0
    assert onnx.ratio_low is not None and onnx.ratio_to_eager is not None and onnx.ratio_high is not None
    assert onnx.ratio_low <= onnx.ratio_to_eager <= onnx.ratio_high
    assert (onnx.holdout, onnx.rounds, onnx.size_mb, onnx.build_s) == (40, 5, 0.5, 2.0)
    assert onnx.throughput is not None and onnx.peak_share == pytest.approx(onnx.throughput * 18 / 1e9)
    assert onnx.rss_mb is not None and 20 < onnx.rss_mb < 1000


def test_results_are_written_as_rows_and_tables(found: list[Result], tmp_path: Path) -> None:
    results.write(tmp_path, found, {"torch-fp32": 1e9}, "make bench-optimize")
    stored = json.loads((tmp_path / "results.json").read_text())
    assert [set(row) for row in stored] == [set(FIELDS)] * 4
    assert set(WANTED) <= set(FIELDS)
    assert results.read(tmp_path / "results.json") == found
    text = (tmp_path / "results.md").read_text()
    assert "| onnxruntime | fp32 |" in text and "| broken | failed: " in text and "make bench-optimize" in text
    assert "All rows together took " in text and all(row.model_s == found[0].model_s for row in found)


def test_newer_rows_of_a_model_take_the_place_of_older_ones() -> None:
    old = [Result("bert-base", "eager", False, throughput=1.0), Result("resnet50", "eager", False, throughput=2.0)]
    new = [Result("bert-base", "eager", False, throughput=3.0)]
    assert [(row.model, row.throughput) for row in results.merged(old, new)] == [("resnet50", 2.0), ("bert-base", 3.0)]


def test_a_resumed_run_takes_what_was_built(subject: Subject, tmp_path: Path) -> None:
    folder = rows.artifact_folder(tmp_path, subject, BROKEN)
    folder.mkdir(parents=True)
    (folder / "made.json").write_text(json.dumps({"build_s": 7.0}))
    assert make(BROKEN, subject, tmp_path, resume=True) == Made(build_s=7.0)
    with pytest.raises(Failed, match="there is no environment 'nowhere'"):
        make(replace(BROKEN, environment="nowhere"), subject, tmp_path, resume=False)


def test_the_picture_has_every_row(found: list[Result]) -> None:
    from benchmarks.optimize.picture import chart

    values = chart(found).to_dict()["data"]["values"]
    assert [value["name"] for value in values] == ["PyTorch eager", "ONNX Runtime, defaults", "lost", "broken"]
    assert values[3]["label"] == "failed" and values[1]["low"] <= values[1]["ratio"] <= values[1]["high"]


def test_a_racer_that_fails_leaves_the_others_racing() -> None:
    def timed(fails_at: int) -> Any:
        asked = iter(range(100))

        def ask(do: str, **parts: Any) -> dict[str, Any]:
            if next(asked) == fails_at:
                raise Failed("out of memory")
            return {"rate": 100.0, "times": [0.01]}

        return SimpleNamespace(ask=ask)

    racers = [Racer("sound", timed(-1), Point(2, 1)), Racer("late", timed(3), Point(1, 1))]
    laps, failed = interleave(racers, Effort(rounds=6))
    assert failed == {"late": "out of memory"} and laps["sound"].rates == [200.0] * 6 and "late" not in laps


def test_a_row_is_surveyed_at_its_own_batch_sizes(subject: Subject) -> None:
    opened: list[tuple[int, int]] = []

    def ask(do: str, batch: int, streams: int, **parts: Any) -> dict[str, Any]:
        opened.append((batch, streams))
        return {"rate": 10.0, "times": [0.1]}

    server: Any = SimpleNamespace(ask=ask)
    found = survey(server, replace(LOST, batches=(2, 64)), subject, Effort.quick())
    assert found == {Point(2, 1): 20.0} and set(opened) == {(2, 1)}


def test_models_run_in_the_order_that_they_are_named_in() -> None:
    assert [one.name for one in rows.subjects_named(("tabular", "resnet50"))] == ["tabular", "resnet50"]
    assert rows.subjects_named(()) == list(SUBJECTS)


def test_ratios_are_geometric_means_over_rounds() -> None:
    found = ratio(Laps(rates=[4.0, 1.0, 2.0]), Laps(rates=[1.0, 1.0, 1.0]))
    assert found.mean == pytest.approx(2.0)
    assert found.low * found.high == pytest.approx(4.0) and found.low < 2 < found.high


def test_the_best_point_is_the_smallest_of_those_that_are_equal() -> None:
    assert best_point({Point(1, 1): 50.0, Point(4, 1): 98.0, Point(8, 1): 100.0, Point(4, 2): 99.0}) == Point(4, 1)


@pytest.mark.parametrize("subject", SUBJECTS, ids=lambda subject: subject.name)
def test_contracts_say_the_same_as_the_subjects(subject: Subject, tmp_path: Path) -> None:
    from shipworthy import read_contract

    assert read_subject(subject.write(tmp_path / "subject.json")) == subject
    for file in subject.contracts.values():
        contract = read_contract(CONTRACTS / file)
        assert contract.model == subject.factory
        assert {name: (spec.dtype, spec.shape[1:]) for name, spec in contract.inputs.items()} == {
            name: (one.dtype, one.shape) for name, one in subject.inputs.items()
        }
        assert contract.path(str(contract.weights)).resolve().parent == subject.folder.resolve()
