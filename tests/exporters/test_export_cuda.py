"""Exports for a GPU: programs that are moved there, narrower floats, and what is refused without one."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from export_subject import Make
from torch import Tensor, nn

from shipworthy.errors import EngineError, ExportError
from shipworthy.exporters import aoti
from shipworthy.exporters.aoti import compile_program
from shipworthy.exporters.positional import Positional
from shipworthy.exporters.program import on_device, program_of, to_program
from shipworthy.runtime import Host, cuda, host, open_runner

on_gpu = pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no CUDA device that torch can use")


class Placed(nn.Module):
    """Makes tensors on the device of its input, keeps a buffer, and holds a constant."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(4, 4)
        self.register_buffer("shift", torch.arange(4.0), persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        places = torch.arange(x.shape[0], device=x.device, dtype=x.dtype)
        return self.layer(x) + self.shift + places[:, None] + torch.tensor([1.0, 2.0, 3.0, 4.0]).to(x.device)


def devices_in(program: torch.export.ExportedProgram) -> Iterator[str]:
    for tensor in (*program.state_dict.values(), *program.constants.values()):
        if isinstance(tensor, torch.Tensor):
            yield tensor.device.type
    for node in program.graph.nodes:
        if "device" in node.kwargs:
            yield torch.device(node.kwargs["device"]).type
        for value in node.meta["val"] if isinstance(node.meta.get("val"), tuple) else (node.meta.get("val"),):
            if isinstance(value, torch.Tensor):
                yield value.device.type


def test_a_program_is_moved_with_all_that_it_holds(subject: Make) -> None:
    made = subject(Placed(), {"x": ["batch", 4]})
    signature = made.contract.signature
    module = made.model.module
    assert module is not None
    program = program_of(Positional(module, ("output",)), (torch.zeros(2, 4),), signature)
    assert on_device(program, "cpu") is program
    assert set(devices_in(program)) == {"cpu"}
    assert set(devices_in(on_device(program, "meta"))) == {"meta"}
    assert next(module.parameters()).device.type == "cpu"


@pytest.mark.parametrize("engine", ["torchscript", "torch"])
def test_fp16_is_cast_as_a_whole_and_answers_in_fp32(engine: str, subject: Make) -> None:
    torch.manual_seed(0)
    made = subject(nn.Sequential(nn.Linear(4, 32), nn.ReLU(), nn.Linear(32, 3)), {"x": ["batch", 4]})
    exported = made.export(engine, "fp16")
    made.assert_like_eager(exported, tolerance=2e-2)
    runner = open_runner(exported.artifact)
    assert {kernel.precision for kernel in runner.kernels() if kernel.heavy} == {"fp16"}
    assert runner.run(made.probes[0])["output"].dtype == np.float32
    runner.close()


def test_fp8_is_no_plain_export(subject: Make) -> None:
    made = subject(nn.Linear(4, 3), {"x": ["batch", 4]})
    with pytest.raises(ExportError, match="fp8 by a quantizing recipe"):
        made.export("aoti", "fp8")


@pytest.mark.parametrize("engine", ["aoti", "torchscript"])
def test_an_export_for_cuda_needs_a_gpu(engine: str, subject: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    nowhere = Host("x86-64", "Some Processor", frozenset(), 2, 8 << 30, "Linux", "3.11")
    monkeypatch.setattr(cuda, "this_host", lambda: nowhere)
    made = subject(nn.Linear(4, 3), {"x": ["batch", 4]})
    with pytest.raises((ExportError, EngineError), match="no NVIDIA GPU"):
        made.export(engine, device="cuda")


def test_settings_of_the_compiler_are_passed_on(subject: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: dict[str, Any] = {}

    def compiled(program: object, *, package_path: str, inductor_configs: dict[str, Any]) -> None:
        seen.update(inductor_configs, path=package_path)

    monkeypatch.setattr(torch._inductor, "aoti_compile_and_package", compiled)
    made = subject(nn.Linear(4, 3), {"x": ["batch", 4]})
    program = program_of(Positional(nn.Linear(4, 3), ("output",)), (torch.zeros(2, 4),), made.contract.signature)
    compile_program(program, made.contract.signature, tmp_path / "m.pt2", options={"freezing": True})
    assert seen["freezing"] is True
    assert seen["cpp.dynamic_threads"] is True
    assert seen["path"].endswith("m.pt2")
    assert "aot_inductor.metadata" in seen


def test_a_missing_toolkit_is_told_before_the_compiler_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("torch.utils.cpp_extension.CUDA_HOME", None)
    with pytest.raises(ExportError, match=r"headers of the CUDA toolkit.*set CUDA_HOME; torchscript needs none"):
        aoti._need_toolkit()


def test_a_failed_compilation_is_told_in_one_line(
    subject: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: object, **__: object) -> None:
        raise RuntimeError("ptxas fatal: nothing fits\nand a traceback")

    monkeypatch.setattr(torch._inductor, "aoti_compile_and_package", broken)
    made = subject(nn.Linear(4, 3), {"x": ["batch", 4]})
    program = program_of(Positional(nn.Linear(4, 3), ("output",)), (torch.zeros(2, 4),), made.contract.signature)
    with pytest.raises(ExportError, match="AOTInductor cannot compile it: ptxas fatal: nothing fits; use another"):
        compile_program(program, made.contract.signature, tmp_path / "m.pt2")


@pytest.mark.gpu
@on_gpu
@pytest.mark.parametrize("engine", ["torch", "torchscript", "aoti"])
def test_an_export_for_cuda_answers_as_the_cpu_does(engine: str, subject: Make) -> None:
    torch.manual_seed(0)
    made = subject(nn.Sequential(nn.Linear(4, 32), nn.ReLU(), nn.Linear(32, 3)), {"x": ["batch", 4]})
    exported = made.export(engine, device="cuda")
    assert exported.artifact.device == "cuda"
    if engine == "aoti":
        assert host.this_host().gpus[0].flag in exported.isa
    made.assert_like_eager(exported, tolerance=1e-3)


@pytest.mark.gpu
@on_gpu
def test_a_program_with_written_devices_runs_on_the_gpu(subject: Make) -> None:
    made = subject(Placed(), {"x": ["batch", 4]})
    made.assert_like_eager(made.export("aoti", device="cuda"), tolerance=1e-3)


@pytest.mark.gpu
@on_gpu
def test_an_exported_program_is_an_eager_oracle_on_the_gpu(subject: Make) -> None:
    made = subject(nn.Linear(4, 3), {"x": ["batch", 4]})
    module = made.model.module
    assert module is not None
    program = torch.export.export(module, (torch.zeros(2, 4),), dynamic_shapes=({0: torch.export.Dim("batch")},))
    given = made.as_source(source="exported", module=program.module())
    given.assert_like_eager(given.export("torch", device="cuda"), tolerance=1e-3)


def test_a_module_in_fp16_is_exported_as_a_program(subject: Make) -> None:
    from shipworthy.exporters.job import Job, cases_of

    made = subject(nn.Linear(4, 3), {"x": ["batch", 4]})
    cases = cases_of(made.model, made.contract.signature, made.probes)
    job = Job(made.model, made.contract, "aoti", "fp16", made.directory, cases)
    assert {tensor.dtype for tensor in to_program(job).state_dict.values()} == {torch.float16}
    assert job.artifact.device == "cpu"
