"""The verb: a module, a contract or a package in, a report of where the time goes out."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

from ..errors import ModelError, ShipworthyError
from ..package import Package, read_package
from ..runtime import this_host
from .engines import profile_exports, profile_package, wanted_engines
from .report import ProfileReport
from .subject import ContractLike, Model, device_for, is_package, subject_of


def profile(
    subject: Model | ContractLike | Package,
    contract: ContractLike | None = None,
    *,
    batch: int | None = None,
    steps: int = 10,
    device: str | None = None,
    engines: Sequence[str] | None = None,
    data: object = None,
    trace: str | Path | None = None,
    seconds: float = 1.0,
    mend: bool = False,
) -> ProfileReport:
    """Where one run of a model spends its time and its memory.

    `subject`: a live module followed by its contract, a contract (or the path of one) that names the model, or a
    package (or its path), of which the variants' engines are timed and nothing needs torch.

    PyTorch runs `steps` times under torch.profiler at `batch` (8 where that fits) on `device` (the contract's
    target): operations with shapes, memory and FLOPs; `record_function` regions of the forward's own; modules. `trace`
    is where a Chrome trace file is written. Each of `engines` (OpenVINO and ONNX Runtime where they are installed; none
    for an empty sequence) runs an fp32 export of the model for `seconds` at the target's threads, on the processor.
    `data`, all that a data set may be made of, or the contract's validation data gives the samples that are fed;
    without any they are seeded numbers. `mend` takes known prefixes off the keys of the weights.

    Raises ContractError, DataError, ModelError or WeightsError for what was given, EngineError for an engine that is
    none or cannot tell, PackageError for a package that is not whole, MissingExtra for what is not installed."""
    chosen = wanted_engines(engines)
    if steps < 1:
        raise ShipworthyError("steps", f"{steps} runs show nothing", "profile at least one")
    place = None if trace is None else _place(Path(trace))
    if is_package(subject):
        if place is not None:
            raise ModelError(str(trace), "a package has no PyTorch module to trace", "profile its contract instead")
        if device not in (None, "cpu"):
            raise ShipworthyError("device", f"a package's nodes are not timed on {device}", "use cpu, or its contract")
        return _package(subject, chosen, batch, seconds)  # type: ignore[arg-type]
    found = subject_of(subject, contract, data, batch, outputs=bool(chosen), mend=mend)  # type: ignore[arg-type]
    eager = None
    if found.model.module is not None:
        from .eager import profile_eager

        eager = profile_eager(found, steps, device_for(device, found.contract), place)
    elif place is not None:
        raise ModelError(str(trace), "an .onnx file has no PyTorch module to trace", "leave the trace out")
    timed, untold = profile_exports(found, chosen, seconds)
    return ProfileReport(
        name=found.contract.name,
        created=_now(),
        host=this_host().cpu,
        torch=eager,
        engines=timed,
        untold=untold,
        trace=None if place is None else str(trace),
    )


def _package(subject: Package | str | Path, engines: Sequence[str], batch: int | None, seconds: float) -> ProfileReport:
    if not isinstance(subject, Package):
        with read_package(subject) as package:
            return _package(package, engines, batch, seconds)
    timed, untold = profile_package(subject, engines, batch, seconds)
    name = subject.manifest.name
    return ProfileReport(name=name, created=_now(), host=this_host().cpu, engines=timed, untold=untold)


def _place(path: Path) -> Path:
    """Found wrong before the work, not after it."""
    if not path.parent.is_dir():
        raise ShipworthyError(str(path), f"there is no folder {path.parent}", f"make it first: mkdir -p {path.parent}")
    if path.is_dir():
        raise ShipworthyError(str(path), "is a folder", "give the name of a file")
    return path.resolve()


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")
