"""What the float graph's own values are: the range of each activation, and how far each operation falls in int8."""

from __future__ import annotations

import tempfile
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import helper, numpy_helper

from ...contract import Array, Arrays
from .onnx_integers import Grid, integer_weight
from .onnx_operations import Operation
from .onnx_view import OnnxView, with_nodes
from .scheme import Scheme

_IN_MEMORY = 2 * 10**9
"""Bytes above which a protobuf cannot be handed over without a file."""
INFINITE_DB = 999.0


def extremes(view: OnnxView, tensors: Sequence[str], feeds: Iterable[Arrays], threads: int) -> dict[str, Array]:
    """Smallest and largest value [feeds, 2] of each tensor."""
    nodes = [
        helper.make_node(kind, [name], [f"{kind}_{name}"], keepdims=0)
        for name in tensors
        for kind in ("ReduceMin", "ReduceMax")
    ]
    found = _run(view, nodes, (), feeds, threads, fused=True)
    return dict(zip(tensors, found.reshape(len(found), len(tensors), 2).swapaxes(0, 1), strict=True))


def rounding_errors(
    view: OnnxView, grids: Sequence[tuple[str, Grid]], feeds: Iterable[Arrays], threads: int
) -> Array:
    """Sum of squares [grids] of what each tensor loses when it is rounded to the grid beside it."""
    nodes: list[Any] = []
    constants: list[Any] = []
    for number, (tensor, grid) in enumerate(grids):
        stem = f"{tensor} {number}"
        step, zero = f"{stem} step", f"{stem} zero"
        constants += [numpy_helper.from_array(grid.scale, step), numpy_helper.from_array(grid.zero_point, zero)]
        nodes += [
            helper.make_node("QuantizeLinear", [tensor, step, zero], [f"{stem} integers"]),
            helper.make_node("DequantizeLinear", [f"{stem} integers", step, zero], [f"{stem} rounded"]),
            helper.make_node("Sub", [tensor, f"{stem} rounded"], [f"{stem} error"]),
            helper.make_node("ReduceSumSquare", [f"{stem} error"], [f"{stem} noise"], keepdims=0),
        ]
    return np.asarray(_run(view, nodes, constants, feeds, threads, fused=False).sum(axis=0, dtype=np.float64))


def noise(
    view: OnnxView,
    operations: Sequence[Operation],
    grids: Mapping[str, Grid],
    scheme: Scheme,
    feeds: Iterable[Arrays],
    threads: int,
) -> dict[str, float]:
    """SQNR in dB of each operation's output when only its own inputs and weights are rounded: every operation has a
    twin that reads the same float values, and only the two sums of squares leave the graph."""
    nodes: list[Any] = []
    constants: list[Any] = []
    for operation in operations:
        twin, more = _twin(view, operation, grids.get(operation.x), scheme)
        exact = next(name for name in operation.node.output if name)
        stem = f"{operation.name} twin"
        nodes += [
            *twin,
            helper.make_node("Sub", [exact, f"{exact} twin"], [f"{stem} error"]),
            helper.make_node("ReduceSumSquare", [exact], [f"{stem} signal"], keepdims=0),
            helper.make_node("ReduceSumSquare", [f"{stem} error"], [f"{stem} noise"], keepdims=0),
        ]
        constants += more
    sums = _run(view, nodes, constants, feeds, threads, fused=False).astype(np.float64).sum(axis=0)
    pairs = sums.reshape(len(operations), 2)
    return {operation.name: _decibels(*pair) for operation, pair in zip(operations, pairs.tolist(), strict=True)}


def _decibels(signal: float, error: float) -> float:
    if not error:
        return INFINITE_DB
    return 10 * float(np.log10(signal / error)) if signal else -INFINITE_DB


