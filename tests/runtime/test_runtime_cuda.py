"""Graphs on a GPU: captures by size, streams side by side, refusals where there is none, and the real device."""

from __future__ import annotations

import subprocess
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from shipworthy.contract import Contract, Dim, Signature, TensorSpec
from shipworthy.errors import EngineError
from shipworthy.exporters import Exported, export
from shipworthy.model import LoadedModel, infer_outputs
from shipworthy.package.manifest import Requirements
from shipworthy.runtime import (
    Artifact,
    Host,
    OperatingPoint,
    compiler_isa,
    cuda,
    cuda_graphs,
    host,
    open_runner,
    this_host,
    unmet,
)
from shipworthy.runtime.engine_aoti import _WAITS

on_gpu = pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no CUDA device that torch can use")
HERE = Host("x86-64", "Some Processor", frozenset({"avx2", "fma"}), 4, 8 << 30, "Linux 6.1", "3.11.7")
H200 = host.Gpu("NVIDIA H200", "9.0", 139 << 30)
WITH_GPU = replace(HERE, devices=("cpu", "cuda"), gpus=(H200,))
SIGNATURE = Signature(
    inputs={"x": TensorSpec(dtype="float32", shape=(Dim("batch"), 3))},
    outputs={"y": TensorSpec(dtype="float32", shape=(Dim("batch"), 3))},
)
ARTIFACT = Artifact("aoti", "fp32", Path("nowhere"), SIGNATURE, "cuda")


def rows(count: int, seed: int = 0) -> np.ndarray[Any, np.dtype[np.float32]]:
    return np.random.default_rng(seed).standard_normal((count, 3)).astype(np.float32)


@dataclass
class FakeGraph:
    """Replays by computing again from the same input tensors into the same outputs, as a capture does."""

    compute: Callable[[], Sequence[Tensor]]
    outputs: list[Tensor]
    device: FakeDevice

    def replay(self) -> None:
        self.device.replays += 1
        self.device.within.replay = True
        for kept, new in zip(self.outputs, self.compute(), strict=True):
            kept.copy_(new)
        self.device.within.replay = False


@dataclass
class FakeDevice:
    """The interface of the device over CPU tensors, counting what is asked of it."""

    refuses: str | None = None
    captures: int = 0
    replays: int = 0
    waits: int = 0
    within: threading.local = field(default_factory=threading.local)

    def stream(self) -> object:
        return object()

    def on(self, stream: Any) -> AbstractContextManager[Any]:
        return nullcontext()

    def wait(self, stream: Any) -> None:
        self.waits += 1

    def pool(self) -> object:
        return object()

    def host_buffer(self, shape: Sequence[int], dtype: torch.dtype) -> Tensor:
        return torch.empty(tuple(shape), dtype=dtype)

    def upload(self, host: Tensor) -> Tensor:
        return host.clone()

    def capture(self, compute: Callable[[], Sequence[Tensor]], stream: Any, pool: Any) -> tuple[Any, Sequence[Tensor]]:
        self.captures += 1
        if self.refuses is not None:
            raise RuntimeError(self.refuses)
        outputs = list(compute())
        return FakeGraph(compute, outputs, self), outputs

    def seconds(self, compute: Callable[[], object], stream: Any) -> float:
        compute()
        return 0.25


@dataclass
class Doubling:
    """A graph that is called, and not replayed, `calls` times; it also writes into its input."""

    device: FakeDevice
    calls: int = 0
    at_once: int = 0
    most_at_once: int = 0
    fails: bool = False

    def __call__(self, inputs: list[Tensor]) -> list[Tensor]:
        if self.fails:
            raise RuntimeError("shapes do not fit")
        if getattr(self.device.within, "replay", False):
            return [2 * inputs[0]]
        self.calls += 1
        self.at_once += 1
        self.most_at_once = max(self.most_at_once, self.at_once)
        result = 2 * inputs[0]
        inputs[0].zero_()
        self.at_once -= 1
        return [result]


