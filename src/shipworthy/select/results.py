"""What each stage of a trial leaves in the store."""

from __future__ import annotations

from pathlib import Path

from pydantic import Field

from ..contract import Strict
from ..evidence import Compression, Finding, LatencyPoint, MetricEvidence, Parity, Speed, ThroughputPoint
from ..measure import ExportReply, ModelSource
from ..runtime.protocol import Kernel, OperatingPoint


class Refusal(Strict):
    """Why a candidate is rejected, and by which gate."""

    gate: str
    reason: str

    @property
    def is_of_the_host(self) -> bool:
        """Whether another try may end otherwise: memory, time, a kill from outside. A crash of its own stays one."""
        return self.gate in ("memory", "hang", "budget") or (self.gate == "crash" and "SIGKILL" in self.reason)


class Stage(Strict):
    """A stage that ended, with its result or with what ended it."""

    refusal: Refusal | None = None
    """An export that failed, a crash, a hang, a blown memory cap; nothing that a limit of the contract decides."""
    seconds: float = 0.0


class Checked(Stage):
    findings: tuple[Finding, ...] = ()
    skipped: tuple[str, ...] = ()


class Shaped(Stage):
    """What a recipe made of the module, once for all engines."""

    key: str = ""
    """Names it in what is derived from it."""
    source: ModelSource | None = None
    compression: Compression | None = None
    findings: tuple[Finding, ...] = ()


class Exported(Stage):
    reply: ExportReply | None = None
    size_mb: float = 0.0
    zipped_mb: float | None = None
    """Of the files, each deflated; None where it is not the objective."""


class Operators(Stage):
    """What operations of a graph take."""

    costs: dict[str, float] = Field(default_factory=dict)
    """Microseconds of a run, by the operation's name."""


class Quality(Stage):
    """What the answers are worth."""

    parity: tuple[Parity, ...] = ()
    tolerance: dict[str, float] = Field(default_factory=dict)
    misfit: str | None = None
    """Outputs that cannot be compared with eager's: missing, of another shape or dtype, NaN."""
    too_far: str | None = None
    """Values too far from eager's, by the gate of the precision."""
    kernels: tuple[Kernel, ...] = ()
    metric: MetricEvidence | None = None


class Pace(Stage):
    """How fast it answers."""

    latency: tuple[LatencyPoint, ...] = ()
    throughput: tuple[ThroughputPoint, ...] = ()
    best: OperatingPoint | None = None
    """None where every point exceeds the limit of the latency."""
    closest: ThroughputPoint | None = None
    """Then the point with the lowest p99 of those that were raced; None where the p50 of all exceeds the limit."""
    closest_runs: int = 0
    """How many runs the p99 of that point is of."""
    speed: tuple[Speed, ...] = ()
    load_s: float | None = None
    rss_mb: float | None = None
    device_mb: float | None = None
    """Of a GPU."""
    hurried: bool = False
    """A budget left the race fewer rounds than there would have been."""


class Proof(Stage):
    """The metric on the holdout, with its bound."""

    metric: MetricEvidence | None = None


class Referenced(Stage):
    """A variant's signals on the holdout, without what the contract's limits decide."""

    file: Path | None = None


class Playoff(Stage):
    """The finalists against each other: the ratio of each one's speed to every other's."""

    speed: dict[str, tuple[Speed, ...]] = Field(default_factory=dict)
    hurried: bool = False
