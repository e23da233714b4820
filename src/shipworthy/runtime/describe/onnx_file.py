"""ONNX: names, symbolic dimensions and nodes from the protobuf; weights are not loaded."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from ...contract import Dim
from ...errors import EngineError, MissingExtra
from .description import SIGNATURE_KEY, Description, signature_of, spec, stored_signature


def describe_onnx(path: Path) -> Description:
    try:
        import onnx
    except ModuleNotFoundError as error:
        raise MissingExtra("describing an .onnx file", "onnx", "build") from error
    try:
        model = onnx.load(str(path), load_external_data=False)
    except Exception as error:  # protobuf's DecodeError has no common base that is public
        raise EngineError(str(path), "is no ONNX file", "write it again") from error
    if not model.graph.node and not model.graph.output:
        raise EngineError(str(path), "is no ONNX file", "write it again")
    stored = stored_signature({p.key: p.value for p in model.metadata_props}.get(SIGNATURE_KEY), path)
    weights = {tensor.name for tensor in model.graph.initializer}
    native = signature_of(
        {value.name: _spec(value) for value in model.graph.input if value.name not in weights},
        {value.name: _spec(value) for value in model.graph.output},
    )
    opset = next((entry.version for entry in model.opset_import if entry.domain in ("", "ai.onnx")), 0)
    return Description(stored or native, f"ONNX, opset {opset}", "\n".join(_nodes(model.graph)))


def _spec(value: Any) -> Any:
    import onnx

    tensor = value.type.tensor_type
    if not tensor.HasField("shape"):
        return None
    sizes = [dim.dim_value if dim.HasField("dim_value") else _dim(dim.dim_param) for dim in tensor.shape.dim]
    return spec(onnx.TensorProto.DataType.Name(tensor.elem_type), sizes)


def _dim(name: str) -> Dim | None:
    return Dim(name) if name.isidentifier() else None


def _nodes(graph: Any, indent: str = "") -> Iterator[str]:
    """One line per node; the graphs of a branch or loop follow it, indented."""
    import onnx

    for node in graph.node:
        domain = f"{node.domain}." if node.domain not in ("", "ai.onnx") else ""
        yield f"{indent}{', '.join(node.output)} = {domain}{node.op_type}({', '.join(node.input)})"
        for attribute in node.attribute:
            if attribute.type == onnx.AttributeProto.GRAPH:
                yield f"{indent}  {attribute.name}:"
                yield from _nodes(attribute.g, indent + "    ")
