"""An ONNX graph made ready for surgery: folded, named, and with its tensors looked up by name."""

from __future__ import annotations

import tempfile
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import helper, numpy_helper

from ...contract import Array
from ...errors import CompressError
from ...exporters.noise import collected
from ...runtime.guarded import first_line

MICROSOFT = "com.microsoft"
_STANDARD = ("", "ai.onnx")


class OnnxView:
    """A model with its constants, producers and consumers. The model is not to be changed behind it."""

    def __init__(self, model: Any) -> None:
        self.model = model
        self.nodes: list[Any] = list(model.graph.node)
        self.constants: dict[str, Any] = {tensor.name: tensor for tensor in model.graph.initializer}
        self.outputs = frozenset(value.name for value in model.graph.output)
        self.producer: dict[str, Any] = {name: node for node in self.nodes for name in node.output if name}
        self.consumers: dict[str, list[Any]] = defaultdict(list)
        for node in self.nodes:
            for name in dict.fromkeys(used_by(node)):
                self.consumers[name].append(node)
        self._types = dict(_value_types(model.graph))

    def is_float(self, name: str) -> bool:
        """Whether a tensor is known to hold float32."""
        if name in self.constants:
            return bool(self.constants[name].data_type == onnx.TensorProto.FLOAT)
        return name in self._types and self._types[name].elem_type == onnx.TensorProto.FLOAT

    def rank(self, name: str) -> int | None:
        """Number of dimensions, None where it is not known."""
        if name in self.constants:
            return len(self.constants[name].dims)
        found = self._types.get(name)
        return len(found.shape.dim) if found is not None and found.HasField("shape") else None

    def array(self, name: str) -> Array:
        """Values of a constant."""
        return np.asarray(numpy_helper.to_array(self.constants[name]))

    def alone(self, name: str) -> Any | None:
        """The only node that reads a tensor, where nothing else does."""
        readers = self.consumers[name]
        return readers[0] if len(readers) == 1 and name not in self.outputs else None


def _value_types(graph: Any) -> Iterator[tuple[str, Any]]:
    for value in (*graph.value_info, *graph.input, *graph.output):
        if value.type.HasField("tensor_type"):
            yield value.name, value.type.tensor_type


def used_by(node: Any) -> Iterator[str]:
    """The tensors that a node reads, with those that the graphs inside it take from outside."""
    yield from (name for name in node.input if name)
    for attribute in node.attribute:
        for graph in (attribute.g, *attribute.graphs):
            for inner in graph.node:
                yield from used_by(inner)
            yield from (value.name for value in graph.output)


def attributes(node: Any) -> dict[str, Any]:
    return {attribute.name: helper.get_attribute_value(attribute) for attribute in node.attribute}


def is_standard(node: Any, *types: str) -> bool:
    return node.domain in _STANDARD and node.op_type in types


def prepared(path: Path) -> OnnxView:
    """The file's graph with constants folded and batch normalisation inside the convolutions before it.

    Raises CompressError where ONNX Runtime or ONNX's shape inference does not take it."""
    try:
        with collected():
            model = onnx.shape_inference.infer_shapes(_folded(path), data_prop=True)
    except Exception as error:  # both libraries raise classes without a common base
        reason = first_line(error).replace(f"{path.parent}/", "")
        raise CompressError(path.name, f"cannot be made ready for int8: {reason}", "export the model again") from error
    _name_nodes(model.graph)
    _pool_means(model)
    return OnnxView(model)


def _folded(path: Path) -> Any:
    """As ONNX Runtime's basic optimisations leave it: only standard operators, the same on every processor.

    From memory: of weights that lie beside a file ONNX Runtime would write no more than where they lie."""
    import onnxruntime as ort  # type: ignore[import-untyped]

    model = onnx.load(str(path))
    with tempfile.TemporaryDirectory() as folder:
        written = Path(folder) / "folded.onnx"
        options = ort.SessionOptions()
        options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_ENABLE_BASIC
        options.optimized_model_filepath = str(written)
        options.log_severity_level = 3
        ort.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
        folded = onnx.load(str(written))
    del folded.metadata_props[:]
    folded.metadata_props.extend(model.metadata_props)
    return folded


def _name_nodes(graph: Any) -> None:
    """Every node a name of its own: operations are kept in float by their names."""
    counts = Counter(node.name for node in graph.node)
    taken = {name for name, count in counts.items() if count == 1 and name}
    for number, node in enumerate(graph.node):
        if node.name in taken:
            continue
        name = f"{node.op_type}_{number}"
        while name in taken:
            name += "_"
        node.name = name
        taken.add(name)


def _pool_means(model: Any) -> None:
    """A mean over height and width is the pooling that has a kernel in int8; exporters write it as ReduceMean."""
    view = OnnxView(model)
    for node in view.nodes:
        if is_standard(node, "ReduceMean") and _pools(view, node):
            del node.input[1:]
            del node.attribute[:]
            node.op_type = "GlobalAveragePool"


def _pools(view: OnnxView, node: Any) -> bool:
    settings = attributes(node)
    axes = settings.get("axes", ())
    if len(node.input) > 1 and node.input[1] in view.constants:
        axes = view.array(node.input[1]).ravel().tolist()
    image = view.rank(node.input[0]) == 4 and view.is_float(node.input[0])
    return bool(image and settings.get("keepdims", 1) and sorted(axis % 4 for axis in axes) == [2, 3])


def with_nodes(model: Any, nodes: Iterable[Any], constants: Iterable[Any]) -> Any:
    """A copy of the model with other nodes, and of all constants, old and new, those that are read."""
    new = _shell(model)
    new.graph.node.extend(nodes)
    read = {name for node in new.graph.node for name in used_by(node)} | {value.name for value in new.graph.output}
    inputs = {value.name for value in new.graph.input}
    new.graph.initializer.extend(
        tensor for tensor in (*model.graph.initializer, *constants) if tensor.name in read or tensor.name in inputs
    )
    if not any(entry.domain == MICROSOFT for entry in new.opset_import):
        new.opset_import.append(helper.make_opsetid(MICROSOFT, 1))
    return new


def _shell(model: Any) -> Any:
    """All but nodes, constants and the types of inner tensors, which surgery changes."""
    shell = onnx.ModelProto(ir_version=model.ir_version, producer_name=model.producer_name)
    shell.opset_import.extend(model.opset_import)
    shell.metadata_props.extend(model.metadata_props)
    shell.functions.extend(model.functions)
    shell.graph.name = model.graph.name
    shell.graph.input.extend(model.graph.input)
    shell.graph.output.extend(model.graph.output)
    return shell