def runner_over(device: FakeDevice, *, streams: int = 1, capture: bool = True) -> tuple[cuda.CudaRunner, Doubling]:
    call = Doubling(device)
    graph = cuda_graphs.OnDevice(call, lambda _: (), streams=streams, capture=capture, serial=True, device=device)
    return cuda.CudaRunner(ARTIFACT, OperatingPoint(streams=streams, threads=streams), graph), call


def test_a_size_is_captured_when_it_comes_again_and_replayed_from_then_on() -> None:
    device = FakeDevice()
    runner, call = runner_over(device)
    first = runner.run({"x": rows(4)})["y"]
    assert (call.calls, device.captures, device.replays) == (1, 0, 0)
    runner.run({"x": rows(4, 1)})
    calls = call.calls
    assert (device.captures, device.replays) == (1, 1)
    third = runner.run({"x": rows(4, 2)})["y"]
    assert (call.calls, device.captures, device.replays) == (calls, 1, 2)
    np.testing.assert_array_equal(third, 2 * rows(4, 2))
    np.testing.assert_array_equal(first, 2 * rows(4))


def test_sizes_keep_their_own_captures_and_answers_are_left_alone() -> None:
    device = FakeDevice()
    runner, _ = runner_over(device)
    answers = [(size, seed, runner.run({"x": rows(size, seed)})["y"]) for seed in range(4) for size in (1, 5, 2)]
    for size, seed, answer in answers:
        np.testing.assert_array_equal(answer, 2 * rows(size, seed))
    assert device.captures == 3
    assert device.replays == 9


def test_the_captures_are_bounded_and_what_comes_after_them_runs_without() -> None:
    device = FakeDevice()
    runner, _ = runner_over(device)
    sizes = range(1, cuda_graphs.MOST_GRAPHS + 4)
    for seed in range(3):
        for size in sizes:
            np.testing.assert_array_equal(runner.run({"x": rows(size, seed)})["y"], 2 * rows(size, seed))
    assert device.captures == cuda_graphs.MOST_GRAPHS


def test_sizes_that_never_come_again_are_not_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cuda_graphs, "_MOST_SEEN", 8)
    device = FakeDevice()
    runner, _ = runner_over(device)
    for size in range(1, 40):
        runner.run({"x": rows(size)})
    assert device.captures == 0
    assert len(runner._on_device.lanes[0]._seen) <= 8


def test_a_graph_that_cannot_be_captured_runs_without_and_says_why() -> None:
    device = FakeDevice(refuses="operation not permitted when stream is capturing\nsecond line")
    runner, _ = runner_over(device)
    for seed in range(4):
        np.testing.assert_array_equal(runner.run({"x": rows(3, seed)})["y"], 2 * rows(3, seed))
    assert device.captures == 1
    assert runner.not_captured == "operation not permitted when stream is capturing"


def test_what_was_captured_before_a_refusal_is_still_replayed() -> None:
    device = FakeDevice()
    runner, _ = runner_over(device)
    for seed in range(2):
        runner.run({"x": rows(3, seed)})
    device.refuses = "CUDA out of memory"
    for seed in range(3):
        np.testing.assert_array_equal(runner.run({"x": rows(4, seed)})["y"], 2 * rows(4, seed))
    np.testing.assert_array_equal(runner.run({"x": rows(3, 9)})["y"], 2 * rows(3, 9))
    assert (device.captures, device.replays) == (2, 2)
    assert runner.not_captured == "CUDA out of memory"


def test_an_error_of_the_graph_itself_is_no_refusal_to_be_captured() -> None:
    device = FakeDevice()
    runner, call = runner_over(device)
    runner.run({"x": rows(3)})
    call.fails = True
    with pytest.raises(EngineError, match="shapes do not fit"):
        runner.run({"x": rows(3)})
    call.fails = False
    runner.run({"x": rows(3)})
    assert device.captures == 1
    assert runner.not_captured is None


def test_without_captures_every_run_calls_the_graph_and_waits_once() -> None:
    device = FakeDevice()
    runner, call = runner_over(device, capture=False)
    for seed in range(3):
        np.testing.assert_array_equal(runner.run({"x": rows(2, seed)})["y"], 2 * rows(2, seed))
    assert (call.calls, device.captures, device.waits) == (3, 0, 3)
    assert runner.not_captured is None


