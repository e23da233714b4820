"""Timing and memory of graphs on a GPU: warm-up until all is captured, events, and what the device holds."""

from __future__ import annotations

from pathlib import Path
from typing import Any, cast

import numpy as np
import pytest
import torch

from shipworthy.contract import Dim, Signature, TensorSpec
from shipworthy.data import write_cases
from shipworthy.measure import messages as say
from shipworthy.measure.duties import Duties
from shipworthy.measure.memory import device_memory
from shipworthy.measure.timing import compute_times, least_warm_up
from shipworthy.runtime import Artifact, OperatingPoint, cuda
from shipworthy.runtime.cuda import CudaRunner
from shipworthy.runtime.cuda_graphs import RUNS_UNTIL_CAPTURED, OnDevice, TorchCuda
from shipworthy.runtime.protocol import Runner

on_gpu = pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no CUDA device that torch can use")
SIGNATURE = Signature(
    inputs={"x": TensorSpec(dtype="float32", shape=(Dim("batch"), 3))},
    outputs={"y": TensorSpec(dtype="float32", shape=(Dim("batch"), 3))},
)


class OnCpu(TorchCuda):
    """The device's interface without streams, captures or page-locked memory."""

    def stream(self) -> Any:
        return None

    def on(self, stream: Any) -> Any:
        return torch.inference_mode()

    def wait(self, stream: Any) -> None:
        return None

    def host_buffer(self, shape: Any, dtype: torch.dtype) -> torch.Tensor:
        return torch.empty(tuple(shape), dtype=dtype)

    def upload(self, host: torch.Tensor) -> torch.Tensor:
        return host.clone()

    def seconds(self, compute: Any, stream: Any) -> float:
        compute()
        return 0.5


def runner(device: TorchCuda | None, streams: int = 1, held: int = 0) -> CudaRunner:
    graph = OnDevice(
        lambda inputs: [2 * inputs[0]],
        lambda _: (),
        streams=streams,
        capture=isinstance(device, TorchCuda) and not isinstance(device, OnCpu),
        device=device,
    )
    artifact = Artifact("aoti", "fp32", Path("nowhere"), SIGNATURE, "cuda")
    return CudaRunner(artifact, OperatingPoint(streams=streams, threads=streams), graph, held)


class Elsewhere:
    """A runner on the CPU, of which nothing is asked here."""


CPU_RUNNER = cast("Runner", Elsewhere())
FEEDS = {"x": np.ones((2, 3), np.float32)}


def test_a_warm_up_on_a_gpu_captures_on_every_stream() -> None:
    assert least_warm_up(CPU_RUNNER, 1, 4) == 1
    assert least_warm_up(runner(OnCpu(), 4), 1, 4) == 4 * RUNS_UNTIL_CAPTURED
    assert least_warm_up(runner(OnCpu()), 50, 1) == 50


def test_only_a_device_has_times_of_its_own() -> None:
    assert compute_times(CPU_RUNNER, FEEDS, runs=2) is None
    assert compute_times(runner(OnCpu()), FEEDS, runs=2) == (0.5, 0.5)


def test_memory_of_the_device_counts_what_its_allocator_does_not_see(monkeypatch: pytest.MonkeyPatch) -> None:
    assert device_memory(None) is None
    assert device_memory(CPU_RUNNER) is None
    monkeypatch.setattr(torch.cuda, "memory_allocated", lambda: 3_000_000)
    monkeypatch.setattr(torch.cuda, "memory_reserved", lambda: 8_000_000)
    monkeypatch.setattr(torch.cuda, "max_memory_allocated", lambda: 5_000_000)
    found = device_memory(runner(OnCpu(), held=2_000_000))
    assert found == say.DeviceMemory(allocated_mb=5.0, reserved_mb=10.0, peak_mb=7.0)


def test_what_loading_takes_is_the_devices_loss_less_the_allocators_gain(monkeypatch: pytest.MonkeyPatch) -> None:
    free, reserved = iter([(100, 200), (60, 200)]), iter([10, 25])
    monkeypatch.setattr(torch.cuda, "init", lambda: None)
    monkeypatch.setattr(torch.cuda, "synchronize", lambda: None)
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda: next(free))
    monkeypatch.setattr(torch.cuda, "memory_reserved", lambda: next(reserved))
    assert cuda.taken_by(lambda: "loaded") == ("loaded", 25)


def test_a_worker_answers_with_both(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("shipworthy.measure.duties.open_runner", lambda *_: runner(OnCpu()))
    duties = Duties(lambda _: None)
    cases = write_cases(tmp_path / "cases", [("2", FEEDS)])
    artifact = Artifact("aoti", "fp32", tmp_path, SIGNATURE, "cuda")
    duties.do(say.OpenGraph(artifact=artifact, feeds=cases, cases=("2",)))
    assert duties.do(say.TimeDevice(case="2", runs=3)) == say.DeviceTimeReply(times=(0.5, 0.5, 0.5))
    timed = duties.do(say.TimeLoop(case="2", seconds=0.0, least=3))
    assert isinstance(timed, say.TimeReply)
    assert len(timed.times) == 3
    memory = duties.do(say.ReadMemory())
    assert isinstance(memory, say.MemoryReply)
    assert memory.device is not None


def test_a_worker_on_the_cpu_has_nothing_to_say_of_a_device(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Plain:
        def run(self, feeds: Any) -> Any:
            return feeds

    monkeypatch.setattr("shipworthy.measure.duties.open_runner", lambda *_: Plain())
    duties = Duties(lambda _: None)
    cases = write_cases(tmp_path / "cases", [("2", FEEDS)])
    duties.do(say.OpenGraph(artifact=Artifact("torch", "fp32", tmp_path, SIGNATURE), feeds=cases, cases=("2",)))
    assert duties.do(say.TimeDevice(case="2")) == say.DeviceTimeReply(times=None)
    assert duties.do(say.ReadMemory()).device is None  # type: ignore[union-attr]


@pytest.mark.gpu
@on_gpu
def test_events_time_what_the_device_does_and_not_the_launch() -> None:
    device = TorchCuda()
    matrix = torch.randn(4096, 4096, device="cuda")
    stream = device.stream()
    with device.on(stream):
        for _ in range(3):
            matrix @ matrix
        one = np.median([device.seconds(lambda: matrix @ matrix, stream) for _ in range(10)])
        five = np.median([device.seconds(lambda: [matrix @ matrix for _ in range(5)], stream) for _ in range(10)])
    assert 2 < five / one < 10


@pytest.mark.gpu
@on_gpu
def test_memory_of_a_run_is_counted() -> None:
    opened = runner(TorchCuda())
    feeds = {"x": np.ones((100_000, 3), np.float32)}
    for _ in range(3):
        np.testing.assert_array_equal(opened.run(feeds)["y"], 2 * feeds["x"])
    found = device_memory(opened)
    assert found is not None
    assert found.peak_mb >= 2.4
    assert found.reserved_mb >= found.allocated_mb > 0
    opened.close()
