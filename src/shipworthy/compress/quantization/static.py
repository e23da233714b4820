"""Static quantization of one graph, with as many operations in float as the method asks for, and its report."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import replace
from typing import TypeAlias

from ...contract import Arrays
from ...errors import CompressError
from ...runtime import Artifact
from ..made import Quantized
from ..methods import AccuracyAware, Static
from .accuracy import Kept, keep_fewest, ranked
from .calibration import chosen, feeds_of, few_samples, settled
from .graph import GraphJob, QuantizedGraph, with_calibration
from .report import compression, listed, not_in_int8

StaticOf: TypeAlias = Callable[[GraphJob, Static], QuantizedGraph | Quantized]

_PROBED = 16
"""Samples that the sensitivity of operations is measured on."""


def plainly(job: GraphJob, method: Static, static: StaticOf) -> Quantized:
    """Every operation in int8 but those that the method names."""
    job = _calibrating(job, method.samples)
    graph = static(job, method)
    if isinstance(graph, Quantized):
        assert job.calibration is not None
        return replace(graph, findings=(*graph.findings, *few_samples(job.calibration)))
    _refuse_unknown(method.keep_float, graph)
    sqnr = graph.sensitivity(_few_feeds(job, _PROBED))
    _refuse_all_float("static", method.keep_float, graph)
    artifact = graph.save(method.keep_float, method.rest)
    kept = dict.fromkeys(method.keep_float, "asked for: it is named in keep_float")
    return _quantized(job, "static", graph, artifact, kept, method.rest, sqnr, ())


def accuracy_aware(
    job: GraphJob,
    method: AccuracyAware,
    engine: str,
    static: StaticOf,
    drop: Callable[[Artifact], float] | None,
) -> Quantized:
    """As many operations in int8 as the limit of the metric allows."""
    if drop is None:
        remedy = "give labelled validation data and a metric, or use static quantization"
        raise CompressError("accuracy-aware quantization", "there is nothing to measure the metric's drop with", remedy)
    job = _calibrating(job, method.samples)
    graph = static(job, Static(samples=method.samples, rest=method.rest))
    if isinstance(graph, Quantized):
        remedy = "use openvino or onnxruntime, or static quantization"
        raise CompressError(f"the engine {engine!r}", "cannot put single operations back to float", remedy)
    sqnr = graph.sensitivity(_few_feeds(job, _PROBED))

    def drop_of(kept: Collection[str]) -> float:
        return drop(graph.save(kept, method.rest))

    found = keep_fewest(ranked(graph.operations, sqnr), drop_of, method.max_drop)
    _refuse_all_float("accuracy-aware", found.names, graph)
    artifact = graph.save(found.names, method.rest)
    kept = {name: _reason(name, sqnr, method.max_drop) for name in graph.operations if name in found.names}
    notes = (_search_note(found, graph, method.max_drop),)
    return _quantized(job, "accuracy-aware", graph, artifact, kept, method.rest, sqnr, notes)


def _reason(name: str, sqnr: Mapping[str, float], max_drop: float) -> str:
    noise = f"int8 leaves its own output {sqnr[name]:.1f} dB above the noise; " if name in sqnr else ""
    return f"{noise}without it in float the metric drops by more than {max_drop:.4g}"


def _search_note(found: Kept, graph: QuantizedGraph, max_drop: float) -> str:
    first = found.trials[0]
    return (
        f"the metric drops by {first.drop:.4g} with every operation in int8 and by {found.drop:.4g} with "
        f"{len(found.names)} of {len(graph.operations)} in float (limit {max_drop:.4g}); "
        f"{len(found.trials)} graphs were evaluated"
    )


def _calibrating(job: GraphJob, samples: int) -> GraphJob:
    if job.calibration is None or not len(job.calibration):
        remedy = "give calibration=..., or name some hundred samples in data.calibration"
        raise CompressError("static quantization", "there is no calibration data to find ranges with", remedy)
    return with_calibration(job, chosen(job.calibration, job.contract, samples))


def _few_feeds(job: GraphJob, most: int) -> list[Arrays]:
    assert job.calibration is not None
    return list(feeds_of(chosen(job.calibration, job.contract, most), job.contract))


def _refuse_unknown(names: Collection[str], graph: QuantizedGraph) -> None:
    unknown = [name for name in names if name not in graph.operations]
    if unknown:
        reason = f"is no operation of the graph that could be int8; there is {', '.join(graph.operations[:8])}"
        raise CompressError(f"keep_float: {unknown[0]!r}", reason, "take the names from the report of a graph")


def _refuse_all_float(recipe: str, kept: Collection[str], graph: QuantizedGraph) -> None:
    if set(graph.operations) <= set(kept):
        raise not_in_int8(recipe, f"all {len(graph.operations)} operations stay in float")


def _quantized(
    job: GraphJob,
    recipe: str,
    graph: QuantizedGraph,
    artifact: Artifact,
    kept: Mapping[str, str],
    rest: str,
    sqnr: Mapping[str, float],
    notes: tuple[str, ...],
) -> Quantized:
    assert job.calibration is not None
    samples = len(job.calibration)
    more = settled(graph.ranges, samples)
    report = compression(
        job,
        recipe,
        artifact,
        operations=listed(graph.operations, graph.kinds, kept, rest, sqnr),
        notes=(*graph.notes, more, *notes),
        samples=samples,
        proven=True,
    )
    return Quantized(artifact, report, few_samples(job.calibration))
