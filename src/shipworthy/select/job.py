"""What a build knows before its first candidate: the model, the data, the probes, and what all of it is called."""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Mapping, Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
from pydantic import ValidationError

from ..contract import Array, Arrays, Contract
from ..contract.spec import SearchSpec
from ..data import Dataset, Splits, load_splits, probes
from ..errors import ContractError, MissingExtra, ModelError
from ..evidence import Environment, Finding
from ..exporters import oracle_engine
from ..measure import ModelSource, written
from ..model import LoadedModel, from_module, infer_outputs, load_model, run_eager
from ..model.run import to_numpy
from ..quality import metric_for
from ..runtime import ENGINES, engine_version, this_host
from .bench import Effort, Job
from .fingerprint import Fingerprint, fingerprint, imported_digest
from .identity import arrays_digest, code_digest, data_digest, digest, outputs_digest

if TYPE_CHECKING:
    from torch import nn
    from torch.export import ExportedProgram

Model: TypeAlias = "nn.Module | ExportedProgram | LoadedModel"

_NEEDED = ("torch", "scipy", "psutil", "cloudpickle")
_REAL_ROWS = 8
"""Real samples that are one more probe, and so a golden case."""


def prepare(
    model: Model | Contract | str | Path,
    contract: Contract | Mapping[str, Any] | str | Path | None,
    data: Mapping[str, object],
    *,
    work: Path | None,
    mend: bool,
    effort: Effort,
    budget: str | None = None,
) -> tuple[Job, Path]:
    """Load model and data, run the model for its outputs and the probes; the job, and the folder to work in."""
    for module in _NEEDED:
        if importlib.util.find_spec(module) is None:
            raise MissingExtra("a build", module, "build")
    loaded, spec, live = _subject(model, contract, mend=mend)
    spec = spec.model_copy(update={"root": spec.root.resolve(), "search": _within(spec.search, budget)})
    splits = load_splits(spec, **data)
    tries = _probes(spec, splits)
    spec = infer_outputs(loaded, spec, *tries)
    folder = (work or spec.root / ".shipworthy" / spec.name).resolve()
    told = fingerprint(loaded, spec)
    identity = _identity(loaded, spec, splits, tries, effort) | {"model": told.digest}
    metric = _metric(spec, splits)
    judged = _metric_code(spec)
    job = Job(
        contract=spec,
        source=_source(loaded, spec, folder / "model", told.digest, live=live, mend=mend),
        oracle=oracle_engine(loaded),
        splits=splits,
        probes=tries,
        metric=metric,
        identity=identity | {"metric": [spec.data.metric, None if judged is None else judged.digest]},
        findings=_unstable((*told.unstable, *(() if judged is None else judged.unstable))),
    )
    return job, folder


def _within(search: SearchSpec, budget: str | None) -> SearchSpec:
    if budget is None:
        return search
    try:
        return SearchSpec(**{**search.model_dump(), "budget": budget})
    except ValidationError as error:
        raise ContractError("budget", f"{budget!r} is no time", "write for example 90s, 10min or 1.5h") from error


def _subject(
    model: Model | Contract | str | Path, contract: Contract | Mapping[str, Any] | str | Path | None, *, mend: bool
) -> tuple[LoadedModel, Contract, bool]:
    """The model, its contract, and whether the model is live: then no contract can give it again."""
    if contract is None:
        if not isinstance(model, Contract | str | Path):
            raise ContractError("build", "a live module needs a contract", "give build(module, contract)")
        spec = read(model)
        return load_model(spec, mend=mend), spec, False
    spec = read(contract)
    if isinstance(model, LoadedModel):
        return model, spec, True
    if isinstance(model, Contract | str | Path):
        raise ModelError("build", f"expected an nn.Module before the contract, got a {type(model).__name__}")
    return from_module(model, spec), spec, True  # type: ignore[arg-type]


def read(contract: Contract | Mapping[str, Any] | str | Path) -> Contract:
    """A contract from whatever says what it is: itself, a mapping, a path."""
    from ..contract import parse_contract, read_contract

    if isinstance(contract, Contract):
        return contract
    return read_contract(Path(contract)) if isinstance(contract, str | Path) else parse_contract(contract)


