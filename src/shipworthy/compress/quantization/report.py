"""What became of a graph: bytes, parameters and outputs before and after."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from ...contract import Array, Arrays
from ...errors import CompressError
from ...evidence import Compression, QuantizedOperation
from ...exporters.int8 import float_reason_of
from ...model import run_eager
from ...runtime import Artifact, OperatingPoint, open_runner
from ..sizes import folder_bytes, size_of
from .calibration import feeds_of, spread
from .graph import GraphJob

_COMPARED = 32
"""Samples that outputs are compared on, at most."""


def int8_artifact(base: Artifact, directory: Path) -> Artifact:
    """The artifact that takes the place of an engine's fp32 one."""
    directory.mkdir(parents=True, exist_ok=True)
    return Artifact(base.engine, "int8", directory, base.signature)


def compression(
    job: GraphJob,
    recipe: str,
    artifact: Artifact,
    *,
    operations: Sequence[QuantizedOperation] = (),
    notes: Sequence[str] = (),
    samples: int | None = None,
    proven: bool = False,
) -> Compression:
    """The report of a graph that was written: against the engine's fp32 graph, or the module where there is none.

    Raises CompressError, if it is to be `proven`, where nothing of the graph executes in int8."""
    parameters, held = size_of(job.model)
    return Compression(
        recipe=recipe,
        parameters_before=parameters,
        parameters_after=parameters,
        bytes_before=held if job.base is None else folder_bytes(job.base.directory),
        bytes_after=folder_bytes(artifact.directory),
        mean_abs_diff=_mean_abs_diff(job, artifact, recipe if proven else None),
        samples=samples,
        operations=tuple(operations),
        notes=tuple(notes),
    )


def listed(
    operations: Sequence[str],
    kinds: Mapping[str, str],
    kept: Mapping[str, str],
    rest: str,
    sqnr: Mapping[str, float],
) -> tuple[QuantizedOperation, ...]:
    """Each operation with its precision; `kept` says why an operation is in float, by its name."""
    return tuple(
        QuantizedOperation(
            name=name,
            op=kinds[name],
            precision=rest if name in kept else "int8",
            sqnr_db=sqnr.get(name),
            reason=kept.get(name, ""),
        )
        for name in operations
    )


def not_in_int8(recipe: str, reason: str) -> CompressError:
    remedy = "keep fewer operations in float or allow a larger drop; where int8 brings nothing, take the fp32 graph"
    return CompressError(f"{recipe} quantization", reason, remedy)


def _mean_abs_diff(job: GraphJob, artifact: Artifact, proven: str | None) -> dict[str, float]:
    """mean|Δ| of each output that is a float, over real samples where there are any. What executes is looked at on the
    way: opening a graph compiles it."""
    feeds: Sequence[Arrays] = job.probes
    if job.calibration is not None:
        feeds = spread(feeds_of(job.calibration, job.contract), _COMPARED)
    before = _answers(job, feeds)
    point = OperatingPoint(threads=job.contract.target.threads)
    runner = open_runner(artifact, point)
    try:
        if proven is not None and (reason := float_reason_of(runner.kernels())) is not None:
            raise not_in_int8(proven, reason)
        sums: dict[str, list[float]] = {}
        for feed, wanted in zip(feeds, before, strict=True):
            for name, got in runner.run(feed).items():
                if wanted[name].dtype.kind == "f" and wanted[name].shape == got.shape:
                    delta = np.abs(wanted[name].astype(np.float64) - got)
                    total = sums.setdefault(name, [0.0, 0.0])
                    total[0] += float(delta.sum())
                    total[1] += delta.size
    finally:
        runner.close()
    return {name: total / max(1.0, count) for name, (total, count) in sums.items()}


def _answers(job: GraphJob, feeds: Sequence[Arrays]) -> list[dict[str, Array]]:
    if job.base is None:
        return [run_eager(job.model, job.contract.signature, feed) for feed in feeds]
    runner = open_runner(job.base, OperatingPoint(threads=job.contract.target.threads))
    try:
        return [runner.run(feed) for feed in feeds]
    finally:
        runner.close()
