"""int8 for TorchScript: what executes, what is refused, and that it is the same again."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from quantize_subjects import FLOATS, IMAGES, WORDS, Branch, Conv, Recurrent, samples
from torch import Tensor, nn

from shipworthy.compress import AccuracyAware, Dynamic, Static
from shipworthy.compress.made import Quantized
from shipworthy.compress.quantization.graph import GraphJob, quantize_graph
from shipworthy.contract import Contract
from shipworthy.data import probes
from shipworthy.errors import CompressError
from shipworthy.model import LoadedModel, infer_outputs, run_eager
from shipworthy.runtime import Artifact, open_runner, this_host

pytestmark = pytest.mark.usefixtures("single_threaded")


class Bag(nn.Module):
    """An embedding of sets."""

    def __init__(self) -> None:
        super().__init__()
        self.words, self.head = nn.EmbeddingBag(500, 64, mode="sum"), nn.Linear(64, 4)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.words(x))


def _job(net: nn.Module, inputs: dict[str, Any], folder: Path, lengths: tuple[int, ...] = (4, 9)) -> GraphJob:
    contract = Contract.model_validate({"name": "net", "inputs": inputs})
    model = LoadedModel("module", net.eval())
    tried = probes(contract, None)
    contract = infer_outputs(model, contract, *tried)
    return GraphJob(model, contract, folder, None, samples(contract, lengths=lengths), this_host(), tried)


@pytest.fixture
def job(tmp_path: Path) -> Callable[..., GraphJob]:
    def make(kind: type[nn.Module], inputs: dict[str, Any], name: str = "int8") -> GraphJob:
        torch.manual_seed(0)
        return _job(kind(), inputs, tmp_path / name)

    return make


def _heavy(artifact: Artifact) -> dict[tuple[str, str], int]:
    runner = open_runner(artifact)
    try:
        return {(kernel.op, kernel.precision): kernel.count for kernel in runner.kernels() if kernel.heavy}
    finally:
        runner.close()


def _assert_close(made: Quantized, job: GraphJob) -> None:
    runner = open_runner(made.artifact)
    assert job.calibration is not None
    for batch in (1, 3):
        feeds = job.calibration.chunks[0].rows(0, batch).inputs
        wanted = run_eager(job.model, job.contract.signature, feeds)["output"]
        np.testing.assert_allclose(runner.run(feeds)["output"], wanted, atol=0.1 * float(np.abs(wanted).max()))
    runner.close()


@pytest.mark.parametrize(
    ("kind", "operations", "kernels"),
    [
        (
            Recurrent,
            {"words": "Embedding", "body": "LSTM", "head": "Linear"},
            {("quantized_lstm", "int8"): 1, ("linear_dynamic", "int8"): 1},
        ),
        (Bag, {"words": "EmbeddingBag", "head": "Linear"}, {("linear_dynamic", "int8"): 1}),
    ],
)
def test_dynamic(
    kind: type[nn.Module], operations: dict[str, str], kernels: dict[tuple[str, str], int], job: Callable[..., GraphJob]
) -> None:
    """An LSTM and a model of embeddings, for texts of any length."""
    subject = job(kind, WORDS)
    made = quantize_graph(subject, Dynamic(), "torchscript")
    assert made.artifact.precision == "int8"
    assert _heavy(made.artifact) == kernels
    assert {operation.name: operation.op for operation in made.report.operations} == operations
    assert made.report.ratio > 2.5
    _assert_close(made, subject)


def test_static(job: Callable[..., GraphJob]) -> None:
    subject = job(Conv, IMAGES)
    made = quantize_graph(subject, Static(), "torchscript")
    assert {precision for _, precision in _heavy(made.artifact)} == {"int8"}
    assert sum(_heavy(made.artifact).values()) == 4
    assert [operation.name for operation in made.report.operations] == ["first", "second", "third", "head"]
    assert subject.calibration is not None
    assert made.report.samples == len(subject.calibration)
    assert [finding.rule for finding in made.findings] == ["few-calibration-samples"]
    assert made.report.ratio > 2.5
    _assert_close(made, subject)


def test_what_is_kept_in_float_executes_in_float(job: Callable[..., GraphJob]) -> None:
    made = quantize_graph(job(Conv, IMAGES), Static(keep_float=("second",)), "torchscript")
    kept = [operation for operation in made.report.operations if operation.precision == "fp32"]
    assert [(operation.name, operation.reason) for operation in kept] == [("second", "it was asked for in float")]
    assert {precision for _, precision in _heavy(made.artifact)} == {"int8", "fp32"}


def test_the_same_bits_twice(job: Callable[..., GraphJob]) -> None:
    answers = []
    for name in ("one", "two"):
        subject = job(Conv, IMAGES, name)
        runner = open_runner(quantize_graph(subject, Static(), "torchscript").artifact)
        answers.append(runner.run(subject.probes[0])["output"].tobytes())
        runner.close()
    assert answers[0] == answers[1]


def test_nothing_is_left_of_it_in_the_process(job: Callable[..., GraphJob], capfd: pytest.CaptureFixture[str]) -> None:
    fast = torch.backends.mha.get_fastpath_enabled()
    quantize_graph(job(Bag, WORDS), Dynamic(), "torchscript")
    assert torch.backends.mha.get_fastpath_enabled() == fast
    assert capfd.readouterr() == ("", "")


class Convolutions(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.only = nn.Conv2d(1, 4, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.only(x).flatten(1)


def test_what_cannot_be_quantized_is_refused_in_words(job: Callable[..., GraphJob]) -> None:
    with pytest.raises(CompressError, match="no linear layer, LSTM, GRU or embedding"):
        quantize_graph(job(Convolutions, IMAGES), Dynamic(), "torchscript")
    with pytest.raises(CompressError, match="FX graph mode: fails"):
        quantize_graph(job(Branch, FLOATS), Static(), "torchscript")


def test_accuracy_aware_is_refused(job: Callable[..., GraphJob]) -> None:
    with pytest.raises(CompressError):
        quantize_graph(job(Conv, IMAGES), AccuracyAware(max_drop=0.01), "torchscript", lambda artifact: 1.0)