def _twin(view: OnnxView, operation: Operation, grid: Grid | None, scheme: Scheme) -> tuple[list[Any], list[Any]]:
    """The operation once more, with a rounded activation and rounded weights."""
    stem = f"{operation.name} twin"
    copy = onnx.NodeProto()
    copy.CopyFrom(operation.node)
    copy.name = stem
    copy.output[:] = [f"{name} twin" if name else "" for name in operation.node.output]
    nodes, constants = [], []
    for number, name in enumerate(operation.weights):
        integers, scale = _rounded(view.array(name), operation, scheme)
        place = list(operation.node.input).index(name)
        parts = (f"{stem} {number}", f"{stem} {number} scale")
        constants += [numpy_helper.from_array(values, part) for values, part in zip((integers, scale), parts, strict=True)]
        copy.input[place] = f"{stem} {number} float"
        if operation.kind == "LSTM":
            nodes += _times(parts, copy.input[place])
        else:
            nodes.append(helper.make_node("DequantizeLinear", parts, [copy.input[place]], axis=operation.axis))
    if operation.kind == "Gather":
        return [*nodes, copy], constants
    copy.input[0] = f"{stem} x"
    step, zero, rounded = f"{stem} step", f"{stem} zero", f"{stem} integers"
    if grid is None:
        nodes.append(helper.make_node("DynamicQuantizeLinear", [operation.x], [rounded, step, zero]))
    else:
        constants += [numpy_helper.from_array(grid.scale, step), numpy_helper.from_array(grid.zero_point, zero)]
        nodes.append(helper.make_node("QuantizeLinear", [operation.x, step, zero], [rounded]))
    nodes.append(helper.make_node("DequantizeLinear", [rounded, step, zero], [f"{stem} x"]))
    return [*nodes, copy], constants


def _rounded(values: Array, operation: Operation, scheme: Scheme) -> tuple[Array, Array]:
    if operation.kind != "LSTM":
        return integer_weight(values, operation.axis, scheme)
    integers, scale = integer_weight(values.reshape(-1, values.shape[2]), 0, scheme)
    return integers.reshape(values.shape), scale.reshape(*values.shape[:2], 1)


def _times(parts: tuple[str, str], output: str) -> list[Any]:
    """DequantizeLinear has scales along one axis only; recurrent weights have them along two."""
    return [
        helper.make_node("Cast", [parts[0]], [f"{output} cast"], to=onnx.TensorProto.FLOAT),
        helper.make_node("Mul", [f"{output} cast", parts[1]], [output]),
    ]


def _run(
    view: OnnxView, nodes: Sequence[Any], constants: Sequence[Any], feeds: Iterable[Arrays], threads: int, *, fused: bool
) -> Array:
    """The last value of each node that reduces, [feeds, values]."""
    model = with_nodes(view.model, [*view.nodes, *nodes], constants)
    wanted = [node.output[0] for node in nodes if node.op_type.startswith("Reduce")]
    del model.graph.output[:]
    model.graph.output.extend(helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, []) for name in wanted)
    with tempfile.TemporaryDirectory() as folder:
        session = _session(model, Path(folder), threads, fused)
        needed = [value.name for value in session.get_inputs()]
        rows = [session.run(wanted, {name: np.ascontiguousarray(feed[name]) for name in needed}) for feed in feeds]
    return np.asarray(rows, np.float32).reshape(len(rows), len(wanted))


def _session(model: Any, folder: Path, threads: int, fused: bool) -> Any:
    """Not fused: rounding is executed as it is written, and no two operations become one."""
    import onnxruntime as ort  # type: ignore[import-untyped]

    options = ort.SessionOptions()
    options.intra_op_num_threads = threads
    options.log_severity_level = 3
    if not fused:
        options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    source: Any = str(folder / "probe.onnx")
    if model.ByteSize() < _IN_MEMORY:
        source = model.SerializeToString()
    else:
        onnx.save_model(model, source, save_as_external_data=True)
    return ort.InferenceSession(source, options, providers=["CPUExecutionProvider"])
