"""The precision that a runner shows is the one that executes, whatever the artifact calls itself."""

from __future__ import annotations

import zipfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from engine_zoo import Ready, Specimen

from shipworthy.errors import EngineError
from shipworthy.exporters import export
from shipworthy.runtime import Kernel, OperatingPoint, engine_openvino, open_runner
from shipworthy.runtime.aoti_source import compiled_kernels
from shipworthy.runtime.kernels import dtype_words, precision_of, tally, word

Make = Callable[[str, str, str], Ready]


def heavy_precisions(made: Ready, **changed: str) -> set[str]:
    runner = open_runner(replace(made.exported.artifact, **changed))
    found = {kernel.precision for kernel in runner.kernels() if kernel.heavy}
    runner.close()
    return found


def test_openvino_that_calls_itself_bf16_and_runs_fp32_is_seen(ready: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    made = ready("openvino", "bf16", "conv")
    assert heavy_precisions(made) == {"bf16"}
    monkeypatch.setitem(engine_openvino.HINTS, "bf16", "f32")
    assert heavy_precisions(made) == {"fp32"}


@pytest.mark.parametrize("engine", ["torch", "torchscript", "onnxruntime"])
def test_an_fp32_file_that_calls_itself_bf16_is_seen(engine: str, ready: Make) -> None:
    assert heavy_precisions(ready(engine, "fp32", "conv"), precision="bf16") == {"fp32"}


@pytest.mark.full
def test_what_the_compiled_source_says_is_what_the_profiler_sees(ready: Make) -> None:
    """The convolutions of an AOTInductor package go through the dispatcher, so that both can be compared."""
    made = ready("aoti", "bf16", "conv")
    runner = open_runner(made.exported.artifact)
    tensors = [torch.from_numpy(array) for array in made.specimen.feeds(2).values()]
    with torch.profiler.profile(record_shapes=True) as session:
        runner._graph._loader.boxed_run(tensors)  # type: ignore[attr-defined]
    events = session.profiler.kineto_results.events()
    profiled = [event.dtypes()[0] for event in events if event.name() == "aten::mkldnn_convolution"]
    assert profiled == ["c10::BFloat16"] * 2
    compiled = [kernel for kernel in runner.kernels() if kernel.op == "convolution"]
    assert compiled == [Kernel(op="convolution", precision="bf16", count=2, heavy=True)]
    runner.close()


@pytest.mark.full
def test_a_package_without_its_source_proves_nothing(ready: Make, tmp_path: Path) -> None:
    whole = ready("aoti", "bf16", "conv").exported.artifact.directory / "model.pt2"
    bare = tmp_path / "model.pt2"
    with zipfile.ZipFile(whole) as source, zipfile.ZipFile(bare, "w") as target:
        for name in source.namelist():
            if not name.endswith(".cpp"):
                target.writestr(name, source.read(name))
    with pytest.raises(Exception, match="holds no generated source"):
        compiled_kernels(bare)


INTEGERS = """
    cpp_fused_quantize_per_tensor_0((const float*)(arg1_1.data_ptr()), (uint8_t*)(buf0.data_ptr()), s27);
    AOTI_TORCH_ERROR_CODE_CHECK(aoti_torch_cpu__qconv_pointwise_tensor(buf0, x_scale, _frozen_param0, &buf1_handle));
"""
DEQUANTIZED = """
    cpp_fused_dequantize_0((const int8_t*)(_frozen_param0.data_ptr()), (float*)(buf0.data_ptr()));
    cpp_fused_dequantize_quantize_1((const float*)(arg1_1.data_ptr()), (float*)(buf1.data_ptr()), s27);
    AOTI_TORCH_ERROR_CODE_CHECK(aoti_torch_cpu_convolution(buf1, buf0, &buf2_handle));
"""


@pytest.mark.parametrize(
    ("body", "heavy"),
    [
        (INTEGERS, Kernel(op="_qconv_pointwise_tensor", precision="int8", count=1, heavy=True)),
        (DEQUANTIZED, Kernel(op="convolution", precision="fp32", count=1, heavy=True)),
    ],
)
def test_a_package_that_stores_int8_and_multiplies_fp32_is_seen(body: str, heavy: Kernel, tmp_path: Path) -> None:
    """What Inductor writes for the same quantized program with frozen weights, and without."""
    constants = """
    constants_info_[0].name = "_frozen_param0";
    constants_info_[0].dtype = static_cast<int32_t>(cached_torch_dtype_int8);
"""
    with zipfile.ZipFile(tmp_path / "model.pt2", "w") as package:
        package.writestr("model/data/aotinductor/model/c.wrapper.cpp", constants + body)
    assert [kernel for kernel in compiled_kernels(tmp_path / "model.pt2") if kernel.heavy] == [heavy]


class Stored(torch.nn.Module):
    """int8 weights that are made floats before they are used."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("weight", torch.arange(-32, 32, dtype=torch.int8).reshape(8, 8))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.nn.functional.linear(x, self.weight.float() * 0.1)


def test_a_script_that_stores_int8_and_multiplies_fp32_is_seen(tmp_path: Path) -> None:
    specimen = Specimen("stored", Stored, {"x": ("float32", ["batch", 8])})
    exported = export(specimen.model(), specimen.contract(), "torchscript", "fp32", tmp_path, specimen.probes())
    assert heavy_precisions(Ready(specimen, specimen.contract(), exported), precision="int8") == {"fp32"}


class Fragile(torch.nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.linalg.inv(x)


def test_kernels_of_a_graph_that_fails_on_ones_are_an_engine_error(tmp_path: Path) -> None:
    specimen = Specimen("fragile", Fragile, {"x": ("float32", ["batch", 2, 2])})
    exported = export(specimen.model(), specimen.contract(), "torchscript", "fp32", tmp_path, specimen.probes())
    runner = open_runner(exported.artifact)
    with pytest.raises(EngineError, match="cannot show its kernels"):
        runner.kernels()
    with pytest.raises(EngineError, match=r"failed on x \[1, 2, 2\]: .*singular"):
        runner.run({"x": np.zeros((1, 2, 2), "float32")})
    assert runner.run(specimen.feeds(2))["output"].shape == (2, 2, 2)
    runner.close()


def test_threads_and_streams_do_not_change_fp32_answers_much(ready: Make) -> None:
    made = ready("openvino", "fp32", "conv")
    answers = []
    for streams, threads in ((1, 1), (1, 2), (2, 2)):
        runner = open_runner(made.exported.artifact, OperatingPoint(streams=streams, threads=threads))
        answers.append(runner.run(made.specimen.feeds(4))["output"])
        runner.close()
    np.testing.assert_allclose(answers[0], answers[1], atol=1e-5)
    np.testing.assert_allclose(answers[0], answers[2], atol=1e-5)


def test_words_of_all_engines() -> None:
    names = ["c10::BFloat16", "tensor(float)", "u8", "at::Half", "float", "half", "i32"]
    assert [word(name) for name in names] == ["bf16", "fp32", "int8", "fp16", "fp32", "fp16", "int32"]
    assert dtype_words(["float", "Scalar", "", "ScalarList", "long int"]) == ["fp32", "int64"]


@pytest.mark.parametrize(
    ("operands", "precision"),
    [
        (["fp32", "int64"], "fp32"),
        (["fp32", "int8"], "int8"),
        (["bf16", "fp32"], "bf16"),
        (["int64", "bool"], "int64"),
        ([], "unknown"),
    ],
)
def test_the_narrowest_operand_decides(operands: list[str], precision: str) -> None:
    assert precision_of(operands) == precision


def test_kernels_are_counted_heavy_first() -> None:
    found = tally([("add", "fp32", False), ("mm", "fp32", True), ("add", "fp32", False)])
    assert [(kernel.op, kernel.count) for kernel in found] == [("mm", 1), ("add", 2)]
