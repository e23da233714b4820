"""int8 and fp8 on a GPU: which layers, that a program comes of it for every batch, and what is refused."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from shipworthy.compress import Static
from shipworthy.compress.quantization import cuda as quantize_cuda
from shipworthy.compress.quantization.graph import GraphJob
from shipworthy.contract import Contract
from shipworthy.errors import CompressError, EngineError
from shipworthy.exporters.noise import collected
from shipworthy.model import LoadedModel, infer_outputs
from shipworthy.runtime import Host, open_runner, this_host

on_gpu = pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no CUDA device that torch can use")


class Net(nn.Module):
    """Linear layers over two and three dimensions; the last one has 10 outputs, which are no multiple of 8."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(4)
        self.embed = nn.Linear(32, 64)
        self.body = nn.Linear(64, 64)
        self.head = nn.Linear(64, 10)

    def forward(self, x: Tensor) -> Tensor:
        tokens = torch.relu(self.embed(x))
        mixed: Tensor = self.head(torch.relu(self.body(tokens)).mean(1))
        return mixed


def feeds(batch: int, seed: int = 0) -> dict[str, Any]:
    return {"x": np.random.default_rng(seed).standard_normal((batch, 5, 32)).astype(np.float32)}


def job_in(directory: Path, module: nn.Module | None = None, host: Host | None = None, device: str = "cpu") -> GraphJob:
    model = LoadedModel("module", (module or Net()).eval())
    inputs = {"x": {"dtype": "float32", "shape": ["batch", 5, 32]}}
    contract = Contract.model_validate({"name": "net", "inputs": inputs, "target": {"device": device}})
    contract = infer_outputs(model, contract, feeds(2), feeds(3))
    return GraphJob(model, contract, directory, None, None, host or this_host(), (feeds(2),))


def test_layers_are_chosen_by_their_sizes_and_the_module_is_left_as_it_is() -> None:
    net = Net().eval()
    before = copy.deepcopy(net.state_dict())
    with collected():
        made = quantize_cuda.quantized_module(net, ("output",), "int8", "cpu", (9, 0))
    assert [(o.name, o.precision) for o in made.operations] == [
        ("module.embed", "int8"),
        ("module.body", "int8"),
        ("module.head", "bf16"),
    ]
    assert made.operations[2].reason == "64 × 10 are not both multiples of 8"
    assert all(torch.equal(value, before[name]) for name, value in net.state_dict().items())
    assert type(net.embed) is nn.Linear


@pytest.mark.parametrize("batch", [1, 3, 40])
def test_int8_answers_near_fp32_for_any_number_of_rows(batch: int) -> None:
    net = Net().eval()
    with collected():
        made = quantize_cuda.quantized_module(net, ("output",), "int8", "cpu", (9, 0))
    x = torch.from_numpy(feeds(batch, 7)["x"])
    with torch.no_grad():
        truth, answer = net(x), made.module(x)
    assert answer.dtype == torch.float32
    assert answer.shape == truth.shape
    assert 10 * torch.log10((truth**2).sum() / ((truth - answer) ** 2).sum()) > 20


def test_a_program_keeps_integers_and_a_free_batch(tmp_path: Path) -> None:
    job = job_in(tmp_path)
    assert job.model.module is not None
    with collected():
        made = quantize_cuda.quantized_module(job.model.module, ("output",), "int8", "cpu", (9, 0))
        program = quantize_cuda.program(made, job.contract.signature, job, "cpu")
    kinds = {str(value.dtype) for value in _tensors(program)}
    assert "torch.int8" in kinds
    answer, truth = program.module(), made.module
    for batch in (1, 6):
        x = torch.from_numpy(feeds(batch)["x"])
        with torch.no_grad():
            torch.testing.assert_close(answer(x), truth(x), atol=2e-2, rtol=2e-2)


def _tensors(program: torch.export.ExportedProgram) -> list[Tensor]:
    values = [node.meta.get("val") for node in program.graph.nodes]
    return [value for value in values if isinstance(value, Tensor)]


def test_a_model_without_such_layers_is_refused() -> None:
    with pytest.raises(CompressError, match="no linear layer whose sizes are multiples of 16"):
        quantize_cuda.quantized_module(nn.Conv1d(5, 8, 3), ("output",), "fp8", "cpu", (9, 0))


@pytest.mark.parametrize(
    ("precision", "found", "told"),
    [
        ("fp8", (8, 0), r"needs a GPU of compute capability 8\.9, this one has 8\.0; write \"int8\" or \"bf16\""),
        ("int8", (7, 5), r"needs a GPU of compute capability 8\.0, this one has 7\.5"),
    ],
)
def test_an_older_gpu_is_refused(precision: Any, found: tuple[int, int], told: str) -> None:
    refusal = quantize_cuda.capability_refusal(precision, found)
    assert refusal is not None
    with pytest.raises(CompressError, match=told):
        raise refusal


def test_a_newer_gpu_is_not() -> None:
    assert quantize_cuda.capability_refusal("fp8", (8, 9)) is None
    assert quantize_cuda.capability_refusal("int8", (12, 0)) is None


def test_without_a_gpu_nothing_is_quantized_for_one(tmp_path: Path) -> None:
    nowhere = Host("x86-64", "Some Processor", frozenset(), 2, 8 << 30, "Linux", "3.11")
    with pytest.raises(EngineError, match="no NVIDIA GPU"):
        quantize_cuda.dynamic(job_in(tmp_path, host=nowhere))


def test_static_is_refused(tmp_path: Path) -> None:
    with pytest.raises(CompressError, match="no static quantization"):
        quantize_cuda.static(job_in(tmp_path), Static())


def test_the_granularity_of_fp8_follows_the_gpu() -> None:
    with collected():
        rows, tensor = (quantize_cuda._config("fp8", found) for found in ((9, 0), (8, 9)))
    assert {type(part).__name__ for part in rows.granularity} == {"PerRow"}
    assert {type(part).__name__ for part in tensor.granularity} == {"PerTensor"}
    assert not rows.set_inductor_config


@pytest.mark.gpu
@on_gpu
@pytest.mark.parametrize("precision", ["int8", "fp8"])
def test_a_quantized_graph_runs_on_the_gpu_in_its_precision(precision: Any, tmp_path: Path) -> None:
    if (refusal := quantize_cuda.capability_refusal(precision, torch.cuda.get_device_capability())) is not None:
        pytest.skip(str(refusal))
    made = (quantize_cuda.dynamic if precision == "int8" else quantize_cuda.dynamic_fp8)(
        job_in(tmp_path, device="cuda")
    )
    assert made.artifact.precision == precision
    assert made.report.bytes_after < 5e6
    runner = open_runner(made.artifact)
    net = Net().eval()
    for batch in (1, 2, 16, 33):
        truth = net(torch.from_numpy(feeds(batch)["x"])).detach().numpy()
        for _ in range(3):
            answer = runner.run(feeds(batch))["output"]
            assert 10 * np.log10((truth**2).sum() / ((truth - answer) ** 2).sum()) > 10
    assert precision in {kernel.precision for kernel in runner.kernels() if kernel.heavy}
    runner.close()
