"""Write an ONNX graph in int8: integers in place of float weights, and the nodes around them that ONNX Runtime takes
for products of integers."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from typing import Any

import numpy as np
from onnx import helper, numpy_helper

from ...contract import Array
from .onnx_integers import Grid, grid_of, integer_bias, integer_weight, least_weight_scale
from .onnx_operations import Islands, Operation, islands_of
from .onnx_view import MICROSOFT, OnnxView, attributes, with_nodes
from .scheme import Scheme

Ranges = Mapping[str, tuple[float, float]]


def static_graph(
    view: OnnxView, operations: Sequence[Operation], ranges: Ranges, scheme: Scheme, keep_float: Collection[str]
) -> Any:
    """The graph with these operations in int8, but for those whose names are in `keep_float`."""
    quantized = [operation for operation in operations if operation.name not in keep_float]
    return _Static(view, quantized, scheme, ranges).model()


def dynamic_graph(view: OnnxView, operations: Sequence[Operation], scheme: Scheme) -> Any:
    """The graph with weights in int8, and activations that become uint8 in each run, by their own range."""
    return _Writer(view, operations, scheme).model()


class _Writer:
    """Goes through the nodes in order. On its own it writes what needs no ranges."""

    def __init__(self, view: OnnxView, operations: Sequence[Operation], scheme: Scheme) -> None:
        self.view = view
        self.scheme = scheme
        self._operations = {operation.name: operation for operation in operations}
        self._dropped = {operation.bias_add.name for operation in operations if operation.bias_add is not None}
        self._readers = Counter(operation.x for operation in operations if operation.kind in ("MatMul", "Gemm"))
        self._nodes: list[Any] = []
        self._constants: list[Any] = []
        self._made: set[str] = set()

    def model(self) -> Any:
        for node in self.view.nodes:
            if node.name in self._dropped:
                continue
            if (operation := self._operations.get(node.name)) is not None:
                self.write(operation)
            else:
                self.pass_on(node)
        return with_nodes(self.view.model, self._nodes, self._constants)

    def pass_on(self, node: Any) -> None:
        self._nodes.append(node)

    def write(self, operation: Operation) -> None:
        if operation.kind == "Gather":
            self._table(operation)
        elif operation.kind == "LSTM":
            self._recurrent(operation)
        else:
            self.product(operation)

    def product(self, operation: Operation) -> None:
        """Where several products read the same activation, it becomes integers once for all of them."""
        weight, scale, bias = self._columns(operation)
        if self._readers[operation.x] == 1:
            inputs = [operation.x, weight, scale, "", bias]
            self.add("DynamicQuantizeMatMul", inputs, operation.y, operation.name, MICROSOFT)
            return
        x = operation.x
        names = (f"{x}:integers", f"{x}:step", f"{x}:zero")
        if self.first(names[0]):
            self._nodes.append(helper.make_node("DynamicQuantizeLinear", [x], names, f"{x}:quantize"))
        self.integer_product(operation, names, (weight, scale, bias))

    def integer_product(self, operation: Operation, x: tuple[str, str, str], columns: tuple[str, str, str]) -> None:
        weight, scale, bias = columns
        inputs = [x[0], weight, x[1], scale, x[2], "", bias]
        self.add("MatMulIntegerToFloat", inputs, operation.y, operation.name, MICROSOFT)

    def _columns(self, operation: Operation) -> tuple[str, str, str]:
        """Names of the weight [in, out] in integers, its scales [out], and the float bias (empty without one)."""
        values = self.view.array(operation.weights[0])
        integers, scale = integer_weight(values.T if operation.axis == 0 else values, 1, self.scheme)
        name = self.constant(f"{operation.name}:weight", np.ascontiguousarray(integers))
        return name, self.constant(f"{operation.name}:weight_scale", scale), operation.bias or ""

    def _table(self, operation: Operation) -> None:
        """An embedding keeps a scale for each row."""
        integers, scale = integer_weight(self.view.array(operation.weights[0]), 0, self.scheme)
        rows = self.constant(f"{operation.name}:rows", integers)
        scales = self.constant(f"{operation.name}:row_scales", scale[:, None])
        taken, factor = f"{operation.name}:taken", f"{operation.name}:factor"
        self.add("Gather", [rows, operation.x], taken, operation.name)
        self.add("Gather", [scales, operation.x], factor, f"{operation.name}:scale")
        self.add("Cast", [taken], f"{taken}:float", f"{operation.name}:cast", to=1)
        self.add("Mul", [f"{taken}:float", factor], operation.y, f"{operation.name}:rescale")

    def _recurrent(self, operation: Operation) -> None:
        """Weights [directions, 4 * hidden, in] lie transposed, with a scale for each direction and gate."""
        node, parts = operation.node, []
        for name, short in zip(operation.weights, ("input", "recurrent"), strict=True):
            values = self.view.array(name)
            integers, scale = integer_weight(values.reshape(-1, values.shape[2]), 0, self.scheme)
            laid = np.ascontiguousarray(integers.reshape(values.shape).transpose(0, 2, 1))
            stem = f"{operation.name}:{short}"
            scales = scale.reshape(values.shape[:2])
            zero = self.constant(f"{stem}:zero", np.zeros(values.shape[:2], np.int8))
            parts.append((self.constant(stem, laid), self.constant(f"{stem}:scale", scales), zero))
        rest = [*node.input[3:8], *[""] * (8 - len(node.input))]
        (weight, *weight_grid), (recurrence, *recurrence_grid) = parts
        inputs = [node.input[0], weight, recurrence, *rest, *weight_grid, *recurrence_grid]
        settings = {key: value for key, value in attributes(node).items() if key != "layout"}
        made = helper.make_node(
            "DynamicQuantizeLSTM", inputs, list(node.output), operation.name, domain=MICROSOFT, **settings
        )
        self._nodes.append(made)

    def add(self, op: str, inputs: Sequence[str], output: str, name: str, domain: str = "", **settings: Any) -> None:
        last = next((number for number in range(len(inputs), 0, -1) if inputs[number - 1]), 0)
        self._nodes.append(helper.make_node(op, inputs[:last], [output], name, domain=domain, **settings))

    def constant(self, name: str, values: Array) -> str:
        if self.first(name):
            self._constants.append(numpy_helper.from_array(values, name))
        return name

    def first(self, name: str) -> bool:
        """Whether this is made for the first time."""
        new = name not in self._made
        self._made.add(name)
        return new


class _Static(_Writer):
    """Writes QuantizeLinear and DequantizeLinear around convolutions and what lies between them, which ONNX Runtime
    makes QLinear kernels of; and integer products for matrices, which take their float bias along."""

    def __init__(self, view: OnnxView, operations: Sequence[Operation], scheme: Scheme, ranges: Ranges) -> None:
        super().__init__(view, operations, scheme)
        self._ranges = ranges
        self._islands: Islands = islands_of(view, operations)
        self._dropped |= {view.consumers[name][0].name for name in self._islands.absorbed}

    def pass_on(self, node: Any) -> None:
        if len(node.output) == 1 and self._made_of(node.output[0]) in self._islands.tensors:
            self._to_integers(node, list(node.input))
        else:
            super().pass_on(node)

    def write(self, operation: Operation) -> None:
        if operation.kind in ("Conv", "Gemm"):
            self._framed(operation)
        else:
            super().write(operation)

    def product(self, operation: Operation) -> None:
        self.integer_product(operation, self._integers(operation.x), self._columns(operation))

    def _framed(self, operation: Operation) -> None:
        """An operation that stays as it is, between integers that become floats and floats that become integers."""
        grid, values = self._grid(operation.x), self.view.array(operation.weights[0])
        bias = self.view.array(operation.bias) if operation.bias else None
        least = None if bias is None else least_weight_scale(bias, grid)
        integers, scale = integer_weight(values, operation.axis, self.scheme, least)
        inputs = [
            self._floats(operation.x),
            self._dequantized(f"{operation.name}:weight", integers, scale, operation.axis),
        ]
        if bias is not None:
            inputs.append(self._dequantized(f"{operation.name}:bias", *integer_bias(bias, grid, scale), 0))
        if operation.kind == "Conv":
            self._to_integers(operation.node, inputs)
        else:
            settings = attributes(operation.node)
            self._nodes.append(helper.make_node("Gemm", inputs, [operation.y], operation.name, **settings))

    def _dequantized(self, name: str, integers: Array, scale: Array, axis: int) -> str:
        zero = np.zeros(scale.shape, integers.dtype)
        inputs = [
            self.constant(name, integers),
            self.constant(f"{name}:scale", scale),
            self.constant(f"{name}:zero", zero),
        ]
        self.add("DequantizeLinear", inputs, f"{name}:float", f"{name}:dequantize", axis=axis)
        return f"{name}:float"

    def _to_integers(self, node: Any, inputs: list[str]) -> None:
        """The node with its output as integers, and as floats under the name that its readers know."""
        made = self._made_of(node.output[0])
        copy = type(node)()
        copy.CopyFrom(node)
        copy.input[:] = inputs
        copy.output[:] = [f"{made}:exact"]
        self._nodes.append(copy)
        integers, step, zero = self._quantized(f"{made}:exact", made)
        self.first(f"{made}:integers")
        self.add("DequantizeLinear", [integers, step, zero], made, f"{made}:dequantize")

    def _made_of(self, output: str) -> str:
        return self._islands.absorbed.get(output, output)

    def _integers(self, tensor: str) -> tuple[str, str, str]:
        """Names of a tensor's integers, their scale and their zero point."""
        if self.first(f"{tensor}:integers"):
            return self._quantized(tensor, tensor)
        return f"{tensor}:integers", *self._grid_names(tensor)

    def _floats(self, tensor: str) -> str:
        """The tensor after it was rounded to integers."""
        if tensor in self._islands.tensors:
            return tensor
        names = self._integers(tensor)
        if self.first(f"{tensor}:rounded"):
            self.add("DequantizeLinear", names, f"{tensor}:rounded", f"{tensor}:dequantize")
        return f"{tensor}:rounded"

    def _quantized(self, source: str, tensor: str) -> tuple[str, str, str]:
        step, zero = self._grid_names(tensor)
        self.add("QuantizeLinear", [source, step, zero], f"{tensor}:integers", f"{tensor}:quantize")
        return f"{tensor}:integers", step, zero

    def _grid_names(self, tensor: str) -> tuple[str, str]:
        root, grid = self._root(tensor), self._grid(tensor)
        return self.constant(f"{root}:step", grid.scale), self.constant(f"{root}:zero", grid.zero_point)

    def _grid(self, tensor: str) -> Grid:
        return grid_of(*self._ranges[self._root(tensor)], self.scheme)

    def _root(self, tensor: str) -> str:
        """The tensor whose scale this one has."""
        while tensor in self._islands.sharing:
            tensor = self._islands.sharing[tensor]
        return tensor


def quantized_tensors(view: OnnxView, operations: Sequence[Operation]) -> tuple[str, ...]:
    """The activations whose ranges a static graph needs, whatever is kept in float."""
    read = [operation.x for operation in operations if operation.kind in ("Conv", "Gemm", "MatMul")]
    made = islands_of(view, operations).tensors
    return tuple(dict.fromkeys([*read, *sorted(made)]))
