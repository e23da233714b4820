"""What a build and its worker processes say to each other: one JSON object per line, a command and then its reply."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal, TypeAlias

from pydantic import Field, TypeAdapter

from ..compress.methods import GraphQuantization, Reshaping
from ..contract import Contract, Strict
from ..contract.spec import Precision
from ..evidence import Compression, Finding
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


class QuantizeGraph(Strict):
    """Turn the model, or the engine's graph of it in fp32, into a graph in int8, in `directory`."""

    do: Literal["quantize"] = "quantize"
    source: ModelSource
    engine: str
    method: GraphQuantization
    directory: Path
    probes: Path
    base: Artifact | None = None
    """The engine's graph in fp32; without it, it is exported first."""
    calibration: Path | None = None
    """A data set."""
    validation: Path | None = None
    """A data set, with which the drop of the metric is measured where the method asks for it."""
    oracle: ModelSource | None = None
    """What the drop is measured against, where that is another model than `source`."""


class ShapeModel(Strict):
    """Prune or distill the model, or train it with fake quantization."""

    do: Literal["shape"] = "shape"
    source: ModelSource
    method: Reshaping
    train: Path | None = None
    calibration: Path | None = None
    validation: Path | None = None
    directory: Path
    """For the new model, and for the checkpoint that an interrupted training takes up from."""


class ShapeReply(Strict):
    source: ModelSource
    compression: Compression
    findings: tuple[Finding, ...] = ()


class ExportReply(Strict):
    artifact: Artifact
    compression: Compression | None = None
    """What a quantization did."""
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


class TimeOperators(Strict):
    """Time operations of a graph in runs of one case."""

    do: Literal["operators"] = "operators"
    artifact: Artifact
    point: OperatingPoint
    feeds: Path
    case: str
    seconds: float
    operations: tuple[str, ...]


class OperatorsReply(Strict):
    costs: dict[str, float]
    """Microseconds of a run that each operation takes with what only prepares values for it; one that no node
    computes is not there."""


class ReadMemory(Strict):
    do: Literal["memory"] = "memory"


class DeviceMemory(Strict):
    """Of a process on its GPU, in 10^6 bytes. The driver's own context is not counted."""

    allocated_mb: float
    """In tensors now, and in weights that the engine holds past torch's allocator."""
    reserved_mb: float
    """Taken from the device now: the same with what torch keeps for later, captured graphs included."""
    peak_mb: float
    """The most that was allocated."""


class MemoryReply(Strict):
    peak_mb: float
    """Resident memory on the host."""
    device: DeviceMemory | None = None
    """None where nothing ran on a GPU."""


class TimeDevice(Strict):
    """How long the device computes in each of `runs` of one case."""

    do: Literal["device"] = "device"
    case: str
    runs: int = 20


class DeviceTimeReply(Strict):
    times: tuple[float, ...] | None
    """Seconds, by the device's own events; None where the graph runs on the CPU."""


class Leave(Strict):
    do: Literal["leave"] = "leave"


class Done(Strict):
    """The reply where there is nothing to say."""


Making: TypeAlias = ExportModel | QuantizeGraph | ShapeModel | CheckModel
"""What may take as long as a compiler or a training takes."""
Measuring: TypeAlias = OpenGraph | RunCases | ReadKernels | TimeLoop | TimeOperators | TimeDevice | ReadMemory | Leave
Command: TypeAlias = Making | Measuring
Reply: TypeAlias = (
    ExportReply
    | ShapeReply
    | CheckReply
    | OpenReply
    | KernelsReply
    | TimeReply
    | OperatorsReply
    | DeviceTimeReply
    | MemoryReply
    | Done
)

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
    """One line from the worker: what it is doing, and at the end a failure, or the reply's JSON."""

    told: str | None = None
    """How far it is; more lines follow."""
    failure: Failure | None = None
    reply: str = ""
