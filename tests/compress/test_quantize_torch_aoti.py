"""int8 for AOTInductor: the compiled package executes integers, answers as its program does, and is the same again."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from quantize_subjects import Recurrent, samples
from torch import Tensor, nn

from shipworthy.compress import AccuracyAware, Dynamic, Static
from shipworthy.compress.quantization.aoti import _program
from shipworthy.compress.quantization.graph import GraphJob, quantize_graph
from shipworthy.compress.quantization.pt2e import products, quantized_program
from shipworthy.compress.quantization.scheme import scheme_for
from shipworthy.contract import Contract
from shipworthy.data import probes
from shipworthy.errors import CompressError
from shipworthy.exporters.aoti import compile_program
from shipworthy.exporters.int8 import float_reason
from shipworthy.exporters.int8_program import mend
from shipworthy.exporters.noise import collected
from shipworthy.model import LoadedModel, infer_outputs, run_eager
from shipworthy.runtime import Artifact, open_runner, this_host

pytestmark = pytest.mark.usefixtures("single_threaded")


class Residual(nn.Module):
    """Three channels in; a normalisation, an addition, a mean of what is never negative."""

    def __init__(self, channels: int = 3) -> None:
        super().__init__()
        self.first, self.norm = nn.Conv2d(channels, 16, 3, padding=1), nn.BatchNorm2d(16)
        self.second, self.head = nn.Conv2d(16, 16, 3, padding=1), nn.Linear(16, 10)

    def forward(self, x: Tensor) -> Tensor:
        x = torch.relu(self.norm(self.first(x)))
        return self.head(torch.relu(x + self.second(x)).mean((2, 3)))


IMAGES: dict[str, Any] = {"x": {"dtype": "float32", "shape": ["batch", 3, 8, 8]}}


def _job(folder: Path, net: nn.Module, inputs: dict[str, Any]) -> GraphJob:
    contract = Contract.model_validate({"name": "net", "inputs": inputs})
    model = LoadedModel("module", net.eval())
    tried = probes(contract, None)
    contract = infer_outputs(model, contract, *tried)
    return GraphJob(model, contract, folder, None, samples(contract), this_host(), tried)


@pytest.fixture
def job(tmp_path: Path) -> GraphJob:
    torch.manual_seed(0)
    return _job(tmp_path, Residual(), IMAGES)


def _heavy(artifact: Artifact) -> dict[tuple[str, str], int]:
    runner = open_runner(artifact)
    try:
        return {(kernel.op, kernel.precision): kernel.count for kernel in runner.kernels() if kernel.heavy}
    finally:
        runner.close()


def _quantized(job: GraphJob, **changed: Any) -> torch.export.ExportedProgram:
    assert job.calibration is not None
    feeds = [batch.inputs for batch in job.calibration.batches(32)]
    with collected():
        return quantized_program(_program(job), job.contract, feeds, job.host, scheme_for(job.host), **changed)


@pytest.mark.full
def test_static_executes_integers_for_every_batch(job: GraphJob) -> None:
    made = quantize_graph(job, Static(), "aoti")
    assert made.arch == this_host().arch
    assert {precision for _, precision in _heavy(made.artifact)} == {"int8"}
    assert sum(_heavy(made.artifact).values()) == 3
    assert [operation.precision for operation in made.report.operations] == ["int8"] * 3
    runner = open_runner(made.artifact)
    assert job.calibration is not None
    for batch in (1, 2, 7):
        feeds = job.calibration.chunks[0].rows(0, batch).inputs
        wanted = run_eager(job.model, job.contract.signature, feeds)["output"]
        np.testing.assert_allclose(runner.run(feeds)["output"], wanted, atol=0.05 * float(np.abs(wanted).max()))
    runner.close()


def test_the_same_integers_twice(job: GraphJob) -> None:
    one, two = _quantized(job), _quantized(job)
    assert str(one.graph) == str(two.graph)
    stored = [(name, value) for name, value in one.state_dict.items() if value.dtype == torch.int8]
    assert len(stored) == 3
    assert all(torch.equal(value, two.state_dict[name]) for name, value in one.state_dict.items())


def test_what_is_kept_in_float_is_said(job: GraphJob) -> None:
    found = products(_quantized(job, keep_float=("conv2d_1",)), ("conv2d_1",))
    kept = [product for product in found if product.name == "conv2d_1"]
    assert [(product.int8, product.reason) for product in kept] == [(False, "it was asked for in float")]
    assert [product.int8 for product in found if product.name != "conv2d_1"] == [True, True]


def test_one_channel_is_left_in_float_and_computes_the_same(tmp_path: Path) -> None:
    torch.manual_seed(0)
    subject = _job(tmp_path, Residual(1), {"x": {"dtype": "float32", "shape": ["batch", 1, 8, 8]}})
    program = _quantized(subject)
    reasons = [product.reason for product in products(program)]
    assert reasons == ["one channel: the compiler mistakes the layout of its output", "", ""]
    _assert_mended_alike(program, subject)


def test_dynamic_ranges_span_zero(job: GraphJob) -> None:
    """The mean of what is never negative: Inductor's own ranges would begin at its smallest value."""
    program = _quantized(job, dynamic=True)
    assert [product.int8 for product in products(program)] == [False, False, True]
    _assert_mended_alike(program, job)
    assert not any("choose_qparams" in str(node.target) for node in program.graph.nodes)


def _assert_mended_alike(program: torch.export.ExportedProgram, job: GraphJob) -> None:
    signature = job.contract.signature
    before = [run_eager(LoadedModel("exported", program.module()), signature, feeds) for feeds in job.probes]
    mend(program)
    for feeds, wanted in zip(job.probes, before, strict=True):
        found = run_eager(LoadedModel("exported", program.module()), signature, feeds)
        np.testing.assert_allclose(found["output"], wanted["output"], atol=1e-5)


@pytest.mark.full
def test_what_cannot_be_quantized_is_refused_in_words(job: GraphJob, tmp_path: Path) -> None:
    with pytest.raises(CompressError, match="torchao PT2E"):
        inputs = {"x": {"dtype": "int64", "shape": ["batch", "tokens:2..32"]}}
        quantize_graph(_job(tmp_path, Recurrent(), inputs), Dynamic(), "aoti")


@pytest.mark.full
def test_a_package_without_frozen_weights_is_fp32_and_is_seen(job: GraphJob) -> None:
    """The same quantized program, compiled without what the integer patterns need: int8 by name alone."""
    with collected():
        compile_program(_quantized(job), job.contract.signature, job.directory / "model.pt2")
    artifact = Artifact("aoti", "int8", job.directory, job.contract.signature)
    reason = float_reason(artifact)
    assert reason == "all 3 products and convolutions of the graph execute in fp32"


@pytest.mark.full
def test_dynamic_executes_integers(job: GraphJob) -> None:
    made = quantize_graph(job, Dynamic(), "aoti")
    assert _heavy(made.artifact)["_qlinear_pointwise_tensor", "int8"] == 1
    assert made.report.mean_abs_diff["output"] < 0.005


@pytest.mark.full
def test_accuracy_aware_is_refused(job: GraphJob) -> None:
    with pytest.raises(CompressError):
        quantize_graph(job, AccuracyAware(max_drop=0.01), "aoti", lambda artifact: 1.0)
