"""How NNCF finds the ranges of activations: what the graph asks for, and what a trial on held-back samples decides."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias

import numpy as np

from ...contract import Array, Arrays
from ...errors import CompressError
from ...runtime.engine_openvino import HINTS, need_openvino, stably_named
from ...runtime.guarded import first_line
from .calibration import chosen, feeds_of
from .graph import GraphJob
from .openvino_graph import RECURRENT, biases_of, graphs, operations, restore_bias
from .openvino_nncf import quiet_nncf
from .scheme import Scheme, scheme_for

_NEGATIVE_NAMES = "Swish Gelu HSwish PRelu Elu LeakyRelu Tanh Mish Selu SoftPlus"
_NEGATIVE = frozenset(_NEGATIVE_NAMES.split())
"""Activations whose negative values matter: with a zero point the 256 steps are spent on the range that there is."""
_TRIED = 48
"""Samples of a trial: two thirds of them calibrate, the others judge."""

Ends: TypeAlias = Literal["mean", "extreme"]


@dataclass(frozen=True, slots=True)
class Way:
    """The ends of a range, and whether biases are corrected for the mean error of the weights."""

    ends: Ends = "mean"
    """The mean over the samples of their smallest and largest values, or the smallest and largest of all."""
    corrected: bool = True

    def show(self) -> str:
        ends = "the mean of the samples' extremes" if self.ends == "mean" else "the extremes of all samples"
        return f"ranges from {ends}, biases {'corrected' if self.corrected else 'left as they are'}"


def calibrated(model: Any, job: GraphJob) -> tuple[Any, tuple[str, ...]]:
    """The graph with FakeQuantize nodes, and what was chosen. Raises CompressError where NNCF fails on it."""
    assert job.calibration is not None
    attention, mixed = _traits(model, scheme_for(job.host))
    way, told = _best_way(model, job)
    quantized = _quantized(model, job, feeds_of(job.calibration, job.contract), way.ends)
    if not way.corrected:
        _uncorrect(quantized, biases_of(model))
    zero = "with a zero point" if mixed else "symmetric, or from 0 where nothing is negative"
    notes = [scheme_for(job.host).reason, f"activations are {zero}; weights have one scale per output channel", told]
    if any(node.get_type_name() in RECURRENT for _, graph in graphs(model) for node in graph.get_ordered_ops()):
        notes.append("OpenVINO computes recurrent layers in float, so that they are left alone")
    if attention:
        notes.insert(1, "there is attention: outliers of activations are moved into the weights (SmoothQuant)")
    return quantized, tuple(notes)


def _best_way(model: Any, job: GraphJob) -> tuple[Way, str]:
    """The way whose outputs are nearest to fp32's on samples that it was not calibrated on.

    The mean of extremes cuts off outliers, which pays where a tensor has many values and costs where it has few."""
    assert job.calibration is not None
    feeds = feeds_of(chosen(job.calibration, job.contract, _TRIED), job.contract)
    judged = feeds[::3]
    fitted = [feed for place, feed in enumerate(feeds) if place % 3] or feeds
    wanted = list(_outputs(model, judged, job))
    biases = biases_of(model)
    found: dict[Way, float] = {}
    ends: tuple[Ends, ...] = ("mean", "extreme")
    for end in ends:
        quantized = _quantized(model, job, fitted, end)
        for corrected in (True, False):
            if not corrected:
                _uncorrect(quantized, biases)
            found[Way(end, corrected)] = _sqnr(wanted, _outputs(quantized, judged, job))
    best = max(found, key=lambda way: found[way])
    worst = min(found.values())
    return best, f"{best.show()}: {found[best]:.1f} dB on {len(judged)} samples held back, the worst way {worst:.1f} dB"


def _uncorrect(model: Any, biases: Mapping[str, Array]) -> None:
    for operation in operations(model):
        if operation.name in biases:
            restore_bias(operation.node, biases[operation.name])


def _sqnr(wanted: Sequence[Sequence[Array]], found: Iterator[Sequence[Array]]) -> float:
    signal = noise = 0.0
    for expected, got in zip(wanted, found, strict=True):
        for y, z in zip(expected, got, strict=True):
            if y.dtype.kind == "f":
                signal += float(np.square(y, dtype=np.float64).sum())
                noise += float(np.square(y.astype(np.float64) - z).sum())
    # To a tenth: what is below it is chance, and ties go to the way that is tried first.
    return round(10 * math.log10(signal / noise), 1) if signal and noise else (0.0 if noise else math.inf)


def _outputs(model: Any, feeds: Sequence[Arrays], job: GraphJob) -> Iterator[list[Array]]:
    config = {
        "INFERENCE_PRECISION_HINT": HINTS["fp32"],
        "INFERENCE_NUM_THREADS": job.contract.target.threads,
    }
    compiled = need_openvino("quantizing").Core().compile_model(model, "CPU", config)
    for feed in _fitting(model, feeds):
        found = compiled(feed)
        yield [found[index].copy() for index in range(len(compiled.outputs))]


def _fitting(model: Any, feeds: Sequence[Arrays]) -> list[dict[str, Array]]:
    """Without what the graph does not read."""
    names = {name for port in model.inputs for name in port.get_names()}
    return [{name: array for name, array in feed.items() if name in names} for feed in feeds]


def _quantized(model: Any, job: GraphJob, feeds: Sequence[Arrays], ends: Ends) -> Any:
    scheme = scheme_for(job.host)
    attention, mixed = _traits(model, scheme)
    with quiet_nncf() as nncf:
        try:
            quantized = nncf.quantize(
                model,
                nncf.Dataset(_fitting(model, feeds)),
                preset=nncf.QuantizationPreset.MIXED if mixed else nncf.QuantizationPreset.PERFORMANCE,
                target_device=nncf.TargetDevice.CPU,
                subset_size=len(feeds),
                fast_bias_correction=True,
                model_type=nncf.ModelType.TRANSFORMER if attention else None,
                ignored_scope=nncf.IgnoredScope(types=sorted(RECURRENT), validate=False),
                advanced_parameters=_advanced(nncf, scheme, ends),
            )
        except Exception as error:  # NNCF raises whatever a graph that it does not know leads it to
            remedy = "use dynamic quantization or another engine; calibration samples have to take every branch"
            raise CompressError("nncf.quantize", first_line(error), remedy) from error
    stably_named(quantized)
    return quantized


def _advanced(nncf: Any, scheme: Scheme, ends: Ends) -> Any:
    from nncf.quantization.advanced_parameters import (
        AdvancedQuantizationParameters,
        OverflowFix,
        QuantizationParameters,
    )
    from nncf.quantization.range_estimator import RangeEstimatorParametersSet

    signed = QuantizationParameters(signedness_to_force=True) if scheme.signed_activations else None
    sets = RangeEstimatorParametersSet
    return AdvancedQuantizationParameters(
        overflow_fix=OverflowFix.ENABLE if scheme.narrow_weights else OverflowFix.DISABLE,
        activations_quantization_params=signed,
        activations_range_estimator_params=sets.MEAN_MINMAX if ends == "mean" else sets.MINMAX,
        backend_params={"compress_weights": False},
    )


def _traits(model: Any, scheme: Scheme) -> tuple[bool, bool]:
    """Whether there is attention (a softmax and products of two activations), and whether zero points pay."""
    kinds: set[str] = set()
    product = False
    for _, graph in graphs(model):
        for node in graph.get_ordered_ops():
            kinds.add(node.get_type_name())
            product |= node.get_type_name() == "MatMul" and all(
                value.get_node().get_type_name() not in ("Constant", "Convert") for value in node.input_values()
            )
    attention = "ScaledDotProductAttention" in kinds or ("Softmax" in kinds and product)
    return attention, not scheme.symmetric_activations and (attention or bool(kinds & _NEGATIVE))
