"""int8 graphs for OpenVINO: what executes, what goes back to float, what is stored, and that it is the same again."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from quantize_subjects import (
    FLOATS,
    IMAGES,
    PAIR,
    WORDS,
    Attention,
    Branch,
    Case,
    Conv,
    NoWeights,
    Recurrent,
    TwoInputs,
    case,
)
from torch import nn

from shipworthy.compress import AccuracyAware, Dynamic, Rest, Static
from shipworthy.compress.made import Quantized
from shipworthy.compress.quantization.graph import quantize_graph
from shipworthy.compress.quantization.openvino import OpenVinoGraph, static
from shipworthy.compress.quantization.report import compression
from shipworthy.errors import CompressError
from shipworthy.measure.kernels import precision_refusal
from shipworthy.runtime import Artifact, Kernel, open_runner

NETS: dict[str, tuple[type[nn.Module], dict[str, Any], Sequence[int], list[str]]] = {
    "convolutions": (Conv, IMAGES, (6,), ["Convolution", "Convolution", "Convolution", "MatMul"]),
    "recurrent": (Recurrent, WORDS, (4, 9), ["Gather", "MatMul"]),
    "branch": (Branch, FLOATS, (6,), ["MatMul", "MatMul", "MatMul"]),
    "two inputs": (TwoInputs, PAIR, (6,), ["MatMul", "MatMul", "MatMul"]),
}


# Exporting an LSTM takes seconds.
_RECURRENT = pytest.param("recurrent", marks=pytest.mark.full)


def _heavy(artifact: Artifact) -> dict[str, int]:
    """How many heavy kernels execute in each precision."""
    counts: dict[str, int] = {}
    for kernel in _kernels(artifact):
        if kernel.heavy:
            counts[kernel.precision] = counts.get(kernel.precision, 0) + kernel.count
    return counts


def _kernels(artifact: Artifact) -> tuple[Kernel, ...]:
    runner = open_runner(artifact)
    try:
        return runner.kernels()
    finally:
        runner.close()


_EXPORTED: dict[str, Case] = {}
_CALIBRATED: dict[str, OpenVinoGraph] = {}
"""Each net is exported and calibrated once; tests write into folders of their own."""


def _case(name: str, folder: Path, exported: Path) -> Case:
    net, inputs, lengths, _ = NETS[name]
    if name not in _EXPORTED:
        _EXPORTED[name] = case(net(), inputs, exported / name, lengths=lengths)
    return _EXPORTED[name].within(folder)


def _graph(name: str, subject: Case) -> OpenVinoGraph:
    if name not in _CALIBRATED:
        _CALIBRATED[name] = static(subject.job, Static())
    return replace(_CALIBRATED[name], job=subject.job)


@pytest.mark.full
@pytest.mark.parametrize("name", [_RECURRENT if name == "recurrent" else name for name in NETS])
def test_a_graph_is_int8_and_float_again_where_that_is_asked_for(name: str, tmp_path: Path, folder: Path) -> None:
    subject = _case(name, tmp_path, folder)
    graph = _graph(name, subject)
    assert [graph.kinds[operation] for operation in graph.operations] == NETS[name][3]
    whole = graph.save((), "fp32")
    assert subject.sqnr(whole) > 25
    heavy = sum(kind != "Gather" for kind in NETS[name][3])
    assert _heavy(whole).get("int8", 0) == heavy
    one = graph.save(graph.operations[-1:], "fp32")
    assert _heavy(one).get("int8", 0) == heavy - 1
    assert subject.sqnr(graph.save(graph.operations, "fp32")) > 100


@pytest.mark.full
def test_attention_over_texts_of_any_length(tmp_path: Path) -> None:
    subject = case(Attention(), WORDS, tmp_path, lengths=(5, 11))
    made = quantize_graph(subject.job, Static(), "openvino")
    assert {operation.op for operation in made.report.operations} >= {"Gather", "MatMul", "ScaledDotProductAttention"}
    assert any("SmoothQuant" in note for note in made.report.notes)
    assert set(_heavy(made.artifact)) == {"int8"}
    assert all(operation.sqnr_db is not None for operation in made.report.operations)
    longest = {"x": np.ones((1, 32), np.int64)}
    assert subject.answers(made.artifact, [longest])[0].keys() == subject.job.contract.outputs.keys()


def test_the_same_data_gives_the_same_bytes(tmp_path: Path, folder: Path) -> None:
    subject = _case("convolutions", tmp_path, folder)
    folders = [
        graph.save((), "fp32").directory
        for graph in (
            _graph("convolutions", subject.within(tmp_path / "first")),
            static(subject.within(tmp_path / "again").job, Static()),
        )
    ]
    first, again = ({file.name: file.read_bytes() for file in folder.iterdir()} for folder in folders)
    assert first == again


def test_weights_are_stored_in_a_quarter_of_the_bytes(tmp_path: Path, folder: Path) -> None:
    subject = _case("convolutions", tmp_path, folder)
    graph = _graph("convolutions", subject)
    assert subject.job.base is not None
    whole = (subject.job.base.directory / "model.bin").stat().st_size
    in_int8 = (graph.save((), "fp32").directory / "model.bin").stat().st_size
    assert in_int8 < 0.28 * whole
    one_in_float = (graph.save(graph.operations[1:2], "fp32").directory / "model.bin").stat().st_size
    assert one_in_float - in_int8 > 0.7 * 32 * 32 * 9 * 4, "the weights of one operation are in fp32"


def test_the_rest_executes_in_bf16_where_the_graph_says_so(tmp_path: Path, folder: Path) -> None:
    subject = _case("convolutions", tmp_path, folder)
    graph = _graph("convolutions", subject)
    kept = graph.operations[1:2]
    assert set(_heavy(graph.save(kept, "fp32"))) == {"int8", "fp32"}
    artifact = graph.save(kept, "fp32")
    job = replace(subject.job, base=artifact, directory=tmp_path / "bf16")
    artifact = quantize_graph(job, Rest(), "openvino").artifact
    assert "shipworthy" in (artifact.directory / "model.xml").read_text()
    from shipworthy.runtime import this_host

    if this_host().isa & {"avx512_bf16", "amx_bf16"}:
        assert set(_heavy(artifact)) == {"int8", "bf16"}


@pytest.mark.full
def test_the_most_sensitive_operation_is_found(tmp_path: Path) -> None:
    """The search for operations in float shows it too."""
    net = Conv()
    import torch

    with torch.no_grad():
        net.second.weight[:, 3] /= 1e4
        assert net.first.bias is not None
        net.first.weight[3] *= 1e4
        net.third.weight[3] *= 1e4
    subject = case(net, IMAGES, tmp_path)
    graph = static(subject.job, Static())
    assert subject.job.calibration is not None
    found = graph.sensitivity([batch.inputs for batch in subject.job.calibration.batches(1)])
    assert set(found) == set(graph.operations)
    assert min(found, key=lambda name: found[name]) == graph.operations[1]


def test_a_model_without_weights_has_nothing_to_quantize(tmp_path: Path) -> None:
    subject = case(NoWeights(), FLOATS, tmp_path)
    with pytest.raises(CompressError, match="nothing to quantize"):
        quantize_graph(subject.job, Static(), "openvino")


class _OnlyBranches(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.yes, self.no = nn.Linear(32, 8), nn.Linear(32, 8)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.cond(x.sum() > 0, lambda x: self.yes(x), lambda x: self.no(x), (x,))


@pytest.mark.full
def test_weights_that_are_all_in_branches_become_int8(tmp_path: Path) -> None:
    made = quantize_graph(case(_OnlyBranches(), FLOATS, tmp_path).job, Static(), "openvino")
    assert [operation.precision for operation in made.report.operations] == ["int8", "int8"]


def test_a_rest_without_int8_weights_before_it_is_refused(tmp_path: Path, folder: Path) -> None:
    subject = _case("two inputs", tmp_path, folder)
    with pytest.raises(CompressError, match="starts from an int8 graph"):
        quantize_graph(subject.job, Rest(), "openvino")


def test_a_graph_that_is_kept_in_float_altogether_is_refused(tmp_path: Path, folder: Path) -> None:
    subject = _case("two inputs", tmp_path, folder)
    every = _graph("two inputs", subject).operations
    with pytest.raises(CompressError, match="all 3 operations stay in float"):
        quantize_graph(subject.job, Static(keep_float=every), "openvino")
    with pytest.raises(CompressError, match="all 3 operations stay in float"):
        aware = AccuracyAware(max_drop=0.0)
        quantize_graph(subject.job, aware, "openvino", lambda made: float("int8" in _heavy(made)))


def test_a_graph_that_executes_no_integers_is_refused_whatever_it_is_called(tmp_path: Path, folder: Path) -> None:
    subject = _case("two inputs", tmp_path, folder)
    assert subject.job.base is not None
    named = replace(subject.job.base, precision="int8")
    assert compression(subject.job, "static", named).bytes_after
    with pytest.raises(CompressError, match="products and convolutions of the graph execute in fp32"):
        compression(subject.job, "static", named, proven=True)


def test_an_unknown_name_in_keep_float_is_refused(tmp_path: Path, folder: Path) -> None:
    subject = _case("two inputs", tmp_path, folder)
    with pytest.raises(CompressError, match="is no operation of the graph"):
        quantize_graph(subject.job, Static(keep_float=("nowhere",)), "openvino")


class Linear(nn.Module):
    def __init__(self, columns: int) -> None:
        super().__init__()
        self.body = nn.Linear(columns, 64)

    def forward(self, x: Any) -> Any:
        return self.body(x)


@pytest.mark.parametrize(("columns", "precision"), [(16, "fp32"), (32, "int8"), (100, "int8")])
def test_dynamic_quantization_is_told_as_it_executes(columns: int, precision: str, tmp_path: Path) -> None:
    """OpenVINO calls a layer i8 whose weights are only stored so. Whether its inputs are quantized shows in the
    answers: they are others where that is switched off."""
    inputs = {"x": {"dtype": "float32", "shape": ["batch", columns]}}
    subject = case(Linear(columns), inputs, tmp_path, target={"objective": "size"})
    made = quantize_graph(subject.job, Dynamic(), "openvino")
    assert [operation.precision for operation in made.report.operations] == [precision]
    assert _heavy(made.artifact) == {precision: 1}
    assert (precision_refusal(_kernels(made.artifact), "int8") is None) == (precision == "int8")
    feed = subject.job.probes[0]["x"]
    as_is, stored = (_run(made.artifact, feed, group) for group in (32, 0))
    assert np.array_equal(as_is, stored) == (precision == "fp32")


def _run(artifact: Artifact, feed: Any, group: int) -> Any:
    import openvino

    config = {"INFERENCE_PRECISION_HINT": "f32", "DYNAMIC_QUANTIZATION_GROUP_SIZE": group}
    model = openvino.Core().read_model(str(artifact.directory / "model.xml"))
    return openvino.Core().compile_model(model, "CPU", config)(feed)[0]


@pytest.mark.full
def test_dynamic_quantization_of_embeddings_and_an_lstm(tmp_path: Path, folder: Path) -> None:
    """An LSTM is computed in fp32 here: its weights are only worth compressing where size is the objective."""
    subject = _case("recurrent", tmp_path, folder)
    made = quantize_graph(subject.job, Dynamic(), "openvino")
    assert [(operation.op, operation.precision) for operation in made.report.operations] == [
        ("Gather", "int8"),
        ("MatMul", "int8"),
    ]
    kernels = {(kernel.op, kernel.precision) for kernel in _kernels(made.artifact) if kernel.heavy}
    assert kernels == {("FullyConnected", "int8"), ("RNNSeq", "fp32")}
    assert made.report.bytes_after < made.report.bytes_before
    assert subject.sqnr(made.artifact) > 30


class Convolutions(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Sequential(nn.Conv2d(1, 32, 3), nn.ReLU(), nn.Conv2d(32, 32, 3))

    def forward(self, x: Any) -> Any:
        return self.body(x).mean((2, 3))


def test_weights_that_are_only_stored_in_int8_are_refused_but_for_their_size(tmp_path: Path) -> None:
    fast = case(Convolutions(), IMAGES, tmp_path / "fast")
    with pytest.raises(CompressError, match="no linear layer"):
        quantize_graph(fast.job, Dynamic(), "openvino")
    small = case(Convolutions(), IMAGES, tmp_path / "small", target={"objective": "size"})
    made = quantize_graph(small.job, Dynamic(), "openvino")
    assert made.report.bytes_after < made.report.bytes_before
    assert {operation.precision for operation in made.report.operations} == {"fp32"}
    told = precision_refusal(_kernels(made.artifact), "int8")
    assert told is not None and "all 2 heavy kernels execute in fp32" in told


def test_the_report_counts_bytes_and_says_what_more_samples_would_bring(tmp_path: Path, folder: Path) -> None:
    subject = _case("convolutions", tmp_path, folder)
    made: Quantized = quantize_graph(subject.job, Static(samples=12), "openvino")
    report = made.report
    assert report.recipe == "static" and report.samples == 12
    assert report.bytes_after == sum(file.stat().st_size for file in made.artifact.directory.iterdir())
    assert report.ratio > 1.5
    assert report.parameters_before == sum(p.numel() for p in Conv().parameters())
    assert 0 < report.mean_abs_diff["output"] < 0.1
    assert any("12 calibration samples were used; from half of them to all" in note for note in report.notes)
    assert [finding.rule for finding in made.findings] == ["few-calibration-samples"]
