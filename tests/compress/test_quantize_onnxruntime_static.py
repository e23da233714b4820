"""int8 with calibrated ranges for ONNX Runtime: what executes, how exact and how small, what goes back to float."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from onnx_cases import (
    IMAGE,
    TOKENS,
    Case,
    Encoder,
    Mixed,
    Residual,
    file_of,
    heavy,
    kernels,
    make_case,
    nodes_of,
    weights_of,
)
from torch import nn

from shipworthy.compress.methods import AccuracyAware, Static
from shipworthy.compress.quantization.calibration import feeds_of
from shipworthy.compress.quantization.graph import quantize_graph
from shipworthy.errors import CompressError
from shipworthy.runtime import Artifact, describe, this_host

ARM = replace(this_host(), arch="aarch64", isa=frozenset({"asimddp"}))
OLD = replace(this_host(), arch="x86-64", isa=frozenset({"avx2"}))
VNNI = replace(this_host(), arch="x86-64", isa=frozenset({"avx2", "avx512_vnni"}))


@pytest.fixture(scope="module")
def residual(tmp_path_factory: pytest.TempPathFactory) -> Case:
    torch.manual_seed(0)
    return make_case(tmp_path_factory.mktemp("residual"), Residual(), IMAGE)


@pytest.fixture(scope="module")
def encoder(tmp_path_factory: pytest.TempPathFactory) -> Case:
    torch.manual_seed(0)
    return make_case(tmp_path_factory.mktemp("encoder"), Encoder(), TOKENS)


def test_a_residual_network_is_int8_from_end_to_end(residual: Case, tmp_path: Path) -> None:
    artifact = residual.within(tmp_path).static().save((), "fp32")
    assert artifact.precision == "int8"
    assert heavy(artifact) == {"QLinearConv": "int8", "QGemm": "int8"}
    executed = {kernel.op for kernel in kernels(artifact)}
    assert {"QLinearAdd", "QLinearGlobalAveragePool"} <= executed
    assert not executed & {"Add", "Relu", "ReduceMean", "GlobalAveragePool", "DequantizeLinear"}
    assert min(residual.sqnr(artifact)) >= 25


def test_weights_are_integers_in_the_file(residual: Case, tmp_path: Path) -> None:
    artifact = residual.within(tmp_path).static().save((), "fp32")
    assert len(weights_of(artifact)) == 5
    assert residual.job.base is not None
    assert file_of(artifact).stat().st_size < 0.3 * file_of(residual.job.base).stat().st_size


def test_what_lies_between_convolutions_is_int8_and_right(tmp_path: Path) -> None:
    torch.manual_seed(0)
    case = make_case(tmp_path, Mixed(), IMAGE)
    artifact = case.static().save((), "fp32")
    assert heavy(artifact) == {"QLinearConv": "int8"}
    executed = {kernel.op for kernel in kernels(artifact)}
    assert {"QLinearGlobalAveragePool", "QLinearSigmoid", "QLinearMul"} <= executed
    assert min(case.sqnr(artifact)) >= 20


def test_linear_layers_of_a_transformer_are_int8_and_attention_stays_exact(encoder: Case, tmp_path: Path) -> None:
    artifact = encoder.within(tmp_path).static().save((), "fp32")
    found = heavy(artifact)
    assert found["MatMulIntegerToFloat"] == found["QGemm"] == "int8"
    assert {found[name] for name in found if name.endswith("MatMul")} == {"fp32"}
    assert min(encoder.sqnr(artifact)) >= 25
    shared = [node.input[0] for node in nodes_of(artifact, "QuantizeLinear")]
    assert len(shared) == len(set(shared)), "query, key and value read the same integers"


def test_the_file_says_its_signature(residual: Case, tmp_path: Path) -> None:
    artifact = residual.within(tmp_path).static().save((), "fp32")
    found = describe(file_of(artifact))
    assert found.signature == residual.job.contract.signature == artifact.signature
    onnx.checker.check_model(onnx.load(str(file_of(artifact))))


def test_what_is_kept_in_float_executes_in_float_with_its_own_weights(residual: Case, tmp_path: Path) -> None:
    graph = residual.within(tmp_path).static()
    first, *_, last = graph.operations
    assert (graph.kinds[first], graph.kinds[last]) == ("Conv", "Gemm")
    plain = np.mean(residual.sqnr(graph.save((), "fp32")))
    some = graph.save((first, last), "fp32")
    counts = {kernel.op: (kernel.precision, kernel.count) for kernel in kernels(some) if kernel.heavy}
    assert counts["QLinearConv"] == ("int8", 3)
    assert sum(count for precision, count in counts.values() if precision == "fp32") == 2
    assert np.mean(residual.sqnr(some)) > plain + 0.5
    every = graph.save(graph.operations, "fp32")
    assert set(heavy(every).values()) == {"fp32"} and not weights_of(every)
    assert min(residual.sqnr(every)) > 100


def test_each_operation_of_a_transformer_can_be_kept_alone(encoder: Case, tmp_path: Path) -> None:
    graph = encoder.within(tmp_path).static()
    assert [graph.kinds[name] for name in graph.operations] == ["Gather", *["MatMul"] * 6, "Gemm"]
    for name in graph.operations:
        artifact = graph.save((name,), "fp32")
        assert len(weights_of(artifact)) == len(graph.operations) - 1
        assert min(encoder.sqnr(artifact)) >= 25


def test_the_same_data_gives_the_same_bytes(residual: Case, encoder: Case, tmp_path: Path) -> None:
    for case in (residual, encoder):
        files = [file_of(case.within(tmp_path / part).static().save((), "fp32")).read_bytes() for part in "ab"]
        assert files[0] == files[1]


def test_sensitivity_finds_the_layer_that_suffers(tmp_path: Path) -> None:
    torch.manual_seed(0)
    net = Residual(16)
    with torch.no_grad():
        net.stem[1].weight[0] = 300.0  # one channel far above all others: a grid for it is too coarse for the rest
        net.left[0].weight[:, 0] /= 300.0
        net.right.weight[:, 0] /= 300.0
    case = make_case(tmp_path, net, IMAGE)
    graph = case.static()
    assert case.job.calibration is not None
    feeds = [{"x": row[None]} for row in case.job.calibration.chunks[0].inputs["x"][:8]]
    found = graph.sensitivity(feeds)
    assert list(found) == list(graph.operations)
    suffering = sorted(found, key=lambda name: found[name])[:3]
    # The convolution that makes the channel rounds it, the two that read it lose by that.
    first, *_, head = graph.operations
    assert first in suffering and head not in suffering
    assert max(found[name] for name in suffering) < 20 < min(found[name] for name in found if name not in suffering)
    assert min(case.sqnr(graph.save((), "fp32"))) < 12
    assert min(case.sqnr(graph.save(suffering, "fp32"))) > 25


def test_ranges_are_those_of_the_float_graph(residual: Case) -> None:
    graph = residual.static()
    assert residual.job.calibration is not None
    feeds = feeds_of(residual.job.calibration, residual.job.contract)
    ranges = graph.ranges
    assert all(rows.shape == (len(feeds), 2) for rows in ranges.values())
    expected = [[feed["x"].min(), feed["x"].max()] for feed in feeds]
    np.testing.assert_allclose(ranges["x"], expected, rtol=1e-6)


def test_without_vnni_weights_have_seven_bits(residual: Case, encoder: Case, tmp_path: Path) -> None:
    for number, case in enumerate((residual, encoder)):
        there = case.on(OLD).within(tmp_path / str(number))
        for artifact in (there.static().save((), "fp32"), there.dynamic().artifact):
            found = weights_of(artifact)
            assert found and all(values.min() >= -64 and values.max() <= 63 for values in found)
            assert min(case.sqnr(artifact)) >= 20


def test_with_vnni_weights_use_all_bits(residual: Case, tmp_path: Path) -> None:
    artifact = residual.on(VNNI).within(tmp_path).static().save((), "fp32")
    assert all(np.abs(values).max() == 127 for values in weights_of(artifact))
    assert zero_points(artifact) == {np.dtype(np.uint8)}


def zero_points(artifact: Artifact) -> set[np.dtype[np.generic]]:
    """The types of the integers that activations become."""
    model = onnx.load(str(file_of(artifact)))
    constants = {tensor.name: tensor for tensor in model.graph.initializer}
    names = {node.input[2] for node in model.graph.node if node.op_type == "QuantizeLinear"}
    return {onnx.numpy_helper.to_array(constants[name]).dtype for name in names}


def test_for_arm_activations_are_signed_and_symmetric(residual: Case, tmp_path: Path) -> None:
    artifact = residual.on(ARM).within(tmp_path).static().save((), "fp32")
    model = onnx.load(str(file_of(artifact)))
    constants = {tensor.name: onnx.numpy_helper.to_array(tensor) for tensor in model.graph.initializer}
    zeros = [constants[node.input[2]] for node in model.graph.node if node.op_type == "QuantizeLinear"]
    assert {zero.dtype for zero in zeros} == {np.dtype(np.int8)}
    # -128 where nothing is negative, which is behind every Relu.
    assert {int(zero) for zero in zeros} == {0, -128}
    assert min(residual.sqnr(artifact)) >= 20


def test_dynamic_leaves_convolutions_in_float_and_says_why(residual: Case, tmp_path: Path) -> None:
    made = residual.within(tmp_path).dynamic()
    found = heavy(made.artifact)
    assert found.pop("DynamicQuantizeMatMul") == "int8"
    assert set(found.values()) == {"fp32"}
    kept = [operation for operation in made.report.operations if operation.precision == "fp32"]
    assert [operation.op for operation in kept] == ["Conv"] * 4
    assert all("slower than the one in float" in operation.reason for operation in kept)


def test_bf16_for_the_rest_is_refused(residual: Case, tmp_path: Path) -> None:
    graph = residual.within(tmp_path).static()
    with pytest.raises(CompressError, match=r"bf16.*use fp32, or openvino"):
        graph.save((), "bf16")


class Nothing(nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.tanh(x).mean((2, 3))


def test_a_model_without_weights_is_refused(tmp_path: Path) -> None:
    case = make_case(tmp_path, Nothing(), IMAGE, samples=2)
    with pytest.raises(CompressError, match="nothing to quantize"):
        case.static()
    with pytest.raises(CompressError, match="nothing to quantize"):
        case.dynamic()


def test_a_calibration_that_is_not_finite_has_no_say(residual: Case, tmp_path: Path) -> None:
    data = residual.job.calibration
    assert data is not None
    data.chunks[0].inputs["x"][0, 0, 0, 0] = np.inf
    try:
        graph = residual.within(tmp_path).static()
    finally:
        data.chunks[0].inputs["x"][0, 0, 0, 0] = 0.0
    assert all(np.isfinite(limits).all() for limits in graph.calibrated.values())
    assert min(residual.sqnr(graph.save((), "fp32"))) >= 25


def test_the_verb_reports_every_operation(residual: Case, tmp_path: Path) -> None:
    made = quantize_graph(residual.within(tmp_path).job, Static(samples=40), "onnxruntime")
    assert [operation.precision for operation in made.report.operations] == ["int8"] * 5
    assert all(operation.sqnr_db is not None and operation.sqnr_db > 20 for operation in made.report.operations)
    assert made.report.samples == 40
    assert made.report.mean_abs_diff["output"] < 0.05


def test_accuracy_aware_puts_back_what_the_limit_asks_for(residual: Case, tmp_path: Path) -> None:
    """The drop is made up: it holds only where the first convolution is in float."""
    job = residual.within(tmp_path).job

    def drop(artifact: Artifact) -> float:
        return (
            0.0
            if sum(kernel.count for kernel in kernels(artifact) if kernel.precision == "fp32" and kernel.heavy)
            else 0.5
        )

    made = quantize_graph(job, AccuracyAware(max_drop=0.1, samples=16), "onnxruntime", drop)
    kept = [operation.name for operation in made.report.operations if operation.precision == "fp32"]
    assert len(kept) == 1
    assert drop(made.artifact) == 0.0


class Signal(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Conv1d(3, 8, 3, stride=2), nn.ConvTranspose1d(8, 3, 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.second(torch.relu(self.first(x.flatten(2))))


def test_weights_beside_the_file_and_a_convolution_without_a_kernel_in_int8(tmp_path: Path) -> None:
    torch.manual_seed(0)
    case = make_case(tmp_path, Signal(), IMAGE, samples=8)
    assert case.job.base is not None
    path = file_of(case.job.base)
    model = onnx.load(str(path))
    onnx.save_model(model, str(path), save_as_external_data=True, location="model.onnx.data", size_threshold=256)
    assert path.with_name("model.onnx.data").exists()
    graph = case.static()
    assert list(graph.kinds.values()) == ["Conv"]
    artifact = graph.save((), "fp32")
    assert [file.name for file in artifact.directory.iterdir()] == ["model.onnx"]
    assert heavy(artifact) == {"QLinearConv": "int8", "ConvTranspose": "fp32"}
    assert min(case.sqnr(artifact)) >= 25
