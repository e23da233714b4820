"""int8 weights of an ONNX graph, stored as such: what a QuantizeLinear makes of a constant is computed ahead of time."""

from __future__ import annotations

from typing import Any


def store_int8_weights(model: Any) -> None:
    """Replace, in place, every QuantizeLinear of constants by the integers that it gives.

    Exporters leave the weights in float with the quantization behind them, which makes a file of an int8 model as large
    as that of the float one."""
    graph = model.graph
    makers = {output: node for node in graph.node for output in node.output}
    constants = {tensor.name for tensor in graph.initializer} - {value.name for value in graph.input}
    for node in [node for node in graph.node if node.op_type == "QuantizeLinear"]:
        needed = _needed(node, makers, constants)
        if needed is not None:
            graph.initializer.append(_computed(model, needed, node.output[0]))
            graph.node.remove(node)
    _drop_unused(graph)


def _needed(node: Any, makers: dict[str, Any], constants: set[str]) -> list[Any] | None:
    """The nodes that a value is computed by, first to last; None where an input of the graph takes part."""
    found: list[Any] = []
    for name in node.input:
        if not name or name in constants:
            continue
        before = _needed(makers[name], makers, constants) if name in makers else None
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
    return onnx.numpy_helper.from_array(value, output)


def _drop_unused(graph: Any) -> None:
    outputs = {value.name for value in graph.output}
    while True:
        used = {name for node in graph.node for name in node.input} | outputs
        unused = [node for node in graph.node if not used.intersection(node.output)]
        if not unused:
            break
        for node in unused:
            graph.node.remove(node)
    for tensor in [tensor for tensor in graph.initializer if tensor.name not in used]:
        graph.initializer.remove(tensor)
