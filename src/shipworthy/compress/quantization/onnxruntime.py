"""int8 for ONNX Runtime: integers for convolutions and what lies between them, and for products with weights.

The graph is written here, and not by ONNX Runtime's own quantizer or NNCF, because of what was measured: processor
time of a batch of 8 on one core with AVX512-VNNI, random weights, and SQNR of the outputs.

    |                           | fp32  | ONNX Runtime's   | NNCF             | this             |
    | ResNet, 29 convolutions   | 21 ms | 8.9 ms, 32.7 dB  | 9.2 ms, 33.1 dB  | 9.1 ms, 34.3 dB  |
    | MobileNetV2               | 18 ms | 8.8 ms, 39.3 dB  | 48 ms, 40.3 dB   | 9.4 ms, 40.0 dB  |
    | BERT, 4 layers, 64 tokens | 65 ms | 28 ms, 27.4 dB   | 45 ms, 40.5 dB   | 21 ms, 41.5 dB   |

NNCF's graphs ran convolutions of MobileNetV2 and products of BERT in float; the quantizer's graph of BERT rounds what
normalisations and the softmax read."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx

from ...contract import Array, Arrays
from ...errors import CompressError
from ...evidence import QuantizedOperation
from ...runtime import Artifact
from ...runtime.describe import SIGNATURE_KEY
from ..made import Quantized
from ..methods import Static
from .calibration import feeds_of, spread
from .graph import GraphJob, RestPrecision
from .onnx_integers import grid_of
from .onnx_operations import Operation, operations_of, rounded_by
from .onnx_probe import extremes, noise, rounding_errors
from .onnx_surgery import dynamic_graph, quantized_tensors, static_graph
from .onnx_view import OnnxView, prepared
from .report import compression, int8_artifact
from .scheme import Scheme, scheme_for

_FILE = "model.onnx"
_PROTOBUF_LIMIT = 2 * 10**9


@dataclass(frozen=True, slots=True)
class OnnxGraph:
    """A float graph, its operations that could be int8, and the ranges of what they read."""

    job: GraphJob
    view: OnnxView
    found: tuple[Operation, ...]
    calibrated: Mapping[str, tuple[float, float]]
    ranges: Mapping[str, Array]
    scheme: Scheme
    notes: tuple[str, ...]

    @property
    def operations(self) -> tuple[str, ...]:
        return tuple(operation.name for operation in self.found)

    @property
    def kinds(self) -> Mapping[str, str]:
        return {operation.name: operation.kind for operation in self.found}

    def sensitivity(self, feeds: Sequence[Arrays]) -> dict[str, float]:
        """The kernel of a convolution rounds its output as well, and it is the operations that read it whom that may
        harm: of those that do worse by a rounded input alone than it does, it has the least ratio."""
        sources = rounded_by(self.view, self.found)
        readers = [operation for operation in self.found if sources.get(operation.name)]
        twins = [*((operation, True) for operation in self.found), *((operation, False) for operation in readers)]
        grids = {name: grid_of(*limits, self.scheme) for name, limits in self.calibrated.items()}
        ratios = noise(self.view, twins, grids, self.scheme, feeds, self._threads)
        found = dict(zip(self.operations, ratios, strict=False))
        for reader, ratio in zip(readers, ratios[len(found) :], strict=True):
            for source in sources[reader.name]:
                found[source] = min(found[source], ratio)
        return found

    def save(self, keep_float: Collection[str], rest: RestPrecision) -> Artifact:
        """Raises CompressError for bf16, which the CPU kernels of ONNX Runtime do not have."""
        if rest == "bf16":
            raise CompressError("rest = 'bf16'", "ONNX Runtime has no CPU kernels for it", "use fp32, or openvino")
        model = static_graph(self.view, self.found, self.calibrated, self.scheme, keep_float)
        return _write(model, self.job)

    @property
    def _threads(self) -> int:
        return self.job.contract.target.threads


def static(job: GraphJob, method: Static) -> OnnxGraph:
    """Calibrate the fp32 graph on all samples of the job's calibration data.

    Raises CompressError where there is no data, or no operation that could be int8."""
    if job.calibration is None or not len(job.calibration):
        remedy = "give calibration=..., or name some hundred samples in data.calibration"
        raise CompressError("static quantization", "there is no calibration data to find ranges with", remedy)
    view = _read_base(job)
    found = operations_of(view)
    if not found:
        raise _nothing(job, "no convolution, product, LSTM or table of embeddings with constant weights of float32")
    scheme = scheme_for(job.host)
    feeds = feeds_of(job.calibration, job.contract)
    threads = job.contract.target.threads
    seen = extremes(view, quantized_tensors(view, found), feeds, threads)
    ranges = _calibrated(view, seen, feeds, scheme, threads)
    return OnnxGraph(job, view, found, ranges, seen, scheme, (scheme.reason, _RANGES, *_dynamic_note(found)))


_RANGES = (
    "the range of an activation lies between the mean over the samples of its smallest and largest values and the "
    "widest seen, where rounding loses least; weights have one scale per output channel"
)
_COMPARED = 24
"""Samples that ranges are compared on."""
_WIDTHS = (0.0, 0.25, 0.5, 1.0)
"""Of a range between the mean of the extremes and the widest seen. The first is what images with rare outliers want,
the last what a few numbers want, whose extremes differ between samples."""


def _calibrated(
    view: OnnxView, seen: Mapping[str, Array], feeds: Sequence[Arrays], scheme: Scheme, threads: int
) -> dict[str, tuple[float, float]]:
    """Of each tensor the range that loses least of it. On the networks above that left as little noise as a search
    for the best percentile or the least entropy, without histograms; and in a product that reads a mean of embeddings
    17 dB less than the mean of the extremes."""
    tensors = list(seen)
    choices = [(name, limits) for name in tensors for limits in _choices(seen[name])]
    errors = rounding_errors(
        view, [(name, grid_of(*limits, scheme)) for name, limits in choices], spread(feeds, _COMPARED), threads
    )
    best = errors.reshape(len(tensors), len(_WIDTHS)).argmin(axis=1)
    return {name: choices[row * len(_WIDTHS) + int(best[row])][1] for row, name in enumerate(tensors)}


def _choices(rows: Array) -> list[tuple[float, float]]:
    """Ranges of each width for the extremes [feeds, 2]. What is not finite has no say."""
    finite = rows[np.isfinite(rows).all(axis=1)].astype(np.float64)
    if not len(finite):
        return [(0.0, 0.0)] * len(_WIDTHS)
    low, high = finite.mean(axis=0)
    lowest, highest = finite[:, 0].min(), finite[:, 1].max()
    return [(float(low + w * (lowest - low)), float(high + w * (highest - high))) for w in _WIDTHS]


def _dynamic_note(found: Iterable[Operation]) -> tuple[str, ...]:
    if any(operation.kind == "LSTM" for operation in found):
        return ("LSTMs quantize their inputs as they run: ONNX Runtime has no other kernel in int8 for them",)
    return ()


def dynamic(job: GraphJob) -> Quantized:
    """Weights of products, LSTMs and embeddings become int8; activations become int8 in each run.

    Convolutions stay in float: ONNX Runtime's kernel for them (ConvInteger) took 1.4 to 4 times as long as fp32 in
    the networks above.
    Raises CompressError where no product or LSTM has constant weights."""
    view = _read_base(job)
    every = operations_of(view)
    found = tuple(operation for operation in every if operation.kind != "Conv")
    if all(operation.kind == "Gather" for operation in found):
        raise _nothing(job, "no product or LSTM with constant weights of float32 (convolutions need static)")
    scheme = scheme_for(job.host)
    artifact = _write(dynamic_graph(view, found, scheme), job)
    kept = "ONNX Runtime's kernel for dynamic int8 convolutions is slower than the one in float"
    listed = [
        QuantizedOperation(name=op.name, op=op.kind, precision="fp32", reason=kept)
        if op.kind == "Conv"
        else QuantizedOperation(name=op.name, op=op.kind, precision="int8")
        for op in every
    ]
    notes = ("weights have one scale per output channel, embeddings one per row", _range_note(scheme))
    proven = job.contract.target.objective != "size"
    return Quantized(artifact, compression(job, "dynamic", artifact, operations=listed, notes=notes, proven=proven))


def _range_note(scheme: Scheme) -> str:
    bits = "7 bits of the weights are used, because" if scheme.narrow_weights else "all 8 bits of the weights are used:"
    why = "the processor lacks VNNI" if scheme.narrow_weights else "sums of products do not saturate on the processor"
    return f"{bits} {why}; activations are unsigned, with the range that they have in each run"


def _nothing(job: GraphJob, what: str) -> CompressError:
    return CompressError(job.contract.name, f"has nothing to quantize: {what}", "keep it in fp32")


def _read_base(job: GraphJob) -> OnnxView:
    assert job.base is not None, "ONNX Runtime's fp32 graph is what is quantized"
    return prepared(job.base.directory / _FILE)


def _write(model: Any, job: GraphJob) -> Artifact:
    """model.onnx with the signature in its metadata, in the place of what was written before."""
    assert job.base is not None
    artifact = int8_artifact(job.base, job.directory)
    for entry in [entry for entry in model.metadata_props if entry.key == SIGNATURE_KEY]:
        model.metadata_props.remove(entry)
    model.metadata_props.add(key=SIGNATURE_KEY, value=artifact.signature.model_dump_json())
    path = job.directory / _FILE
    for old in (path, path.with_suffix(".onnx.data")):
        old.unlink(missing_ok=True)
    large = model.ByteSize() > _PROTOBUF_LIMIT
    onnx.save_model(model, str(path), save_as_external_data=large, location=f"{path.name}.data")
    return artifact
