"""What the engines spend their time on: of an export of the model, or of a package's variants."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Sequence
from importlib.util import find_spec
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING

from ..contract import Arrays
from ..errors import EngineError, ExportError, MissingExtra
from ..package import Package, Variant, artifact_of, best_point, obstacle
from ..runtime import Artifact, OperatingPoint, this_host
from ..runtime.engines import ENGINES, engine_named
from ..runtime.operators import OperatorTime, operator_times
from .report import EngineProfile, TypeTime, Untold
from .subject import resized

if TYPE_CHECKING:
    from .subject import Subject

TELLING = ("openvino", "onnxruntime")
"""Engines that tell the times of their nodes, and that packages may hold."""


def wanted_engines(engines: Sequence[str] | None) -> tuple[str, ...]:
    """The engines asked for; without any, all that tell their times.

    Raises EngineError for one that is none or cannot tell, MissingExtra for one that is not installed."""
    if engines is None:
        return TELLING
    for name in engines:
        engine = engine_named(name)
        if name not in TELLING:
            remedy = f"use {' or '.join(TELLING)}; `none` leaves them out"
            raise EngineError(f"the engine {name!r}", "does not tell the times of its operators", remedy)
        if find_spec(engine.module) is None:
            raise MissingExtra(f"the engine {name!r}", engine.module, engine.extra)
    return tuple(dict.fromkeys(engines))


def profile_exports(
    subject: Subject, engines: Sequence[str], seconds: float
) -> tuple[tuple[EngineProfile, ...], tuple[Untold, ...]]:
    """Export the model to each engine in fp32, and time the nodes at the target's threads.

    An engine that has no graph of the model is among the untold."""
    from ..exporters import export

    target = subject.contract.target
    contract = subject.contract.model_copy(update={"target": target.model_copy(update={"device": "cpu"})})
    point = OperatingPoint(threads=target.threads, batch=subject.batch)
    found, untold = [], []
    for engine in engines:
        if find_spec(ENGINES[engine].module) is None:
            untold.append(Untold(name=engine, why="is not installed"))
            continue
        with tempfile.TemporaryDirectory(prefix="shipworthy-") as folder:
            try:
                made = export(subject.model, contract, engine, "fp32", Path(folder), subject.probes)
                found.append(_timed(engine, made.artifact, point, subject.feeds, seconds))
            except (ExportError, EngineError) as error:
                untold.append(Untold(name=engine, why=error.reason))
    return tuple(found), tuple(untold)


def profile_package(
    package: Package, engines: Sequence[str], batch: int | None, seconds: float
) -> tuple[tuple[EngineProfile, ...], tuple[Untold, ...]]:
    """Time the nodes of every variant that these engines and this host can run, at its best operating point.

    A golden case is fed, repeated to the batch. Nothing of this needs torch."""
    host = this_host()
    case = max(package.golden.cases, key=lambda case: len(next(iter(case.inputs.values()))))
    found, untold = [], []
    for variant in package.manifest.variants:
        if (why := _not_told(variant, engines)) or (why := obstacle(variant, host)):
            untold.append(Untold(name=variant.id, why=why))
            continue
        point = best_point(variant, host.cores)
        point = point if batch is None else point.model_copy(update={"batch": batch})
        feeds = {name: resized(array, point.batch) for name, array in case.inputs.items()}
        found.append(_timed(variant.id, artifact_of(package, variant), point, feeds, seconds))
    return tuple(found), tuple(untold)


def _not_told(variant: Variant, engines: Sequence[str]) -> str | None:
    engine = variant.requires.engine
    if engine not in TELLING:
        return f"the engine {engine!r} does not tell the times of its operators"
    if variant.requires.device != "cpu":
        return f"runs on {variant.requires.device}; the times of operators are told on the cpu"
    return None if engine in engines else "was not asked for"


def _timed(name: str, artifact: Artifact, point: OperatingPoint, feeds: Arrays, seconds: float) -> EngineProfile:
    nodes = operator_times(artifact, point, feeds, seconds=seconds)
    total = sum(node.us for node in nodes)
    return EngineProfile(
        name=name,
        engine=artifact.engine,
        precision=artifact.precision,
        point=point,
        us=total,
        types=tuple(sorted(_types(nodes, total), key=lambda row: (-row.us, row.op, row.precision))),
        nodes=nodes,
    )


def _types(nodes: Sequence[OperatorTime], total: float) -> Iterator[TypeTime]:
    def kind(node: OperatorTime) -> tuple[str, str]:
        return node.op, node.precision

    for (op, precision), group in groupby(sorted(nodes, key=kind), key=kind):
        times = [node.us for node in group]
        part = sum(times)
        yield TypeTime(op=op, precision=precision, nodes=len(times), us=part, share=part / total if total else 0.0)
