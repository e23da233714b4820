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
from ...quality.parity import INFINITE_DB
from .onnx_integers import Grid, integer_weight
from .onnx_operations import Operation
from .onnx_view import OnnxView, with_nodes
from .scheme import Scheme

_IN_MEMORY = 2 * 10**9
"""Bytes above which a protobuf cannot be handed over without a file."""


def extremes(view: OnnxView, tensors: Sequence[str], feeds: Iterable[Arrays], threads: int) -> dict[str, Array]:
    """Smallest and largest value [feeds, 2] of each tensor."""
    nodes = [
        helper.make_node(kind, [name], [f"{kind}_{name}"], keepdims=0)
        for name in tensors
        for kind in ("ReduceMin", "ReduceMax")
    ]
    found = _run(view, nodes, (), feeds, threads, fused=True)
    return dict(zip(tensors, found.reshape(len(found), len(tensors), 2).swapaxes(0, 1), strict=True))


def rounding_errors(view: OnnxView, grids: Sequence[tuple[str, Grid]], feeds: Iterable[Arrays], threads: int) -> Array:
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
    twins: Sequence[tuple[Operation, bool]],
    grids: Mapping[str, Grid],
    scheme: Scheme,
    feeds: Iterable[Arrays],
    threads: int,
) -> list[float]:
    """SQNR in dB of each operation's output when only its own input and, where True stands beside it, its weights are
    rounded: it has a twin that reads the same float values, and only the two sums of squares leave the graph."""
    nodes: list[Any] = []
    constants: list[Any] = []
    for number, (operation, weights) in enumerate(twins):
        stem = f"twin {number}"
        twin, more = _twin(view, operation, grids.get(operation.x), scheme if weights else None, stem)
        exact = next(name for name in operation.node.output if name)
        nodes += [
            *twin,
            helper.make_node("Sub", [exact, f"{stem} {exact}"], [f"{stem} error"]),
            helper.make_node("ReduceSumSquare", [exact], [f"{stem} signal"], keepdims=0),
            helper.make_node("ReduceSumSquare", [f"{stem} error"], [f"{stem} noise"], keepdims=0),
        ]
        constants += more
    sums = _run(view, nodes, constants, feeds, threads, fused=False).sum(axis=0, dtype=np.float64)
    return [_decibels(*pair) for pair in sums.reshape(len(twins), 2).tolist()]


def _decibels(signal: float, error: float) -> float:
    if not error:
        return INFINITE_DB
    return 10 * float(np.log10(signal / error)) if signal else -INFINITE_DB


def _twin(
    view: OnnxView, operation: Operation, grid: Grid | None, scheme: Scheme | None, stem: str
) -> tuple[list[Any], list[Any]]:
    """The operation once more, with a rounded activation and, by a scheme, rounded weights; and its constants."""
    copy = onnx.NodeProto()
    copy.CopyFrom(operation.node)
    copy.name = stem
    copy.output[:] = [f"{stem} {name}" if name else "" for name in operation.node.output]
    nodes: list[Any] = []
    constants: list[Any] = []
    if scheme is not None:
        for number, name in enumerate(operation.weights):
            place = list(operation.node.input).index(name)
            copy.input[place] = f"{stem} weight {number}"
            made, stored = _weight(view.array(name), operation, scheme, copy.input[place])
            nodes, constants = nodes + made, constants + stored
    if operation.kind != "Gather":
        copy.input[0] = f"{stem} x"
        made, stored = _activation(operation.x, grid, copy.input[0])
        nodes, constants = nodes + made, constants + stored
    return [*nodes, copy], constants


def _weight(values: Array, operation: Operation, scheme: Scheme, output: str) -> tuple[list[Any], list[Any]]:
    integers, scale = _rounded(values, operation, scheme)
    parts = (f"{output} integers", f"{output} scale")
    constants = [numpy_helper.from_array(part, name) for part, name in zip((integers, scale), parts, strict=True)]
    if operation.kind != "LSTM":
        return [helper.make_node("DequantizeLinear", parts, [output], axis=operation.axis)], constants
    # DequantizeLinear has scales along one axis only; recurrent weights have them along two.
    cast = helper.make_node("Cast", [parts[0]], [f"{output} cast"], to=onnx.TensorProto.FLOAT)
    return [cast, helper.make_node("Mul", [f"{output} cast", parts[1]], [output])], constants


def _activation(x: str, grid: Grid | None, output: str) -> tuple[list[Any], list[Any]]:
    step, zero, integers = f"{output} step", f"{output} zero", f"{output} integers"
    back = helper.make_node("DequantizeLinear", [integers, step, zero], [output])
    if grid is None:
        return [helper.make_node("DynamicQuantizeLinear", [x], [integers, step, zero]), back], []
    constants = [numpy_helper.from_array(grid.scale, step), numpy_helper.from_array(grid.zero_point, zero)]
    return [helper.make_node("QuantizeLinear", [x, step, zero], [integers]), back], constants


def _rounded(values: Array, operation: Operation, scheme: Scheme) -> tuple[Array, Array]:
    if operation.kind != "LSTM":
        return integer_weight(values, operation.axis, scheme)
    integers, scale = integer_weight(values.reshape(-1, values.shape[2]), 0, scheme)
    return integers.reshape(values.shape), scale.reshape(*values.shape[:2], 1)


def _run(
    view: OnnxView,
    nodes: Sequence[Any],
    constants: Sequence[Any],
    feeds: Iterable[Arrays],
    threads: int,
    *,
    fused: bool,
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
    """Not fused: rounding is executed as it is written; rounded weights become floats once, not in each run."""
    import onnxruntime as ort  # type: ignore[import-untyped]

    options = ort.SessionOptions()
    options.intra_op_num_threads = threads
    options.log_severity_level = 3
    if not fused:
        options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_ENABLE_BASIC
        options.add_session_config_entry("session.disable_quant_qdq", "1")
    source: Any = str(folder / "probe.onnx")
    if model.ByteSize() < _IN_MEMORY:
        source = model.SerializeToString()
    else:
        onnx.save_model(model, source, save_as_external_data=True)
    return ort.InferenceSession(source, options, providers=["CPUExecutionProvider"])