def test_streams_capture_each_for_itself_and_call_the_graph_one_at_a_time() -> None:
    device = FakeDevice()
    runner, call = runner_over(device, streams=2)
    wrong: list[int] = []

    def ask(seed: int) -> None:
        for number in range(40):
            feeds = rows(1 + number % 3, 100 * seed + number)
            if not np.array_equal(runner.run({"x": feeds})["y"], 2 * feeds):
                wrong.append(number)

    threads = [threading.Thread(target=ask, args=(seed,)) for seed in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong
    assert call.most_at_once == 1
    assert device.captures == 6


def test_inputs_may_have_any_strides_and_be_read_only() -> None:
    runner, _ = runner_over(FakeDevice())
    feeds = np.asfortranarray(rows(4))
    feeds.flags.writeable = False
    for _ in range(3):
        np.testing.assert_array_equal(runner.run({"x": feeds})["y"], 2 * feeds)


def test_compute_times_are_the_devices_own_after_the_captures() -> None:
    device = FakeDevice()
    runner, call = runner_over(device, streams=2)
    assert runner.compute_times({"x": rows(4)}, 3) == (0.25, 0.25, 0.25)
    assert device.captures == 2
    assert call.calls == 2 * (1 + 2)


def test_a_closed_runner_frees_its_captures_and_refuses() -> None:
    device = FakeDevice()
    runner, _ = runner_over(device)
    for _ in range(2):
        runner.run({"x": rows(4)})
    runner.close()
    assert not runner._on_device.lanes[0]._graphs
    with pytest.raises(EngineError, match="closed"):
        runner.run({"x": rows(4)})


@pytest.mark.parametrize(
    ("line", "waits"),
    [
        ("AOTI_TORCH_ERROR_CODE_CHECK(aoti_torch_item_float32(buf0, &zuf0));", True),
        ("aoti_torch_cpu_mm_out(buf1, arg0, arg1);", True),
        ("aoti_torch_cuda_nonzero(arg0_1, &buf0_handle);", True),
        ("aoti_torch_cuda_addmm_out(buf0, arg1, arg2, arg3, 1L, 1L);", False),
        ("aoti_torch_empty_strided(2, int_array_0, int_array_1, cached_torch_dtype_float32, 1, 0, &buf0);", False),
    ],
)
def test_code_that_waits_for_the_device_is_not_captured(line: str, waits: bool) -> None:
    assert (_WAITS.search(line) is not None) is waits


# What is told where there is no GPU


@pytest.mark.parametrize("engine", ["torch", "torchscript", "aoti"])
def test_a_graph_for_cuda_is_refused_on_a_host_without(
    engine: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cuda, "this_host", lambda: HERE)
    (tmp_path / "model.pt").write_bytes(b"")
    with pytest.raises(EngineError, match=r"on cuda.*no NVIDIA GPU.*device = \"cpu\""):
        open_runner(Artifact(engine, "fp32", tmp_path, SIGNATURE, "cuda"))


def test_torch_for_the_cpu_is_told_from_a_missing_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(host, "_torch_version", lambda: "2.13.0+cpu")
    reason, remedy = cuda.cuda_refusal(WITH_GPU) or ("", "")
    assert reason == "the installed torch 2.13.0+cpu is built for the CPU only"
    assert "pytorch.org" in remedy


def test_a_driver_that_torch_cannot_use_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(host, "_torch_version", lambda: "2.13.0")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    reason, remedy = cuda.cuda_refusal(WITH_GPU) or ("", "")
    assert "sees no CUDA device" in reason
    assert "nvidia-smi" in remedy


@pytest.fixture
def tf32() -> Iterator[None]:
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = True
    yield
    torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32 = False, True


def test_fp32_means_fp32(tf32: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(host, "_torch_version", lambda: "2.13.0")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    assert cuda.cuda_refusal(WITH_GPU) is None
    assert not torch.backends.cuda.matmul.allow_tf32
    assert not torch.backends.cudnn.allow_tf32


# The host


def test_gpus_of_nvidia_smi() -> None:
    said = "NVIDIA H200, 9.0, 143771\nNVIDIA A100, 80GB, 8.0, [N/A]\nNo devices were found\n"
    assert host.read_nvidia_smi(said) == (
        host.Gpu("NVIDIA H200", "9.0", 143771 << 20),
        host.Gpu("NVIDIA A100, 80GB", "8.0", None),
    )
    assert str(H200) == "NVIDIA H200 (compute capability 9.0)"
    assert H200.flag == "sm_90"


def test_the_name_in_the_drivers_own_file() -> None:
    assert host.read_gpu_information("Model: \t\t NVIDIA H200\nIRQ:   \t\t 42\n") == "NVIDIA H200"
    assert host.read_gpu_information("") == "NVIDIA GPU"


def test_a_gpu_is_found_by_its_driver_and_hidden_by_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(host.Path, "exists", lambda _: True)
    monkeypatch.setattr(host.shutil, "which", lambda _: "/usr/bin/nvidia-smi")
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)

    def smi(command: list[str], **_: Any) -> subprocess.CompletedProcess[str]:
        return subprocess.CompletedProcess(command, 0, "NVIDIA H200, 9.0, 143771\n", "")

    monkeypatch.setattr(host.subprocess, "run", smi)
    assert [gpu.name for gpu in host._gpus()] == ["NVIDIA H200"]
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    assert host._gpus() == ()


def test_a_gpu_whose_driver_says_nothing_is_still_one(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(host.Path, "exists", lambda _: True)
    monkeypatch.setattr(host.shutil, "which", lambda _: None)
    monkeypatch.setattr(host.Path, "glob", lambda *_: iter(()))
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    assert host._gpus() == (host.Gpu("NVIDIA GPU", None, None),)


def test_code_for_a_gpu_names_its_generation() -> None:
    assert compiler_isa(WITH_GPU, "cuda") == ("avx2", "fma", "sm_90")
    assert compiler_isa(WITH_GPU) == ("avx2", "fma")


def test_what_was_compiled_for_another_gpu_is_unmet(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(host, "_torch_version", lambda: "2.13.0")
    wanted = Requirements(engine="aoti", device="cuda", isa=("avx2", "sm_80"))
    assert unmet(wanted, WITH_GPU) == (
        "it was compiled for GPUs of the kind sm_80, this host has NVIDIA H200 (compute capability 9.0); "
        "build it on such a GPU"
    )
    assert unmet(wanted.model_copy(update={"isa": ("avx2", "sm_90")}), WITH_GPU) is None
    assert "needs the device 'cuda'" in str(unmet(wanted, HERE))


def test_torch_for_the_cpu_meets_no_variant_for_cuda(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(host, "_torch_version", lambda: "2.13.0+cpu")
    assert "built for the CPU only" in str(unmet(Requirements(engine="aoti", device="cuda"), WITH_GPU))


# On a real device


class Net(nn.Module):
    """A convolution, a product over free sizes, and an integer output."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(3)
        self.conv = nn.Conv1d(4, 32, 3, padding=1)
        self.body = nn.Linear(32, 64)
        self.head = nn.Linear(64, 8)

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        pooled = torch.relu(self.conv(x)).mean(-1)
        scores = self.head(torch.relu(self.body(pooled)))
        return {"scores": scores, "label": scores.argmax(-1)}


def waves(batch: int, width: int, seed: int = 0) -> dict[str, Any]:
    return {"x": np.random.default_rng(seed).standard_normal((batch, 4, width)).astype(np.float32)}


def contract_for(device: str) -> Contract:
    inputs = {"x": {"dtype": "float32", "shape": ["batch", 4, "width:4..64"]}}
    contract = Contract.model_validate({"name": "net", "inputs": inputs, "target": {"device": device}})
    return infer_outputs(LoadedModel("module", Net().eval()), contract, waves(2, 16), waves(3, 16))


@pytest.fixture(scope="module")
def on_cuda(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str, Any], Exported]:
    made: dict[tuple[str, str], Exported] = {}

    def make(engine: str, precision: Any = "fp32") -> Exported:
        if (engine, precision) not in made:
            probes = [waves(2, 16), waves(1, 9), waves(5, 30)]
            directory = tmp_path_factory.mktemp(f"{engine}-{precision}")
            model = LoadedModel("module", Net().eval())
            made[engine, precision] = export(model, contract_for("cuda"), engine, precision, directory, probes)
        return made[engine, precision]

    return make


CASES = [waves(batch, width, seed) for seed, (batch, width) in enumerate([(1, 4), (2, 16), (7, 33), (64, 64)])]


def expected(feeds: dict[str, Any]) -> dict[str, Any]:
    with torch.no_grad():
        return {name: tensor.numpy() for name, tensor in Net().eval()(torch.from_numpy(feeds["x"])).items()}


@pytest.mark.gpu
@on_gpu
@pytest.mark.parametrize("engine", ["torch", "torchscript", "aoti"])
def test_fp32_on_the_gpu_is_fp32_on_the_cpu(engine: str, on_cuda: Callable[..., Exported]) -> None:
    runner = open_runner(on_cuda(engine).artifact)
    for feeds in CASES:
        answer, truth = runner.run(feeds), expected(feeds)["scores"]
        assert np.abs(answer["scores"] - truth).max() <= 1e-4 + 1e-3 * np.abs(truth).max()
    assert {kernel.precision for kernel in runner.kernels() if kernel.heavy} == {"fp32"}
    runner.close()


@pytest.mark.gpu
@on_gpu
@pytest.mark.parametrize("precision", ["bf16", "fp16"])
@pytest.mark.parametrize("engine", ["torchscript", "aoti"])
def test_narrow_floats_are_near_and_execute_as_they_say(
    engine: str, precision: Any, on_cuda: Callable[..., Exported]
) -> None:
    runner = open_runner(on_cuda(engine, precision).artifact)
    for feeds in CASES:
        answer, truth = runner.run(feeds)["scores"], expected(feeds)["scores"]
        assert 10 * np.log10((truth**2).sum() / ((answer - truth) ** 2).sum()) > 25
    assert precision in {kernel.precision for kernel in runner.kernels() if kernel.heavy}
    runner.close()


@pytest.mark.gpu
@on_gpu
@pytest.mark.parametrize("streams", [1, 2])
def test_replays_answer_as_plain_runs_do(streams: int, on_cuda: Callable[..., Exported]) -> None:
    runner = open_runner(on_cuda("aoti").artifact, OperatingPoint(streams=streams, threads=streams))
    assert isinstance(runner, cuda.CudaRunner)
    plain = [runner.run(feeds) for feeds in CASES]
    wrong: list[int] = []

    def ask() -> None:
        for _ in range(25):
            for number, feeds in enumerate(CASES):
                answer = runner.run(feeds)
                if not all(np.allclose(answer[name], plain[number][name], atol=1e-5) for name in answer):
                    wrong.append(number)

    threads = [threading.Thread(target=ask) for _ in range(2 * streams)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert runner.not_captured is None
    assert not wrong
    assert all(len(lane._graphs) == len(CASES) for lane in runner._on_device.lanes)
    runner.close()


@pytest.mark.gpu
@on_gpu
def test_the_devices_own_times_are_within_the_whole(on_cuda: Callable[..., Exported]) -> None:
    runner = open_runner(on_cuda("aoti").artifact)
    assert isinstance(runner, cuda.CudaRunner)
    times = runner.compute_times(CASES[-1], 20)
    assert len(times) == 20
    assert 0 < np.median(times) < 1
    assert runner.held >= 0
    runner.close()


@pytest.mark.gpu
@on_gpu
def test_the_profiler_sees_kernels_on_the_device(on_cuda: Callable[..., Exported]) -> None:
    from torch.profiler import ProfilerActivity, profile

    runner = open_runner(on_cuda("torch").artifact)
    runner.run(CASES[1])
    with profile(activities=[ProfilerActivity.CPU, ProfilerActivity.CUDA]) as session:
        runner.run(CASES[1])
    assert any(row.device_time_total > 0 for row in session.key_averages())
    runner.close()


@pytest.mark.gpu
@on_gpu
def test_this_host_names_its_gpu() -> None:
    assert "cuda" in this_host().devices
    assert this_host().gpus[0].name == torch.cuda.get_device_name(0)
    assert this_host().gpus[0].capability == ".".join(map(str, torch.cuda.get_device_capability(0)))
