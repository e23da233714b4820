"""A precision is what executes, not what a candidate calls itself."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from shipworthy.contract import Signature
from shipworthy.measure import precision_refusal
from shipworthy.measure.kernels import executed_share, precision_note
from shipworthy.runtime import Artifact, Kernel, open_runner


def kernel(precision: str, count: int = 1, op: str = "Conv", *, heavy: bool = True) -> Kernel:
    return Kernel(op=op, precision=precision, count=count, heavy=heavy)


def test_int8_in_no_heavy_kernel_is_refused() -> None:
    light = kernel("int8", 20, "QLinearAdd", heavy=False)
    assert precision_refusal([kernel("fp32", 9), light], "int8") == (
        "claims int8, but all 9 heavy kernels execute in fp32"
    )
    assert "no matrix product or convolution" in (precision_refusal([light], "int8") or "")


@pytest.mark.parametrize(("int8", "fp32", "share"), [(1, 49, 0.02), (25, 25, 0.5), (49, 1, 0.98), (7, 0, 1.0)])
def test_the_share_counts_heavy_kernels(int8: int, fp32: int, share: float) -> None:
    found = [kernel("int8", int8), *([kernel("fp32", fp32)] if fp32 else []), kernel("fp32", 99, "Add", heavy=False)]
    assert precision_refusal(found, "int8") is None
    assert executed_share(found, "int8") == share
    note = precision_note(found, "int8")
    if share < 0.5:
        assert note == f"{int8} of {int8 + fp32} heavy kernels execute in int8, the others in fp32"
    else:
        assert note is None


def test_without_heavy_kernels_there_is_no_share() -> None:
    assert executed_share([], "int8") == executed_share([kernel("int8", heavy=False)], "int8") == 0.0
    assert precision_note([], "int8") is None


def test_fp32_is_said_of_all_or_of_none() -> None:
    assert precision_note([kernel("fp32"), kernel("bf16", 9)], "fp32") is None
    assert precision_refusal([kernel("fp32", 9), kernel("bf16")], "fp32") is not None


STEP = [0.05, 0.02, 0.1]
"""Of the input, of the weights, and of the output."""


def doctored(folder: Path, *, rounded_output: bool) -> Artifact:
    """A convolution between the nodes of an int8 graph. Without integers behind it no kernel in int8 has an output."""
    weight = np.random.default_rng(0).integers(-127, 128, (8, 3, 3, 3), dtype=np.int8)
    constants = [numpy_helper.from_array(weight, "w")]
    for number, step in enumerate(STEP):
        kind = np.int8 if number == 1 else np.uint8
        zero = np.array(0 if number == 1 else 128, kind)
        constants += [
            numpy_helper.from_array(np.array(step, np.float32), f"s{number}"),
            numpy_helper.from_array(zero, f"z{number}"),
        ]
    conv = "conv" if rounded_output else "y"
    nodes = [
        helper.make_node("QuantizeLinear", ["x", "s0", "z0"], ["xq"]),
        helper.make_node("DequantizeLinear", ["xq", "s0", "z0"], ["xd"]),
        helper.make_node("DequantizeLinear", ["w", "s1", "z1"], ["wd"]),
        helper.make_node("Conv", ["xd", "wd"], [conv]),
    ]
    if rounded_output:
        nodes.append(helper.make_node("QuantizeLinear", ["conv", "s2", "z2"], ["yq"]))
        nodes.append(helper.make_node("DequantizeLinear", ["yq", "s2", "z2"], ["y"]))
    return written(folder, nodes, constants, ["batch", 3, 8, 8], ["batch", 8, 6, 6])


def written(folder: Path, nodes: list[Any], constants: list[Any], x: list[Any], y: list[Any]) -> Artifact:
    graph = helper.make_graph(
        nodes,
        "doctored",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, x)],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, y)],
        constants,
    )
    opsets = [helper.make_opsetid("", 21), helper.make_opsetid("com.microsoft", 1)]
    onnx.save(helper.make_model(graph, opset_imports=opsets, ir_version=10), folder / "model.onnx")
    signature = Signature.model_validate(
        {"inputs": {"x": {"dtype": "float32", "shape": x}}, "outputs": {"y": {"dtype": "float32", "shape": y}}}
    )
    return Artifact("onnxruntime", "int8", folder, signature)


def executed(artifact: Artifact) -> tuple[Kernel, ...]:
    runner = open_runner(artifact)
    found = runner.kernels()
    runner.close()
    return found


def test_an_int8_graph_that_the_engine_multiplies_in_fp32_is_refused(tmp_path: Path) -> None:
    refusal = precision_refusal(executed(doctored(tmp_path, rounded_output=False)), "int8")
    assert refusal == "claims int8, but all 1 heavy kernels execute in fp32"


def test_the_same_graph_that_the_engine_multiplies_in_int8_is_not(tmp_path: Path) -> None:
    found = executed(doctored(tmp_path, rounded_output=True))
    assert [k.op for k in found if k.heavy] == ["QLinearConv"]
    assert precision_refusal(found, "int8") is None and executed_share(found, "int8") == 1.0


def test_packed_weights_that_become_floats_before_the_product_are_no_int8(tmp_path: Path) -> None:
    random = np.random.default_rng(0)
    constants = [
        numpy_helper.from_array(random.integers(0, 256, (16, 2, 16), dtype=np.uint8), "packed"),
        numpy_helper.from_array(np.full(32, 0.1, np.float32), "steps"),
    ]
    node = helper.make_node(
        "MatMulNBits", ["x", "packed", "steps"], ["y"], domain="com.microsoft", K=64, N=16, bits=4, block_size=32
    )
    found = executed(written(tmp_path, [node], constants, ["batch", 64], ["batch", 16]))
    assert [(k.op, k.precision) for k in found if k.heavy] == [("MatMulNBits", "fp32")]
    assert precision_refusal(found, "int8") is not None
