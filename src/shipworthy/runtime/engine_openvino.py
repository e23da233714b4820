"""OpenVINO on the CPU."""

from __future__ import annotations

import re
import sys
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ..contract import Array, Signature
from ..contract.spec import Precision
from ..errors import EngineError, MissingExtra
from .guarded import GuardedRunner, first_line
from .kernels import precision_of, tally, word
from .protocol import Artifact, Kernel, OperatingPoint, Runner

HINTS: dict[Precision, str] = {"fp32": "f32", "bf16": "bf16", "int8": "f32"}
"""The floating-point precision asked for. Without asking, a processor that has bf16 may use it for fp32."""
REST = ["shipworthy", "rest"]
"""Where an int8 graph says in its rt_info what the operations that stayed in float are executed in."""

_HEAVY_NAMES = """
    Convolution Deconvolution FullyConnected MatMul RNNSeq RNNCell ScaledDotProductAttention
    ScaledDotProductAttentionWithKVCache MHA QKVProjection LLMMLP BinaryConvolution DeformableConvolution
    ConvolutionBiasFused GatherMatmul PagedAttention"""
_HEAVY = frozenset(_HEAVY_NAMES.split())
_SILENT = frozenset({"Const", "Input", "Output"})
_NESTED = frozenset({"If", "Loop", "TensorIterator"})
_NUMBERED = re.compile(r"[A-Z][A-Za-z0-9]*_\d+")


def need_openvino(use: str) -> Any:
    """OpenVINO with its telemetry off: its import reports to its maker, unless the package that does so is missing."""
    if "openvino" not in sys.modules:
        sys.modules.setdefault("openvino_telemetry", None)  # type: ignore[arg-type]
    try:
        import openvino  # type: ignore[import-untyped]
    except ModuleNotFoundError as error:
        if error.name != "openvino":
            raise
        raise MissingExtra(use, "openvino", "openvino") from error
    return openvino


class OpenVinoEngine:
    name = "openvino"
    extra = "openvino"
    module = "openvino"
    executes_code = False
    precision_at_opening = True
    packable = True
    entry = "model.xml"

    def open(self, artifact: Artifact, point: OperatingPoint) -> Runner:
        openvino = need_openvino(f"the engine {self.name!r}")
        path = artifact.directory / self.entry
        try:
            core = openvino.Core()
            model = core.read_model(str(path))
            return GuardedRunner(artifact, point, _Compiled(core, model, artifact, point))
        except RuntimeError as error:
            raise EngineError(str(path), f"OpenVINO refuses it: {first_line(error)}", "use another engine") from error


class _Compiled:
    """A compiled model with one infer request per stream; a request's buffers belong to one run at a time."""

    def __init__(self, core: Any, model: Any, artifact: Artifact, point: OperatingPoint) -> None:
        self._tensor = need_openvino("running a graph").Tensor
        self._core = core
        self._model = model
        self._config = {
            "INFERENCE_PRECISION_HINT": _hint(model, artifact.precision),
            "INFERENCE_NUM_THREADS": point.threads,
            "NUM_STREAMS": point.streams,
        }
        self._compiled = core.compile_model(model, "CPU", self._config)
        self._inputs = _bind_inputs(self._compiled, artifact.signature, artifact.directory)
        self._outputs = _bind_outputs(self._compiled, artifact.signature)
        # The guard lets no more runs in than there are requests.
        self._idle = [self._compiled.create_infer_request() for _ in range(point.streams)]

    def execute(self, feeds: dict[str, Array]) -> Sequence[Array]:
        request = self._idle.pop()
        try:
            # Inputs are read in place; outputs are copied, because the next run overwrites them. Setting tensors one
            # by one takes two thirds of the time that infer() takes with arguments. start_async would be as quick,
            # but hands the run to another thread, which waits where the processors are busy.
            for index, name in self._inputs:
                array = feeds[name]
                if not array.flags.writeable:
                    array = np.asarray(_Shared(array))
                request.set_input_tensor(index, self._tensor(array, shared_memory=True))
            request.infer({}, share_outputs=True)
            return [request.get_output_tensor(index).data.copy() for index in self._outputs]
        finally:
            self._idle.append(request)

    def kernels(self) -> tuple[Kernel, ...]:
        """The runtime model's layers, and those of the bodies of its branches and loops."""
        return tally(self._layers(self._compiled, self._model))

    def _layers(self, compiled: Any, model: Any) -> Iterator[tuple[str, str, bool]]:
        group = _dynamic_group(compiled)
        for node in compiled.get_runtime_model().get_ordered_ops():
            layer, precision = _executed(node, group)
            if layer not in _SILENT:
                yield layer, precision, layer in _HEAVY
        for body in _bodies(model):
            # The runtime model does not look into a branch. Its body compiles to the same kernels on its own.
            yield from self._layers(self._core.compile_model(body, "CPU", self._config), body)

    @property
    def compiled(self) -> Any:
        return self._compiled

    def release(self) -> None:
        self._idle = []
        self._compiled = self._model = self._core = None


