"""From a package to a predictor: audit, open the encoders, choose, open, replay, warm."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from ..contract import Array
from ..encode import Codec
from ..errors import EngineError, NoUsableVariant, ShipworthyError
from ..package import (
    Package,
    Variant,
    artifact_of,
    best_point,
    none_usable,
    obstacle,
    open_codec,
    read_package,
    replay,
)
from ..runtime import Host, open_runner, this_host
from ..runtime.protocol import OperatingPoint
from .costs import measured_costs
from .memory import blocks_apart, give_back
from .mixing import rows_are_independent
from .padded import prove_padding
from .predictor import Predictor
from .streams import Streams

ENOUGH = 8
"""Rows of a batch that show whether rows show in each other's answers."""


def load(
    path: str | Path,
    *,
    allow_code: bool = False,
    variant: str | None = None,
    point: OperatingPoint | None = None,
    version: str | None = None,
    cores: int | None = None,
) -> Predictor:
    """Open a package (a folder or a `.ship` file) for use.

    The package is audited whole, and its encoders are opened; then each variant in the package's order that may and can
    run here is opened, and must reproduce the golden answers; the first that does is warmed and taken. `variant` allows
    only that one. `point` is used instead of the best measured operating point that fits into `cores`, by default
    all of the host. Raises TamperedPackage, UnknownFormat
    or PackageError where the package is refused, and NoUsableVariant, with the reason of each, where none serves."""
    package = read_package(path)
    try:
        codec = open_codec(package.contract, package.root, str(package.path))
        with blocks_apart():
            host = this_host()
            return _first_ready(package, codec, host, allow_code, variant, point, version, cores or host.cores)
    except BaseException:
        package.close()
        give_back()
        raise


def _first_ready(
    package: Package,
    codec: Codec,
    host: Host,
    allow_code: bool,
    wanted: str | None,
    point: OperatingPoint | None,
    version: str | None,
    cores: int,
) -> Predictor:
    passed: list[tuple[str, str]] = []
    for variant in _wanted(package, wanted):
        reason = obstacle(variant, host, allow_code=allow_code)
        if reason is None:
            try:
                return _ready(package, codec, variant, point or best_point(variant, cores), passed, version)
            except ShipworthyError as error:
                reason = str(error)
        passed.append((variant.id, reason))
    raise none_usable(package, passed)


def _wanted(package: Package, wanted: str | None) -> tuple[Variant, ...]:
    variants = package.manifest.variants
    if wanted is None:
        return variants
    found = tuple(variant for variant in variants if variant.id == wanted)
    if not found:
        ids = ", ".join(variant.id for variant in variants)
        raise NoUsableVariant(str(package.path), f"has no variant {wanted!r}", f"the variants are {ids}")
    return found


def _ready(
    package: Package,
    codec: Codec,
    variant: Variant,
    point: OperatingPoint,
    passed: list[tuple[str, str]],
    version: str | None,
) -> Predictor:
    runner = open_runner(artifact_of(package, variant), point)
    try:
        replay(runner, variant, package.golden)
        predictor = Predictor(package, variant, runner, point=point, passed_over=passed, version=version, codec=codec)
        warm(predictor)
        predictor.mixes = predictor.mixes and _apart(predictor)
        if predictor.padding is not None:
            prove_padding(runner, variant, package.golden, predictor.padding)
    except BaseException:
        runner.close()
        raise
    return predictor


def warm(predictor: Predictor) -> None:
    """Run every measured batch size once on every stream, so that no caller waits for an engine's first touch of it.

    Raises EngineError where the engine fails or gives other outputs than the contract names."""
    with Streams(predictor.run, predictor.point.streams) as streams:
        for size in predictor.batch_sizes:
            for outputs in streams.each(_rows(predictor, size)):
                if set(outputs) != set(predictor.contract.outputs):
                    raise EngineError(
                        predictor.variant.id, f"gives the outputs {sorted(outputs)}", "build the package again"
                    )


def _apart(predictor: Predictor) -> bool:
    """Whether rows do not show in each other's answers, seen in a batch of a few."""
    several = [size for size in predictor.batch_sizes if size > 1]
    if not several:
        return True
    size = max((size for size in several if size <= ENOUGH), default=several[0])
    return rows_are_independent(predictor.run, predictor.package.golden, size)


def calibrate(predictor: Predictor) -> dict[int, float]:
    """Measure seconds by batch size on this host, in about 0.3 s, while nothing else runs; kept as `costs`.

    All streams of the operating point are busy at once, as when a server is. Sizes for which the time does not suffice
    have what the package states, times how far off that was for the largest size that was measured."""
    batches = {size: _rows(predictor, size) for size in predictor.batch_sizes}
    with Streams(predictor.run, predictor.point.streams) as streams:
        predictor.costs = measured_costs(predictor, streams, batches)
    return predictor.costs


def _rows(predictor: Predictor, size: int) -> dict[str, Array]:
    """So many rows of the first golden case, over and over."""
    case = predictor.package.golden.cases[0]
    return {name: np.resize(array, (size, *array.shape[1:])) for name, array in case.inputs.items()}
