"""ONNX Runtime, and the same with its optimisations off as the oracle of a model that came as .onnx."""

from __future__ import annotations

import itertools
import json
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from ..contract import Array, Signature
from ..errors import EngineError
from .feeds import example_feeds
from .guarded import GuardedRunner, first_line
from .kernels import precision_of, tally, word
from .protocol import Artifact, Kernel, OperatingPoint, Runner

_HEAVY = ("Conv", "Gemm", "MatMul", "LSTM", "GRU", "RNN", "Attention", "Einsum")
_INTEGER = frozenset(
    {
        "ConvInteger",
        "DynamicQuantizeLSTM",
        "DynamicQuantizeMatMul",
        "MatMulInteger",
        "MatMulIntegerToFloat",
        "QAttention",
        "QGemm",
        "QLinearConv",
        "QLinearMatMul",
    }
)
"""Heavy operators that multiply integers, and take nothing else. Others that are fed some, such as packed weights,
make floats of them before they multiply."""
_SLOW_FUSIONS = ["SkipLayerNormFusion"]
"""Its kernel takes about four times as long as the addition and the normalisation that it replaces: a BERT of 4
layers, batch 8, took 68 ms with it and 62 without, in int8 26 and 19 (ONNX Runtime 1.31, one core)."""


class OnnxRuntimeEngine:
    name = "onnxruntime"
    extra = "onnxruntime"
    module = "onnxruntime"
    executes_code = False
    precision_at_opening = False
    packable = True
    entry = "model.onnx"
    optimised = True

    def open(self, artifact: Artifact, point: OperatingPoint) -> Runner:
        path = artifact.directory / self.entry
        return GuardedRunner(artifact, point, _Sessions(path, artifact.signature, point, self.optimised))


class OnnxReferenceEngine(OnnxRuntimeEngine):
    """Every node as the file has it, nothing fused: what the optimised graphs are compared with."""

    name = "onnx-reference"
    packable = False
    optimised = False


class _Sessions:
    """One session for all streams where each has one thread. A session's thread pool is shared by its callers, so
    streams with several threads get a session, and a copy of the weights, each."""

    def __init__(self, path: Path, signature: Signature, point: OperatingPoint, optimised: bool) -> None:
        self._path = path
        self._signature = signature
        self._optimised = optimised
        self._threads = max(1, point.threads // point.streams)
        count = point.streams if self._threads > 1 else 1
        # Idle threads that spin halve the latency of a lone stream, and take the processor from other streams.
        self._spin = point.streams == 1
        sessions = [_open(path, self._options()) for _ in range(count)]
        self._inputs, self._outputs = _bind(path, sessions[0], signature)
        # The guard lets no more runs in than there are entries.
        self._idle = list(itertools.islice(itertools.cycle(sessions), point.streams))

    def _options(self) -> Any:
        import onnxruntime as ort  # type: ignore[import-untyped]

        options = ort.SessionOptions()
        options.intra_op_num_threads = self._threads
        options.inter_op_num_threads = 1
        options.log_severity_level = 3
        options.add_session_config_entry("session.intra_op.allow_spinning", "1" if self._spin else "0")
        if not self._optimised:
            options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
        return options

    def execute(self, feeds: dict[str, Array]) -> Sequence[Array]:
        session = self._idle.pop()
        try:
            outputs: list[Array] = session.run(self._outputs, {name: feeds[name] for name in self._inputs})
        finally:
            self._idle.append(session)
        return outputs

    def kernels(self) -> tuple[Kernel, ...]:
        """Profiles one run of a session of its own, opened the same way."""
        feeds = example_feeds(self._signature)
        options = self._options()
        with tempfile.TemporaryDirectory() as folder:
            options.enable_profiling = True
            options.profile_file_prefix = str(Path(folder) / "profile")
            session = _open(self._path, options)
            session.run(self._outputs, {name: feeds[name] for name in self._inputs})
            events = json.loads(Path(session.end_profiling()).read_text())
        return tally(_executed(events))

    def release(self) -> None:
        self._idle = []


def _open(path: Path, options: Any) -> Any:
    import onnxruntime as ort

    try:
        return ort.InferenceSession(
            str(path), options, providers=["CPUExecutionProvider"], disabled_optimizers=_SLOW_FUSIONS
        )
    except Exception as error:  # its exception classes share no base but this one
        # The engine quotes the whole path, which says nothing on the host that reads this later.
        words = first_line(error).replace(f"{path.parent}/", "")
        raise EngineError(str(path), f"ONNX Runtime refuses it: {words}", "use another engine") from error


def _bind(path: Path, session: Any, signature: Signature) -> tuple[list[str], list[str]]:
    """The names of the graph's inputs (an exporter may have dropped unused ones) and of its outputs, by position."""
    inputs = [node.name for node in session.get_inputs()]
    outputs = [node.name for node in session.get_outputs()]
    unknown = [name for name in inputs if name not in signature.inputs]
    if unknown or len(outputs) < len(signature.outputs):
        raise EngineError(
            str(path),
            f"its inputs are {inputs} and its outputs {outputs}, the signature says "
            f"{list(signature.inputs)} and {list(signature.outputs)}",
            "name the contract's inputs and outputs as the file does",
        )
    if all(name in outputs for name in signature.outputs):
        return inputs, list(signature.outputs)
    return inputs, outputs[: len(signature.outputs)]


def _executed(events: list[dict[str, Any]]) -> Iterator[tuple[str, str, bool]]:
    """Each node once, however often a loop has run it."""
    seen = set()
    for event in events:
        if event.get("cat") != "Node" or not event["name"].endswith("_kernel_time"):
            continue
        op = event["args"]["op_name"]
        node = (event["name"], op, event["args"].get("node_index"))
        if node in seen:
            continue
        seen.add(node)
        types = [word(kind) for entry in event["args"].get("input_type_shape", ()) for kind in entry]
        heavy = any(name in op for name in _HEAVY)
        yield op, _heavy_precision(op, types) if heavy else precision_of(types), heavy


def _heavy_precision(op: str, types: list[str]) -> str:
    """int8 for a product of integers, whose operands the profile does not show where they were packed ahead of the
    run; else the precision of the floats."""
    if op in _INTEGER:
        return "int8"
    return precision_of(kind for kind in types if kind != "int8")
