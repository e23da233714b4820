"""Constants that become integers, those that do not fit, and what the bodies of branches take from outside."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from shipworthy.exporters.onnx_weights import bias_steps, store_int8_weights


def test_a_bias_that_does_not_fit_has_no_integers() -> None:
    scale = np.array([1e-3, 1e-3], np.float32)
    steps = bias_steps(np.array([0.5, -0.25], np.float32), scale)
    assert steps is not None and steps.dtype == np.int32 and steps.tolist() == [500, -250]
    assert bias_steps(np.array([0.5, 1e9], np.float32), scale) is None
    assert bias_steps(np.array([0.5, np.nan], np.float32), scale) is None


def _gemm(bias: float) -> Any:
    constants = {
        "scale": np.array(1e-3, np.float32),
        "zero": np.array(0, np.uint8),
        "steps": np.ones((2, 2), np.int8),
        "bias": np.array([bias, 0.0], np.float32),
    }
    nodes = [
        helper.make_node("QuantizeLinear", ["x", "scale", "zero"], ["q"]),
        helper.make_node("DequantizeLinear", ["q", "scale", "zero"], ["d"]),
        helper.make_node("DequantizeLinear", ["steps", "scale"], ["w"]),
        helper.make_node("Gemm", ["d", "w", "bias"], ["y"]),
    ]
    return _model(nodes, constants)


def _model(nodes: list[Any], constants: dict[str, Any]) -> Any:
    ports = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [1, 2]) for name in "xy"]
    stored = [numpy_helper.from_array(value, name) for name, value in constants.items()]
    graph = helper.make_graph(nodes, "net", ports[:1], ports[1:], stored)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)])


def test_a_bias_too_large_for_its_scale_stays_in_float() -> None:
    small, large = _gemm(1.0), _gemm(1e6)
    for model in (small, large):
        store_int8_weights(model)
        onnx.checker.check_model(model)
    assert next(node for node in small.graph.node if node.op_type == "Gemm").input[2] == "y_bias"
    assert next(node for node in large.graph.node if node.op_type == "Gemm").input[2] == "bias"


def test_what_a_branch_takes_from_outside_stays() -> None:
    out = helper.make_tensor_value_info("z", TensorProto.FLOAT, [1, 2])
    yes = helper.make_graph([helper.make_node("Add", ["moved", "far"], ["z"])], "yes", [], [out])
    no = helper.make_graph([helper.make_node("Identity", ["x"], ["z"])], "no", [], [out])
    nodes = [
        helper.make_node("Neg", ["x"], ["moved"]),
        helper.make_node("Abs", ["x"], ["unused"]),
        helper.make_node("If", ["which"], ["y"], then_branch=yes, else_branch=no),
    ]
    constants = {"which": np.array(True), "far": np.ones((1, 2), np.float32), "nowhere": np.ones(2, np.float32)}
    model = _model(nodes, constants)
    store_int8_weights(model)
    onnx.checker.check_model(model, full_check=True)
    assert [node.op_type for node in model.graph.node] == ["Neg", "If"]
    assert {tensor.name for tensor in model.graph.initializer} == {"which", "far"}
