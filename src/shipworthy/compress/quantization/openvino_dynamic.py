"""Dynamic quantization for OpenVINO: weights in int8 ahead of time, inputs of products in int8 as they run."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from ...errors import CompressError
from ...evidence import QuantizedOperation
from ...runtime.guarded import first_line
from ..made import Quantized
from .graph import GraphJob
from .openvino import nothing_to_quantize, read_base, write_int8
from .openvino_graph import HEAVY, graphs
from .openvino_nncf import quiet_nncf
from .report import compression

GROUP = 32
"""Values of a row that share a scale: OpenVINO's own default. A product over fewer is computed in float."""
_EXECUTED = frozenset({"MatMul", "Gather"})
_STORED = HEAVY | {"Gather"}


def dynamic(job: GraphJob) -> Quantized:
    """Weights of linear layers and tables of embeddings become int8.

    OpenVINO multiplies int8 here in linear layers only. Weights of convolutions would be stored in int8 and computed
    in fp32, which makes a smaller file and no faster graph: they are compressed where the contract's objective is
    size. Recurrent layers stay in fp32. Raises CompressError where nothing is left to compress."""
    model = read_base(job)
    smallest = job.contract.target.objective == "size"
    with quiet_nncf() as nncf:
        if not any(_linear(node) for _, graph in graphs(model) for node in graph.get_ordered_ops()) and not smallest:
            raise _no_linear(job)
        others = sorted({kind for _, kind in _weighted(model)} - _EXECUTED) if not smallest else []
        try:
            model = nncf.compress_weights(
                model,
                mode=nncf.CompressWeightsMode.INT8_SYM,
                ignored_scope=nncf.IgnoredScope(types=others) if others else None,
            )
        except Exception as error:  # NNCF raises whatever a graph that it does not know leads it to
            raise CompressError("nncf.compress_weights", first_line(error), "use static quantization") from error
    found = tuple(_compressed(model))
    if not found:
        raise nothing_to_quantize(job)
    artifact = write_int8(model, job)
    # A smaller file is what size is about, whatever executes it.
    report = compression(job, "dynamic", artifact, operations=found, notes=_notes(smallest), proven=not smallest)
    return Quantized(artifact, report)


def _no_linear(job: GraphJob) -> CompressError:
    reason = f"has no linear layer over {GROUP} values or more, which alone OpenVINO quantizes as it runs"
    remedy = 'use static quantization; with target.objective = "size" weights are stored in int8 all the same'
    return CompressError(job.contract.name, reason, remedy)


def _notes(smallest: bool) -> tuple[str, ...]:
    told = [
        f"inputs of linear layers are quantized as they run, each {GROUP} values of a row with a scale of their own"
    ]
    if smallest:
        told.append("other weights are stored in int8 and computed in fp32, because the objective is size")
    return tuple(told)


def _weighted(model: Any) -> Iterator[tuple[Any, str]]:
    """Nodes that may have weights of their own, with their types."""
    for _, graph in graphs(model):
        for node in graph.get_ordered_ops():
            if node.get_type_name() in _STORED:
                yield node, node.get_type_name()


def _linear(node: Any) -> bool:
    if node.get_type_name() != "MatMul" or node.input_value(1).get_node().get_type_name() not in (
        "Constant",
        "Convert",
    ):
        return False
    last = node.get_input_partial_shape(0)[-1]
    return bool(last.is_static and last.get_length() >= GROUP)


def _compressed(model: Any) -> Iterator[QuantizedOperation]:
    for path, graph in graphs(model):
        for node in graph.get_ordered_ops():
            if node.get_type_name() in _STORED and any(_stored_in_int8(value) for value in node.input_values()):
                yield _listed(path, node)


def _listed(path: str, node: Any) -> QuantizedOperation:
    kind = node.get_type_name()
    last = node.get_input_partial_shape(0)[-1]
    runs = kind == "Gather" or (kind == "MatMul" and last.is_static and last.get_length() >= GROUP)
    reason = "" if runs else "its weights are stored in int8; OpenVINO computes it in float"
    name = path + node.get_friendly_name()
    return QuantizedOperation(name=name, op=kind, precision="int8" if runs else "fp32", reason=reason)


def _stored_in_int8(value: Any) -> bool:
    """A constant in 8 bits, behind what turns it into floats."""
    node = value.get_node()
    while node.get_type_name() in ("Multiply", "Subtract", "Reshape", "Convert", "Transpose"):
        node = node.input_value(0).get_node()
    return node.get_type_name() == "Constant" and node.get_element_type().get_type_name() in ("i8", "u8")