class _Shared:
    """The memory of an array that is read-only, such as bytes that came over the network, as one that is not.

    OpenVINO asks for that of whatever it shares, and only reads its inputs; a copy would cost what sharing saves."""

    def __init__(self, array: Array) -> None:
        self._array = array
        interface = array.__array_interface__
        self.__array_interface__ = {**interface, "data": (interface["data"][0], False)}


def _executed(node: Any, group: int) -> tuple[str, str]:
    """A layer of the runtime model and the precision that it multiplies in.

    A layer whose weights are merely stored in 8 bits says i8 of itself too. What its primitive is called tells, but
    for fully connected layers that quantize groups of their input as they run, which keep the primitive's name."""
    info = node.get_rt_info()
    layer, precision = info["layerType"].value, word(info["runtimePrecision"].value)
    primitive = info["primitiveType"].value.rsplit("_", 1)[-1]
    if precision != "int8" or layer not in _HEAVY or primitive not in ("f32", "bf16", "f16"):
        return layer, precision
    if layer == "FullyConnected" and primitive == "f32" and group and _columns(node) >= group:
        return layer, "int8"
    return layer, word(primitive)


@dataclass(frozen=True, slots=True)
class Layer:
    """A layer of a compiled graph."""

    name: str
    precision: str
    heavy: bool
    parts: tuple[str, ...]
    """Names of the nodes of the graph that were fused into it."""
    readers: tuple[str, ...]
    """Names of the layers that read what it computes."""


def executed_layers(compiled: Any, model: Any) -> Iterator[Layer]:
    """The layers of a compiled model, in the order in which they run; not those inside branches.

    Their parts have the names that they have in every run."""
    names, products = stably_named(model.clone()), _products(model)
    group = _dynamic_group(compiled)
    for node in compiled.get_runtime_model().get_ordered_ops():
        kind, precision = _executed(node, group)
        parts = [part for part in node.get_rt_info()["originalLayersNames"].value.split(",") if part]
        parts += [products[part] for part in parts if part in products and products[part] not in parts]
        readers = (target.get_node() for output in node.outputs() for target in output.get_target_inputs())
        yield Layer(
            node.get_friendly_name(),
            precision,
            kind in _HEAVY,
            tuple(names.get(part, part) for part in parts),
            tuple(reader.get_friendly_name() for reader in readers),
        )


def _products(model: Any) -> dict[str, str]:
    """The matrix product that a bias is added to, by the addition's name, which is all that is left of the two."""
    return {
        target.get_node().get_friendly_name(): node.get_friendly_name()
        for node in model.get_ordered_ops()
        if node.get_type_name() == "MatMul"
        for target in node.output(0).get_target_inputs()
        if target.get_node().get_type_name() == "Add"
    }


def layers_of(artifact: Artifact) -> tuple[Layer, ...]:
    """The layers that execute an artifact on one stream. Raises EngineError where OpenVINO refuses the file."""
    core = need_openvino("looking into a graph").Core()
    path = artifact.directory / OpenVinoEngine.entry
    try:
        model = core.read_model(str(path))
        compiled = _Compiled(core, model, artifact, OperatingPoint())
    except RuntimeError as error:
        raise EngineError(str(path), f"OpenVINO refuses it: {first_line(error)}", "export the model again") from error
    return tuple(executed_layers(compiled.compiled, model))


def _columns(node: Any) -> int:
    """Values in a row of the layer's input; 0 where that is not fixed."""
    last = node.get_input_partial_shape(0)[-1]
    return int(last.get_length()) if last.is_static else 0


def _dynamic_group(compiled: Any) -> int:
    """How many values of a row share a scale where inputs are quantized as they run; 0 where they are not.

    The kernels that do it need dot products of 8-bit numbers."""
    from .host import this_host

    if not this_host().isa & {"avx512_vnni", "avx_vnni"}:
        return 0
    return int(compiled.get_property("DYNAMIC_QUANTIZATION_GROUP_SIZE"))


