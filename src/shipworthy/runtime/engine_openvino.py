"""OpenVINO on the CPU."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from ..contract import Array, Signature
from ..contract.spec import Precision
from ..errors import EngineError, MissingExtra
from .guarded import GuardedRunner, first_line
from .kernels import tally, word
from .protocol import Artifact, Kernel, OperatingPoint, Runner

HINTS: dict[Precision, str] = {"fp32": "f32", "bf16": "bf16", "int8": "f32"}
"""The floating-point precision asked for. Without asking, a processor that has bf16 may use it for fp32."""

_HEAVY_NAMES = """
    Convolution Deconvolution FullyConnected MatMul RNNSeq RNNCell ScaledDotProductAttention
    ScaledDotProductAttentionWithKVCache MHA QKVProjection LLMMLP BinaryConvolution DeformableConvolution
    ConvolutionBiasFused GatherMatmul PagedAttention"""
_HEAVY = frozenset(_HEAVY_NAMES.split())
_SILENT = frozenset({"Const", "Input", "Output"})
_NESTED = frozenset({"If", "Loop", "TensorIterator"})


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
            "INFERENCE_PRECISION_HINT": HINTS[artifact.precision],
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
                request.set_input_tensor(index, self._tensor(feeds[name], shared_memory=True))
            request.infer({}, share_outputs=True)
            return [request.get_output_tensor(index).data.copy() for index in self._outputs]
        finally:
            self._idle.append(request)

    def kernels(self) -> tuple[Kernel, ...]:
        """The runtime model's layers, and those of the bodies of its branches and loops."""
        return tally(self._layers(self._compiled, self._model))

    def _layers(self, compiled: Any, model: Any) -> Iterator[tuple[str, str, bool]]:
        for node in compiled.get_runtime_model().get_ordered_ops():
            info = node.get_rt_info()
            layer = info["layerType"].value
            if layer not in _SILENT:
                yield layer, word(info["runtimePrecision"].value), layer in _HEAVY
        for body in _bodies(model):
            # The runtime model does not look into a branch. Its body compiles to the same kernels on its own.
            yield from self._layers(self._core.compile_model(body, "CPU", self._config), body)

    def release(self) -> None:
        self._idle = []
        self._compiled = self._model = self._core = None


def _bodies(model: Any) -> Iterator[Any]:
    for node in model.get_ordered_ops():
        if node.get_type_name() == "If":
            yield from (node.get_function(index) for index in (0, 1))
        elif node.get_type_name() in _NESTED:
            yield node.get_function()


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
