"""What a build and its worker processes say to each other: one JSON object per line, a command and then its reply."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal, TypeAlias

from pydantic import Field, TypeAdapter

from ..contract import Contract, Strict
from ..contract.spec import Precision
from ..evidence import Finding
from ..runtime.protocol import Artifact, Kernel, OperatingPoint


class ModelSource(Strict):
    """How a worker gets the model: again from the contract, or from a cloudpickle of the live module."""

    contract: Contract
    root: Path
    """The contract's folder, which its JSON leaves out."""
    pickle: Path | None = None
    mend: bool = False

    def rooted(self) -> Contract:
        return self.contract.model_copy(update={"root": self.root})


class ExportModel(Strict):
    """Turn the model into the engine's graph, in `directory`."""

    do: Literal["export"] = "export"
    source: ModelSource
    engine: str
    precision: Precision
    directory: Path
    probes: Path
    """Cases whose inputs the exporter may try."""


class ExportReply(Strict):
    artifact: Artifact
    findings: tuple[Finding, ...] = ()
    arch: str | None = None
    isa: tuple[str, ...] = ()


class CheckModel(Strict):
    """Run the preflight rules."""

    do: Literal["check"] = "check"
    source: ModelSource
    data: Path | None = None
    """Cases of real samples."""


class CheckReply(Strict):
    findings: tuple[Finding, ...]
    skipped: tuple[str, ...] = ()
    """Rules that could not be asked, each with the reason."""


class OpenGraph(Strict):
    """Open a graph, in place of the one that was open, and answer the first case."""

    do: Literal["open"] = "open"
    artifact: Artifact
    point: OperatingPoint = OperatingPoint()
    feeds: Path
    """Cases for the timed loops."""
    cases: tuple[str, ...]
    """The ones to load; the first is answered."""


class OpenReply(Strict):
    load_s: float
    """From the file to the first answer; the engine's own import is not counted."""


class RunCases(Strict):
    """Run every case of a file, and write the outputs under the same names to another."""

    do: Literal["run"] = "run"
    feeds: Path
    outputs: Path


class ReadKernels(Strict):
    do: Literal["kernels"] = "kernels"


class KernelsReply(Strict):
    kernels: tuple[Kernel, ...]


class TimeLoop(Strict):
    """A closed loop of `streams` callers on one loaded case, after a warm-up."""

    do: Literal["time"] = "time"
    case: str
    streams: int = 1
    seconds: float
    least: int = 3
    """Runs of each caller, however long they take."""
    warm_s: float = 0.0
    warm_runs: int = 1


class TimeReply(Strict):
    rate: float
    """Runs per second, of all streams together."""
    times: tuple[float, ...]
    """Of single runs, in seconds."""


class ReadMemory(Strict):
    do: Literal["memory"] = "memory"


class MemoryReply(Strict):
    peak_mb: float


class Leave(Strict):
    do: Literal["leave"] = "leave"


class Done(Strict):
    """The reply where there is nothing to say."""


Command: TypeAlias = ExportModel | CheckModel | OpenGraph | RunCases | ReadKernels | TimeLoop | ReadMemory | Leave
Reply: TypeAlias = ExportReply | CheckReply | OpenReply | KernelsReply | TimeReply | MemoryReply | Done

COMMAND: TypeAdapter[Command] = TypeAdapter(Annotated[Command, Field(discriminator="do")])


class Failure(Strict):
    """An error that a command ended with: the class, if it is one of ours, and its words."""

    error: str
    culprit: str
    reason: str
    remedy: str = ""
    missing: tuple[str, str] | None = None
    """Of a MissingExtra: the module and the extra."""


class Answer(Strict):
    """One line from the worker: a failure, or the reply's JSON."""

    failure: Failure | None = None
    reply: str = ""