def _hint(model: Any, precision: Precision) -> str:
    """An int8 graph may say what its other operations are to be executed in."""
    rest = precision
    if precision == "int8" and model.has_rt_info(REST):
        rest = "bf16" if model.get_rt_info(REST).value == "bf16" else "fp32"
    return HINTS[rest]


def bodies_of(node: Any) -> Iterator[Any]:
    """The graphs inside a branch (then, else) or a loop; nothing for any other operation."""
    if node.get_type_name() == "If":
        yield from (node.get_function(index) for index in (0, 1))
    elif node.get_type_name() in _NESTED:
        yield node.get_function()


def stably_named(model: Any) -> dict[str, str]:
    """Give nodes that OpenVINO has named with its running number, such as `Multiply_2769`, a name by their place.

    Returns the new names by the old ones.

    The running number depends on what the process did before; a graph is to be the same, byte for byte, every time."""
    counts: Counter[str] = Counter()
    renamed: dict[str, str] = {}
    for node in model.get_ordered_ops():
        if _NUMBERED.fullmatch(node.get_friendly_name()) and node.get_type_name() != "Parameter":
            kind = node.get_type_name()
            counts[kind] += 1
            renamed[node.get_friendly_name()] = f"{kind}.{counts[kind]}"
            node.set_friendly_name(f"{kind}.{counts[kind]}")
    for body in _bodies(model):
        stably_named(body)
    return renamed


def _bodies(model: Any) -> Iterator[Any]:
    for node in model.get_ordered_ops():
        yield from bodies_of(node)


def _bind_inputs(compiled: Any, signature: Signature, directory: Path) -> list[tuple[int, str]]:
    bound = []
    for index, port in enumerate(compiled.inputs):
        name = next((name for name in signature.inputs if name in port.get_names()), None)
        if name is None:
            raise EngineError(
                str(directory),
                f"its input {index} is called {sorted(port.get_names())}; the signature says {list(signature.inputs)}",
                "name the contract's inputs as the file does",
            )
        bound.append((index, name))
    return bound


def _bind_outputs(compiled: Any, signature: Signature) -> list[int]:
    """The index of each output: by name where the graph has them all, else by position."""
    named = {name: index for index, port in enumerate(compiled.outputs) for name in port.get_names()}
    if all(name in named for name in signature.outputs):
        return [named[name] for name in signature.outputs]
    return list(range(min(len(compiled.outputs), len(signature.outputs))))


class CountedGraph(_Compiled):
    """A compiled model whose requests count the time of every node."""

    def __init__(self, artifact: Artifact, point: OperatingPoint) -> None:
        core = need_openvino("timing a graph").Core()
        core.set_property("CPU", {"PERF_COUNT": True})
        super().__init__(core, core.read_model(str(artifact.directory / OpenVinoEngine.entry)), artifact, point)

    def nodes(self) -> dict[str, tuple[str, str, bool]]:
        """Layer, precision and whether it is heavy, by the node's name. A branch or a loop is as heavy as its bodies,
        whose time the engine counts as its own."""
        group = _dynamic_group(self._compiled)
        layers = self._compiled.get_runtime_model().get_ordered_ops()
        found = {node.get_friendly_name(): _executed(node, group) for node in layers}
        inside = self._heavy_inside()
        return {
            name: (layer, precision_of(inside.get(name, (precision,))), layer in _HEAVY or name in inside)
            for name, (layer, precision) in found.items()
        }

    def _heavy_inside(self) -> dict[str, list[str]]:
        """The precisions of the heavy layers in the bodies of each branch or loop that has any."""
        found: dict[str, list[str]] = {}
        for node in self._model.get_ordered_ops():
            kind = node.get_type_name()
            if kind in _NESTED:
                bodies = [node.get_function(index) for index in (0, 1)] if kind == "If" else [node.get_function()]
                compiled = [(self._core.compile_model(body, "CPU", self._config), body) for body in bodies]
                layers = [layer for pair in compiled for layer in self._layers(*pair)]
                if heavy := [precision for _, precision, is_heavy in layers if is_heavy]:
                    found[node.get_friendly_name()] = heavy
        return found

    def mean_us(self) -> dict[str, int]:
        """Whole microseconds of each node that took any, the mean over all runs since the graph was opened."""
        times = ((info.node_name, info.real_time) for info in self._idle[0].get_profiling_info())
        return {name: round(time.total_seconds() * 1e6) for name, time in times if time}
