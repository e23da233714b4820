"""How NNCF finds the ranges of activations: what the graph asks for, and what a trial on held-back samples decides."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias

import numpy as np

from ...contract import Array, Arrays
from ...errors import CompressError
from ...runtime.engine_openvino import HINTS, need_openvino, stably_named
from ...runtime.guarded import first_line
from .calibration import feeds_of, spread
from .graph import GraphJob
from .openvino_extremes import observed_extremes, over_channels, widened
from .openvino_graph import RECURRENT, biases_of, graphs, restore_biases
from .openvino_nncf import quiet_nncf
from .scheme import Scheme, scheme_for

_NEGATIVE_NAMES = "Swish Gelu HSwish PRelu Elu LeakyRelu Tanh Mish Selu SoftPlus"
_NEGATIVE = frozenset(_NEGATIVE_NAMES.split())
"""Activations whose negative values matter: with a zero point the 256 steps are spent on the range that there is."""
_JUDGES = 8
"""Feeds, of a sample each as a rule, that are held back to judge by."""
_ENOUGH = 32
"""With fewer feeds, those that judge calibrate as well."""

Ends: TypeAlias = Literal["mean", "extreme"]
"""Of a range: the mean over the samples of their smallest and largest values, or the smallest and largest of all."""
_ENDS: Mapping[Ends, str] = {"mean": "the means of the samples' extremes", "extreme": "the extremes of all samples"}


@dataclass(frozen=True, slots=True)
class Calibrated:
    """A graph with FakeQuantize nodes."""

    model: Any
    extremes: Mapping[str, Array]
    """Smallest and largest value [feeds, 2] of each quantized activation in the float graph."""
    notes: tuple[str, ...]
    """What was chosen."""


def calibrated(model: Any, job: GraphJob) -> Calibrated:
    """NNCF's graph with the means of the samples' extremes as ranges, or what does better on a few samples: the
    extremes of all, or biases as they were. Raises CompressError where NNCF fails on it."""
    assert job.calibration is not None
    scheme = scheme_for(job.host)
    attention, mixed = _traits(model, scheme)
    branched = any(path for path, _ in graphs(model))
    # The only sample that takes a branch must not be missing.
    fitted, judged = held_back(feeds_of(job.calibration, job.contract), every=branched)
    trial = _Trial(job, biases_of(model), judged, list(_outputs(model, judged, job)))
    quantized = _quantized(model, job, fitted)
    seen = observed_extremes(quantized, trial.biases, fitted, job.contract.target.threads)
    # Values inside a branch are not observed, so that there NNCF has to look again.
    wide = _quantized(model, job, fitted, "extreme") if branched else widened(quantized, seen)
    quantized, whys = trial.best({"mean": quantized, "extreme": wide})
    zero = "with a zero point" if mixed else "symmetric, or from 0 where nothing is negative"
    notes = [scheme.reason, f"activations are {zero}; weights have one scale per output channel", *whys]
    if any(node.get_type_name() in RECURRENT for _, graph in graphs(model) for node in graph.get_ordered_ops()):
        notes.append("OpenVINO computes recurrent layers in float, so that they are left alone")
    if attention:
        notes.insert(1, "there is attention: outliers of activations are moved into the weights (SmoothQuant)")
    return Calibrated(quantized, {name: over_channels(ends) for name, ends in seen.items()}, tuple(notes))


def held_back(
    feeds: Sequence[dict[str, Array]], *, every: bool = False
) -> tuple[list[dict[str, Array]], list[dict[str, Array]]]:
    """Those that calibrate, and a few that judge, from all over the order. Where there are few, or `every` one has to
    calibrate, those that judge do so as well."""
    judged = spread(feeds, _JUDGES)
    if every or len(feeds) < _ENOUGH:
        return list(feeds), judged
    chosen = {id(feed) for feed in judged}
    return [feed for feed in feeds if id(feed) not in chosen], judged


@dataclass(frozen=True, slots=True)
class _Trial:
    """Ways to finish a graph, judged by the distance of its outputs from fp32's."""

    job: GraphJob
    biases: Mapping[str, Array]
    """As they are in the float graph."""
    judged: list[dict[str, Array]]
    wanted: list[list[Array]]

    def best(self, ways: Mapping[Ends, Any]) -> tuple[Any, tuple[str, str]]:
        """The graph with the ends of ranges and the biases that do best, and why.

        The mean of extremes cuts off outliers: that pays where a tensor has many values, and costs where few. NNCF's
        fast correction of biases takes the mean of a channel for its distribution, which can do harm."""
        plain = {ends: restore_biases(graph.clone(), self.biases) for ends, graph in ways.items()}
        found = {ends: self._sqnr(graph) for ends, graph in plain.items()}
        best: Ends = "mean" if found["mean"] >= found["extreme"] else "extreme"
        other: Ends = "extreme" if best == "mean" else "mean"
        why_ends = (
            f"ranges are {_ENDS[best]}: {found[best]:.1f} dB on {len(self.judged)} samples, where {_ENDS[other]} give "
            f"{found[other]:.1f} dB"
        )
        corrected = self._sqnr(ways[best])
        figures = f"({corrected:.1f} dB corrected, {found[best]:.1f} dB not)"
        if corrected >= found[best]:
            return ways[best], (why_ends, f"biases are corrected for the mean error of the weights {figures}")
        return plain[best], (why_ends, f"biases are left as they are {figures}")

    def _sqnr(self, quantized: Any) -> float:
        return decibels(self.wanted, _outputs(quantized, self.judged, self.job))


def decibels(wanted: Sequence[Sequence[Array]], found: Iterable[Sequence[Array]]) -> float:
    """SQNR of all outputs together, where what is wanted is finite; -inf where what was found is not finite there."""
    signal = noise = 0.0
    for expected, got in zip(wanted, found, strict=True):
        for y, z in zip(expected, got, strict=True):
            if y.dtype.kind == "f":
                finite = np.isfinite(y)
                signal += float(np.square(y[finite], dtype=np.float64).sum())
                noise += float(np.square(y[finite].astype(np.float64) - z[finite]).sum())
    if not math.isfinite(noise):
        return -math.inf
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


def _quantized(model: Any, job: GraphJob, feeds: Sequence[Arrays], ends: Ends = "mean") -> Any:
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
                advanced_parameters=_advanced(scheme, ends),
            )
        except Exception as error:  # NNCF raises whatever a graph that it does not know leads it to
            remedy = "use dynamic quantization or another engine; calibration samples have to take every branch"
            raise CompressError("nncf.quantize", first_line(error), remedy) from error
    stably_named(quantized)
    return quantized


def _advanced(scheme: Scheme, ends: Ends) -> Any:
    from nncf.quantization.advanced_parameters import (
        AdvancedQuantizationParameters,
        OverflowFix,
        QuantizationParameters,
    )
    from nncf.quantization.range_estimator import RangeEstimatorParametersSet

    sets = RangeEstimatorParametersSet
    signed = QuantizationParameters(signedness_to_force=True) if scheme.signed_activations else None
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
