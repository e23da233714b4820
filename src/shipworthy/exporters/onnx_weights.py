"""int8 weights of an ONNX graph, stored as such: what is quantized of constants is computed ahead of time."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from ..contract import Array


def store_int8_weights(model: Any) -> None:
    """Replace, in place, the quantized constants in front of each DequantizeLinear by the integers that they are.

    Exporters leave the weights in float with the quantization behind them, which makes a file of an int8 model as large
    as that of the float one; and what they put in between keeps the engine from seeing weights in it."""
    graph = model.graph
    _hoist_constants(graph)
    makers = {output: node for node in graph.node for output in node.output}
    constants = {tensor.name for tensor in graph.initializer} - {value.name for value in graph.input}
    for node in [node for node in graph.node if node.op_type == "DequantizeLinear"]:
        needed = _needed(node.input[0], makers, constants)
        if needed:
            computed = _computed(model, needed, node.input[0])
            graph.initializer.append(computed)
            constants.add(computed.name)
            graph.node.remove(needed[-1])
    _store_biases(graph)
    _drop_implied(graph)
    _drop_unused(graph)


def _hoist_constants(graph: Any) -> None:
    import onnx

    for node in [node for node in graph.node if node.op_type == "Constant"]:
        value = onnx.helper.get_node_attr_value(node, node.attribute[0].name)
        if node.attribute[0].name == "value":
            value.name = node.output[0]
            graph.initializer.append(value)
            graph.node.remove(node)


def _store_biases(graph: Any) -> None:
    """ONNX Runtime makes an integer product of a Gemm only where the bias is of integers too, at the scale of the
    accumulator: 32 bits, the scales of both operands multiplied."""
    import onnx

    makers = {output: node for node in graph.node for output in node.output}
    values = {tensor.name: tensor for tensor in graph.initializer}
    for place, node in reversed(list(enumerate(graph.node))):
        sources = [_dequantizing(name, makers) for name in node.input[:2]]
        if node.op_type not in ("Conv", "Gemm") or len(node.input) < 3 or None in sources:
            continue
        if {node.input[2], *(source.input[1] for source in sources if source is not None)} - values.keys():
            continue
        scales = [onnx.numpy_helper.to_array(values[source.input[1]]) for source in sources if source is not None]
        bias = onnx.numpy_helper.to_array(values[node.input[2]])
        scale = np.broadcast_to(np.asarray(scales[0] * scales[1], np.float32).reshape(-1), bias.shape).copy()
        name = f"{node.output[0]}_bias"
        steps = bias_steps(bias, scale)
        if steps is None:
            continue
        graph.initializer.append(onnx.numpy_helper.from_array(steps, f"{name}_steps"))
        graph.initializer.append(onnx.numpy_helper.from_array(scale, f"{name}_scale"))
        made = onnx.helper.make_node("DequantizeLinear", [f"{name}_steps", f"{name}_scale"], [name], axis=0)
        graph.node.insert(place, made)
        node.input[2] = name


def bias_steps(bias: Array, scale: Array) -> Array | None:
    """A bias in integers of 32 bits at the scale of the products that it is added to; None where it does not fit."""
    exact = np.rint(bias.astype(np.float64) / np.maximum(scale, np.finfo(np.float32).tiny))
    return exact.astype(np.int32) if bool((np.abs(exact) <= np.iinfo(np.int32).max).all()) else None


def _dequantizing(name: str, makers: dict[str, Any]) -> Any:
    """The node that dequantizes a value, with nothing behind it but what moves values; None where there is none."""
    node = makers.get(name)
    while node is not None and node.op_type in ("Reshape", "Flatten", "Transpose", "Squeeze", "Unsqueeze", "MaxPool"):
        node = makers.get(node.input[0])
    return node if node is not None and node.op_type == "DequantizeLinear" else None


def _needed(wanted: str, makers: dict[str, Any], constants: set[str]) -> list[Any] | None:
    """The nodes that a value is computed by, first to last; None where an input of the graph takes part."""
    if not wanted or wanted in constants:
        return []
    if wanted not in makers:
        return None
    node = makers[wanted]
    found: list[Any] = []
    for name in node.input:
        before = _needed(name, makers, constants)
        if before is None:
            return None
        found += [other for other in before if not any(other is known for known in found)]
    return [*found, node]


def _computed(model: Any, nodes: list[Any], output: str) -> Any:
    import onnx
    from onnx.reference import ReferenceEvaluator

    used = {name for node in nodes for name in node.input}
    part = onnx.helper.make_graph(
        nodes,
        "weights",
        [],
        [onnx.helper.make_empty_tensor_value_info(output)],
        [tensor for tensor in model.graph.initializer if tensor.name in used],
    )
    small = onnx.helper.make_model(part, opset_imports=list(model.opset_import), ir_version=model.ir_version)
    (value,) = ReferenceEvaluator(small).run(None, {})
    return onnx.numpy_helper.from_array(np.asarray(value), output)


def _drop_implied(graph: Any) -> None:
    """A Relu in front of unsigned integers from 0 on does nothing more than they do, and keeps ONNX Runtime from
    joining them to the Gemm before it."""
    import onnx

    values = {tensor.name: tensor for tensor in graph.initializer}
    outputs = {value.name for value in graph.output}
    for relu in [node for node in graph.node if node.op_type == "Relu" and node.output[0] not in outputs]:
        users = [node for node in graph.node if relu.output[0] in node.input]
        points = [values.get(user.input[2]) if len(user.input) > 2 else None for user in users]
        kinds = {user.op_type for user in users}
        if kinds != {"QuantizeLinear"} or not all(_is_unsigned_zero(onnx, point) for point in points):
            continue
        for user in users:
            user.input[0] = relu.input[0]
        graph.node.remove(relu)


def _is_unsigned_zero(onnx: Any, point: Any) -> bool:
    return (
        point is not None and point.data_type == onnx.TensorProto.UINT8 and not onnx.numpy_helper.to_array(point).any()
    )


def _read_in(graph: Any) -> set[str]:
    """Names that nodes read, those included that the bodies of If and Loop take from outside."""
    names = {name for node in graph.node for name in node.input}
    for body in _bodies(graph):
        names |= _read_in(body) | {value.name for value in body.output}
    return names


def _bodies(graph: Any) -> Iterator[Any]:
    for node in graph.node:
        for attribute in node.attribute:
            if attribute.HasField("g"):
                yield attribute.g
            yield from attribute.graphs


def _drop_unused(graph: Any) -> None:
    outputs = {value.name for value in graph.output}
    while True:
        used = _read_in(graph) | outputs
        unused = [node for node in graph.node if not used.intersection(node.output)]
        if not unused:
            break
        for node in unused:
            graph.node.remove(node)
    for tensor in [tensor for tensor in graph.initializer if tensor.name not in used]:
        graph.initializer.remove(tensor)
