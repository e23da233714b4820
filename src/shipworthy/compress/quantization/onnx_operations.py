"""Which operations of an ONNX graph ONNX Runtime can execute in int8 on a processor."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, field
from typing import Any

from .onnx_view import OnnxView, attributes, is_standard

SHARING = ("MaxPool", "Reshape", "Flatten", "Transpose", "Squeeze", "Unsqueeze", "Slice", "Resize")
"""They move values without changing them: what comes out has the scale of what went in."""
_LIGHT = (*SHARING, "Add", "Mul", "AveragePool", "GlobalAveragePool", "Concat", "Sigmoid", "LeakyRelu")
"""They have kernels in int8, which pay only between products in int8."""
_LEAST_TABLE = 1024
"""Elements of an embedding from which on it is worth a scale for each row."""


@dataclass(frozen=True, slots=True)
class Operation:
    """A product, a convolution, a recurrent layer or an embedding with constant weights."""

    node: Any
    kind: str
    """Its type in the graph: Conv, Gemm, MatMul, LSTM or Gather."""
    x: str
    """The activation that it reads; of an embedding the indices."""
    weights: tuple[str, ...]
    bias: str | None
    y: str
    """What it gives, after the bias."""
    bias_add: Any | None = None
    """The addition behind a MatMul that adds its bias."""

    @property
    def name(self) -> str:
        return str(self.node.name)

    @property
    def axis(self) -> int:
        """The axis of the weights that has a scale for each entry."""
        if self.kind in ("MatMul", "Gemm"):
            return 0 if attributes(self.node).get("transB") else 1
        return 0


@dataclass(frozen=True, slots=True)
class Islands:
    """Where a graph stays in int8 between its convolutions."""

    tensors: frozenset[str] = frozenset()
    """Made in int8: whoever reads them reads integers."""
    absorbed: dict[str, str] = field(default_factory=dict)
    """Outputs of convolutions and sums whose activation the rounding does as well, with the activation's output."""
    sharing: dict[str, str] = field(default_factory=dict)
    """Tensors that have the scale of another one."""


def operations_of(view: OnnxView) -> tuple[Operation, ...]:
    """In the graph's order. What has no constant weights of float32, or no kernel in int8, is none."""
    found = (_operation(view, node) for node in view.nodes)
    return tuple(operation for operation in found if operation is not None)


def _operation(view: OnnxView, node: Any) -> Operation | None:
    if is_standard(node, "Conv", "Gemm"):
        return _with_bias(view, node)
    if is_standard(node, "MatMul"):
        return _linear(view, node)
    if is_standard(node, "LSTM"):
        return _recurrent(view, node)
    if is_standard(node, "Gather") and not attributes(node).get("axis", 0) and _weight(view, node.input[0], 2):
        table = view.constants[node.input[0]]
        if table.dims[0] * table.dims[1] >= _LEAST_TABLE:
            return Operation(node, "Gather", node.input[1], (node.input[0],), None, node.output[0])
    return None


def _weight(view: OnnxView, name: str, rank: int | None = None) -> bool:
    return name in view.constants and view.is_float(name) and rank in (None, len(view.constants[name].dims))


def _with_bias(view: OnnxView, node: Any) -> Operation | None:
    settings, bias = attributes(node), node.input[2] if len(node.input) > 2 and node.input[2] else None
    plain = (settings.get("alpha", 1.0), settings.get("beta", 1.0), settings.get("transA", 0)) == (1.0, 1.0, 0)
    fits = view.is_float(node.input[0]) and _weight(view, node.input[1]) and (bias is None or _weight(view, bias, 1))
    if not plain or not fits:
        return None
    return Operation(node, node.op_type, node.input[0], (node.input[1],), bias, node.output[0])


def _linear(view: OnnxView, node: Any) -> Operation | None:
    """A product of two activations stays in float: in int8 it was slower, and the softmax behind it less exact."""
    x, weight, y = node.input[0], node.input[1], node.output[0]
    if not view.is_float(x) or not _weight(view, weight, 2) or (view.rank(x) or 2) < 2:
        return None
    after = view.alone(y)
    if after is not None and is_standard(after, "Add"):
        bias = next((name for name in after.input if name != y), "")
        if _weight(view, bias, 1) and view.constants[bias].dims[0] == view.constants[weight].dims[1]:
            return Operation(node, "MatMul", x, (weight,), bias, after.output[0], after)
    return Operation(node, "MatMul", x, (weight,), None, y)


def _recurrent(view: OnnxView, node: Any) -> Operation | None:
    """The kernel in int8 has no layout other than [steps, batch, ...]."""
    fits = all(_weight(view, name, 3) for name in node.input[1:3])
    if not fits or attributes(node).get("layout", 0) or not view.is_float(node.input[0]):
        return None
    return Operation(node, "LSTM", node.input[0], tuple(node.input[1:3]), None, node.output[0])


def islands_of(view: OnnxView, quantized: Collection[Operation]) -> Islands:
    """What is int8 from end to end when these operations are: everything behind a convolution that has such a kernel.

    Behind products the values stay float: there the next step is a normalisation or a softmax."""
    convolutions = {operation.name for operation in quantized if operation.kind == "Conv"}
    tensors: set[str] = set()
    absorbed: dict[str, str] = {}
    sharing: dict[str, str] = {}
    for node in view.nodes:
        if node.name not in convolutions and not _light(view, node, tensors):
            continue
        made = _after_activation(view, node) if node.op_type in ("Conv", "Add") else node.output[0]
        if made != node.output[0]:
            absorbed[node.output[0]] = made
        tensors.add(made)
        if node.op_type in SHARING:
            sharing[made] = node.input[0]
    return Islands(frozenset(tensors), absorbed, sharing)


def rounded_by(view: OnnxView, operations: Collection[Operation]) -> dict[str, tuple[str, ...]]:
    """For each operation that reads what others gave rounded: the names of those convolutions.

    They are looked for behind what moves values, and behind one step, such as a sum, that makes others of them."""
    islands = islands_of(view, operations)
    given = {operation.y: operation.name for operation in operations if operation.kind == "Conv"}
    convolutions = {islands.absorbed.get(output, output): name for output, name in given.items()}
    raw = {made: output for output, made in islands.absorbed.items()}

    def origin(tensor: str) -> str:
        while tensor in islands.sharing:
            tensor = islands.sharing[tensor]
        return tensor

    found = {}
    for operation in operations:
        made = origin(operation.x)
        if made not in islands.tensors:
            continue
        sources = [made] if made in convolutions else view.producer[raw.get(made, made)].input
        names = (convolutions.get(origin(source)) for source in sources)
        found[operation.name] = tuple(dict.fromkeys(name for name in names if name is not None))
    return found


def _light(view: OnnxView, node: Any, integer: Collection[str]) -> bool:
    if not is_standard(node, *_LIGHT) or len(node.output) != 1:
        return False
    data = node.input if node.op_type in ("Add", "Mul", "Concat") else node.input[:1]
    if node.op_type == "Resize" and attributes(node).get("mode", b"nearest") != b"nearest":
        return False
    return all(name in integer for name in data)


def _after_activation(view: OnnxView, node: Any) -> str:
    """The output of a Relu or a Clip from 0 behind it, which rounding to unsigned numbers does at no cost."""
    after = view.alone(node.output[0])
    if after is None or not is_standard(after, "Relu", "Clip"):
        return str(node.output[0])
    if after.op_type == "Clip":
        low = after.input[1] if len(after.input) > 1 else ""
        if low not in view.constants or float(view.array(low)) != 0.0:
            return str(node.output[0])
    return str(after.output[0])
