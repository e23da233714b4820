"""From a finished graph to one in int8: what a quantizer of an engine is given, what it offers, and their table."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal, Protocol, TypeAlias

from ...contract import Array, Arrays, Contract
from ...data import Dataset
from ...errors import CompressError, MissingExtra
from ...model import LoadedModel
from ...runtime import Artifact, Host
from ..made import Quantized
from ..methods import AccuracyAware, Dynamic, GraphQuantization, Rest, Static

RestPrecision: TypeAlias = Literal["fp32", "bf16"]
"""What the operations that stay in float are executed in."""


@dataclass(frozen=True, slots=True)
class GraphJob:
    """One graph to quantize, and where the new one goes."""

    model: LoadedModel
    contract: Contract
    directory: Path
    """Of the artifact; made where it is missing."""
    base: Artifact | None
    """The engine's fp32 artifact; None for engines that start from the module."""
    calibration: Dataset | None
    """A quantizer finds here no more than the samples that it is to use: `quantize_graph` has chosen them."""
    host: Host
    """The processor that the graph will run on."""
    probes: tuple[Arrays, ...] = ()


class QuantizedGraph(Protocol):
    """A graph that was calibrated once; putting operations back to float is cheap from then on."""

    @property
    def operations(self) -> tuple[str, ...]:
        """Names of the heavy operations that are int8 where nothing is kept in float, in the graph's order."""
        ...

    @property
    def kinds(self) -> Mapping[str, str]:
        """The type of each of them in the engine's graph, such as `Convolution`."""
        ...

    @property
    def notes(self) -> tuple[str, ...]:
        """What was chosen and why, in a sentence each."""
        ...

    def sensitivity(self, feeds: Sequence[Arrays]) -> dict[str, float]:
        """SQNR in dB of each operation's own output when only its own inputs and weights are quantized: the inputs
        are those of the float graph. One pass over few samples."""
        ...

    @property
    def ranges(self) -> Mapping[str, Array]:
        """Smallest and largest value [feeds, 2] of each quantized activation in the float graph, for each feed that it
        was calibrated on."""
        ...

    def save(self, keep_float: Collection[str], rest: RestPrecision) -> Artifact:
        """Write the artifact, weights really stored as int8. A second call replaces what the first one wrote."""
        ...


@dataclass(frozen=True, slots=True)
class Quantizer:
    """What an engine offers. An engine that has no graph to work on gives what it made at once."""

    dynamic: Callable[[GraphJob], Quantized]
    static: Callable[[GraphJob, Static], QuantizedGraph | Quantized]


def quantize_graph(
    job: GraphJob, method: GraphQuantization, engine: str, drop: Callable[[Artifact], float] | None = None
) -> Quantized:
    """The graph of `engine` in int8, as `method` says.

    `drop` gives the drop of the metric (absolute, on the validation data) of an artifact: AccuracyAware needs it.
    Raises CompressError where the recipe cannot be carried out or nothing of the graph executes in int8, MissingExtra
    where a library is not installed."""
    quantizer = _cuda() if job.contract.target.device == "cuda" else quantizer_of(engine)
    job.directory.mkdir(parents=True, exist_ok=True)
    if isinstance(method, Rest):
        return _restated(job, method, engine)
    if isinstance(method, Dynamic):
        return _fp8(job) if method.to == "fp8" else quantizer.dynamic(job)
    from .static import accuracy_aware, plainly

    if isinstance(method, AccuracyAware):
        return accuracy_aware(job, method, engine, quantizer.static, drop)
    return plainly(job, method, quantizer.static)


def _restated(job: GraphJob, method: Rest, engine: str) -> Quantized:
    if engine != "openvino":
        reason = f"executes what is not int8 in fp32, not in {method.rest}"
        raise CompressError(f"the engine {engine!r}", reason, "use openvino, or leave it in fp32")
    from .openvino import restated

    return restated(job, method)


def _fp8(job: GraphJob) -> Quantized:
    if job.contract.target.device != "cuda":
        raise CompressError("fp8", "is for GPUs", 'write target.device = "cuda", or take int8')
    from .cuda import dynamic_fp8

    return dynamic_fp8(job)


def quantizer_of(engine: str) -> Quantizer:
    """The row of an engine. Raises CompressError with the nearest names, MissingExtra."""
    if engine not in _QUANTIZERS:
        near = difflib.get_close_matches(engine, _QUANTIZERS, n=1)
        hint = f"did you mean {near[0]!r}? " if near else ""
        remedy = f"{hint}graphs become int8 for {', '.join(_QUANTIZERS)}"
        raise CompressError(f"the engine {engine!r}", "has no quantizer", remedy)
    try:
        return _QUANTIZERS[engine]()
    except ModuleNotFoundError as error:
        raise MissingExtra("quantizing a model", str(error.name), "build") from error


def with_calibration(job: GraphJob, samples: Dataset) -> GraphJob:
    """The same job with no more calibration data than is to be used."""
    return replace(job, calibration=samples)


def _openvino() -> Quantizer:
    from .openvino import static
    from .openvino_dynamic import dynamic

    return Quantizer(dynamic, static)


def _onnxruntime() -> Quantizer:
    from .onnxruntime import dynamic, static

    return Quantizer(dynamic, static)


def _aoti() -> Quantizer:
    from .aoti import dynamic, static

    return Quantizer(dynamic, static)


def _cuda() -> Quantizer:
    from .cuda import dynamic, static

    return Quantizer(dynamic, static)


def _torchscript() -> Quantizer:
    from .torchscript import dynamic, static

    return Quantizer(dynamic, static)


_QUANTIZERS: dict[str, Callable[[], Quantizer]] = {
    "openvino": _openvino,
    "onnxruntime": _onnxruntime,
    "aoti": _aoti,
    "torchscript": _torchscript,
}
"""Each brings its library when it is asked for."""
