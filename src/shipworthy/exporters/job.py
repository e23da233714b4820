"""What an exporter is given."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from ..contract import Array, Arrays, Contract, Dim, Signature
from ..contract.spec import Precision
from ..errors import ExportError, ShipworthyError
from ..evidence import Finding
from ..model.loaded import LoadedModel
from ..model.run import run_eager
from ..runtime import Artifact


@dataclass(frozen=True, slots=True)
class Case:
    """Feeds and what eager fp32 answers."""

    feeds: dict[str, Array]
    outputs: dict[str, Array]


@dataclass(frozen=True, slots=True)
class Job:
    """One export: the model, what its graph must be, where it goes, and the cases that it is compared on."""

    model: LoadedModel
    contract: Contract
    engine: str
    precision: Precision
    directory: Path
    cases: tuple[Case, ...]

    @property
    def signature(self) -> Signature:
        return self.contract.signature

    @property
    def artifact(self) -> Artifact:
        return Artifact(self.engine, self.precision, self.directory, self.signature, self.contract.target.device)

    @property
    def example(self) -> dict[str, Array]:
        """Feeds to trace with: of every dynamic dimension at least 2, because an exporter takes a 1 for a constant."""
        return enlarged(self.signature, self.cases[0].feeds)

    def within(self, directory: Path) -> Job:
        return replace(self, directory=directory)

    def as_precision(self, precision: Precision) -> Job:
        return replace(self, precision=precision)


TRACE_FROZE = "trace-froze-branch"
"""Rule of a finding: a trace answers otherwise than eager, because it took one side of a branch."""
MAY_FREEZE = "trace-may-freeze"
"""Rule of a finding: a trace took one side of a branch, and no probe has shown a difference."""


class NoProgramError(ExportError):
    """torch.export does not take the model: whatever starts from an ExportedProgram is closed."""


@dataclass(frozen=True, slots=True)
class Done:
    """How a graph was made, and what there is to say of it."""

    route: str
    findings: tuple[Finding, ...] = ()


def cases_of(model: LoadedModel, signature: Signature, probes: tuple[Arrays, ...]) -> tuple[Case, ...]:
    """Every probe, and variants that take the other side of a branch on a sign or a size of values.

    Variants stand in only where eager takes them and all its answers are finite: they are no data of the user's."""
    cases = [_case(model, signature, probe) for probe in probes]
    for variant in _variants(signature, probes[:2]):
        try:
            case = _case(model, signature, variant)
        except (RuntimeError, ValueError, ArithmeticError, LookupError, AssertionError, ShipworthyError):
            continue
        if all(np.isfinite(output).all() for output in case.outputs.values()):
            cases.append(case)
    return tuple(cases)


def _case(model: LoadedModel, signature: Signature, feeds: Arrays) -> Case:
    copies = {name: np.array(feeds[name], order="C") for name in signature.inputs}
    return Case(copies, run_eager(model, signature, copies))


def _variants(signature: Signature, probes: tuple[Arrays, ...]) -> Iterator[dict[str, Array]]:
    if not any(spec.dtype.startswith("float") for spec in signature.inputs.values()):
        return
    for probe in probes:
        for factor in (-1, 10):
            yield {
                name: (probe[name] * factor).astype(spec.numpy) if spec.dtype.startswith("float") else probe[name]
                for name, spec in signature.inputs.items()
            }


def enlarged(signature: Signature, feeds: Arrays) -> dict[str, Array]:
    """The feeds with every dynamic dimension of size 0 or 1 repeated to 2, where its bounds allow that."""
    arrays = {name: feeds[name] for name in signature.inputs}
    for name, spec in signature.inputs.items():
        for axis, dim in enumerate(spec.shape):
            if isinstance(dim, Dim) and arrays[name].shape[axis] == 1 and dim.holds(2):
                arrays[name] = np.repeat(arrays[name], 2, axis)
    return arrays
