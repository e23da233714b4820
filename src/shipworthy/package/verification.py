"""The proof that a package is whole, and that it answers here as it did when it was built."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path

from ..errors import GoldenMismatch, ShipworthyError
from ..runtime import Artifact, Host, open_runner, this_host
from ..runtime.protocol import OperatingPoint
from ..signals import read_reference, watch
from .choice import obstacle
from .encoders import open_codec
from .golden import ReplayReport, replay
from .manifest import Variant
from .read import Package, read_package


@dataclass(frozen=True, slots=True)
class VariantVerification:
    """One variant: replayed, or the reason why it was not run here."""

    id: str
    replayed: bool
    detail: str
    max_abs: dict[str, float]
    """Largest |Δ| from the golden answers per output; empty where it was not run."""


@dataclass(frozen=True, slots=True)
class VerifyReport:
    """A package that is whole, with what each variant did."""

    name: str
    path: str
    format: int
    digest: str
    files: int
    size: int
    """Bytes of all members."""
    variants: tuple[VariantVerification, ...]

    def json(self) -> str:
        return json.dumps(asdict(self), indent=2)


def verify(path: str | Path, *, replay: bool = True, allow_code: bool = False) -> VerifyReport:
    """Audit a package, and replay its golden cases with every variant that may and can run here.

    Raises TamperedPackage, UnknownFormat or PackageError where it is not whole or its encoders or references
    cannot be used, and GoldenMismatch, naming each one,
    where variants that should run here do not open or do not reproduce the golden answers."""
    with read_package(path) as package:
        if replay:
            open_codec(package.contract, package.root, str(path))
        _check_references(package)
        host = this_host()
        failed: list[str] = []
        rows = [_row(package, variant, host, replay, allow_code, failed) for variant in package.manifest.variants]
        if failed:
            raise GoldenMismatch(
                str(path), "; ".join(failed), "serve another variant here, or build the package on this host"
            )
        manifest = package.manifest
        return VerifyReport(
            manifest.name,
            str(path),
            manifest.format,
            package.digest,
            len(manifest.files) + 2,
            package.size,
            tuple(rows),
        )


def _check_references(package: Package) -> None:
    """What a monitor would open."""
    for variant in package.manifest.variants:
        file = package.reference(variant.id)
        if file is not None:
            where = f"{package.path}/{file.relative_to(package.root).as_posix()}"
            watch(package.contract, read_reference(file, where), where)


def _row(
    package: Package, variant: Variant, host: Host, wanted: bool, allow_code: bool, failed: list[str]
) -> VariantVerification:
    reason = obstacle(variant, host, allow_code=allow_code)
    if reason is None and not wanted:
        reason = "can run here; not replayed, as asked"
    if reason is not None:
        return VariantVerification(variant.id, False, reason, {})
    try:
        report = _replay(package, variant, host)
    except ShipworthyError as error:
        failed.append(f"{variant.id}: {error}")
        return VariantVerification(variant.id, False, str(error), {})
    worst = max(report.max_abs.values(), default=0.0)
    detail = f"{report.cases} golden cases, off by at most {worst:.2g}"
    return VariantVerification(variant.id, True, detail, report.max_abs)


def _replay(package: Package, variant: Variant, host: Host) -> ReplayReport:
    runner = open_runner(artifact_of(package, variant), best_point(variant, host.cores))
    try:
        return replay(runner, variant, package.golden)
    finally:
        runner.close()


def artifact_of(package: Package, variant: Variant) -> Artifact:
    """The graph of a variant, as the runtime opens it."""
    return Artifact(
        engine=variant.requires.engine,
        precision=variant.precision,
        directory=package.root / variant.directory,
        signature=package.manifest.signature,
        device=variant.requires.device,
    )


def best_point(variant: Variant, cores: int) -> OperatingPoint:
    """The best measured operating point that uses no more than `cores`; else the best one, with fewer threads."""
    points = variant.points or (OperatingPoint(),)
    fits = next((point for point in points if max(point.threads, point.streams) <= cores), None)
    if fits is not None:
        return fits
    best = points[0]
    return OperatingPoint(streams=min(best.streams, cores), threads=min(best.threads, cores), batch=best.batch)
