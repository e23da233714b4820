"""What an MLflow run is told of a package: params and metrics."""

from __future__ import annotations

import math
import time
from collections.abc import Iterator
from typing import TYPE_CHECKING

from ...evidence import CandidateResult
from ...package import Package
from ..figures import figures_of, parameters_of

if TYPE_CHECKING:
    from mlflow.entities import Metric, Param

BY_BATCH = ("p50_ms_by_batch", "p99_ms_by_batch")
"""Latency curves: the step of a value is the size of its batch."""


def params_of(package: Package) -> list[Param]:
    """Digests, what the contract asks for, and the variant that was chosen."""
    from mlflow.entities import Param

    contract, chosen = package.manifest.contract, package.manifest.variants[0]
    limits = contract.limits.model_dump(exclude_none=True)
    params = {
        "package.digest": package.digest,
        "package.format": package.manifest.format,
        "package.created": package.manifest.created,
        "contract.digest": package.manifest.contract_digest,
        "task": contract.task.kind,
        "target.device": contract.target.device,
        "target.threads": contract.target.threads,
        "target.objective": contract.target.objective,
        **{f"limits.{name}": value for name, value in limits.items()},
        "variant": chosen.id,
        "variant.engine": chosen.requires.engine,
        "variant.engine_version": chosen.requires.engine_version or "",
        "variant.precision": chosen.precision,
        "variant.executes_code": chosen.requires.executes_code,
        "variants": ", ".join(variant.id for variant in package.manifest.variants),
    }
    return [Param(name, str(value)) for name, value in params.items() if value != ""]


def metrics_of(package: Package) -> list[Metric]:
    """Figures of the chosen variant under their own names; of every variant in the package as `<variant>/<name>`, with
    its latency by batch size. MLflow has no `+` in names: `prune30+openvino-int8` is `prune30.openvino-int8`."""
    from mlflow.entities import Metric

    now = int(time.time() * 1000)
    return [Metric(name, value, now, step) for name, value, step in _figures(package) if math.isfinite(value)]


def _figures(package: Package) -> Iterator[tuple[str, float, int]]:
    record = package.record
    yield from ((name, value, 0) for name, value in figures_of(record).items())
    parameters = parameters_of(record)
    if parameters is not None:
        yield "parameters", parameters, 0
    results = {result.candidate.id: result for result in record.results}
    for variant in package.manifest.variants:
        if variant.id in results:
            place = variant.id.replace("+", ".")
            as_chosen = record.model_copy(update={"chosen": variant.id})
            yield from ((f"{place}/{name}", value, 0) for name, value in figures_of(as_chosen).items())
            yield from ((f"{place}/{name}", value, step) for name, value, step in _curves(results[variant.id]))


def _curves(result: CandidateResult) -> Iterator[tuple[str, float, int]]:
    for point in result.evidence.latency:
        yield from zip(BY_BATCH, (point.p50_ms, point.p99_ms), (point.batch, point.batch), strict=True)