def _probes(contract: Contract, splits: Splits) -> tuple[Arrays, ...]:
    data = splits.validation or splits.calibration
    tries: tuple[Arrays, ...] = probes(contract, data, contract.search.seed)
    batch = next(iter(contract.signature.dynamic()))
    if data is None or not len(data) or not batch.holds(_REAL_ROWS):
        return tries
    chunk = max(data.chunks, key=len)
    if len(chunk) < _REAL_ROWS:
        return tries
    rows = np.random.default_rng(contract.search.seed).choice(len(chunk), _REAL_ROWS, replace=False)
    real: dict[str, Array] = {name: np.ascontiguousarray(array[np.sort(rows)]) for name, array in chunk.inputs.items()}
    # Before the last: the first and the last differ in every dynamic dimension.
    return (*tries[:-1], real, tries[-1])


def _metric(contract: Contract, splits: Splits) -> Any:
    """None where there is nothing to measure it on."""
    metric = metric_for(contract)
    given: list[Dataset] = [data for data in (splits.validation, splits.holdout) if data is not None]
    if metric is None or not given:
        return None
    has_targets = all(chunk.targets is not None for data in given for chunk in data.chunks)
    return metric if has_targets or metric.against_eager else None


def _metric_code(contract: Contract) -> Fingerprint | None:
    """Of a metric of the user's own; it is imported by now."""
    name = contract.data.metric
    return None if name is None or ":" not in name else imported_digest(name, contract.root)


def _unstable(parts: Sequence[str]) -> tuple[Finding, ...]:
    if not parts:
        return ()
    finding = Finding(
        rule="not-resumable",
        severity="note",
        where=", ".join(parts[:3]),
        why="it cannot be told whether this is what an earlier build measured, so every build measures all anew",
        remedy="keep open files, locks and the like out of what the model holds",
    )
    return (finding,)


def _source(model: LoadedModel, contract: Contract, folder: Path, name: str, *, live: bool, mend: bool) -> ModelSource:
    """How worker processes come by the model. What a factory makes without weights, they get as this process has it:
    a factory may draw other weights each time."""
    named = ModelSource(contract=contract, root=contract.root, mend=mend)
    if live:
        return written(model, contract, folder, name)
    if not (":" in str(contract.model) and contract.weights is None) and contract.task.post is None:
        return named
    try:
        return written(model, contract, folder, name)
    except ModelError as error:
        again = load_model(contract, mend=mend)
        if again.module is None or model.module is None or _weights(again.module) == _weights(model.module):
            return named
        raise ModelError(
            str(contract.model), "the factory builds other weights each time", "name weights or seed it"
        ) from error


def _weights(module: nn.Module) -> str:
    tensors = (*module.named_parameters(), *module.named_buffers())
    return arrays_digest({name: to_numpy(tensor)} for name, tensor in tensors)


def tidy(source: ModelSource, folder: Path) -> None:
    """Remove the models of earlier builds; only the build that holds the folder may."""
    kept = None if source.pickle is None else source.pickle.stem
    for file in (folder / "model").glob("model-*"):
        if file.stem != kept:
            file.unlink(missing_ok=True)


def _identity(
    model: LoadedModel, contract: Contract, splits: Splits, tries: Sequence[Arrays], effort: Effort
) -> dict[str, object]:
    """Limits and the search are left out: they judge what was measured. A race that a budget cut short says so."""
    parts = contract.model_dump(mode="json", include={"name", "inputs", "outputs", "task", "target"})
    host = this_host()
    return {
        "contract": parts,
        "p99_ms": contract.limits.p99_ms,
        "seed": contract.search.seed,
        "answers": outputs_digest(run_eager(model, contract.signature, tries[number]) for number in (0, -1)),
        "python": sys.version,
        "data": {name: data_digest(getattr(splits, name)) for name in ("calibration", "validation", "holdout")},
        "probes": arrays_digest(tries),
        "versions": versions(),
        "code": code_digest(),
        "host": digest([host.arch, host.cpu, sorted(host.isa), host.cores, [repr(gpu) for gpu in host.gpus]]),
        "effort": repr(effort),
    }


def versions() -> dict[str, str]:
    """Of everything that takes part in a measurement, and is installed."""
    found = {name: v for name in ENGINES if (v := engine_version(name)) is not None}
    for distribution in ("shipworthy", "numpy", "onnx", "onnxscript", "nncf", "torchao", "torch-pruning"):
        try:
            found[distribution] = version(distribution)
        except PackageNotFoundError:
            continue
    return dict(sorted(found.items()))


def environment() -> Environment:
    host = this_host()
    facts = {
        "cpu": host.cpu,
        "arch": host.arch,
        "isa": ", ".join(sorted(host.isa)),
        "cores": str(host.cores),
        "memory": f"{host.memory / 1e9:.1f} GB",
        "os": host.os,
        "python": host.python,
        "devices": ", ".join(host.devices),
    }
    return Environment(host=facts, versions=versions())
