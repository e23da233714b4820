"""What was found and measured of a model: findings, evidence, verdicts. Written by the build, kept in the package."""

from __future__ import annotations

from typing import Literal, TypeAlias

from pydantic import Field

from .contract import Strict
from .contract.spec import Objective, Precision
from .runtime.protocol import Kernel, OperatingPoint

Severity: TypeAlias = Literal["error", "warning", "note"]


class Finding(Strict):
    """One thing that there is to say of a model, its data, or an export of it."""

    rule: str
    """Stable name, such as `train-mode`."""
    severity: Severity
    where: str
    """Module path, file, input or tensor."""
    why: str
    remedy: str


class Parity(Strict):
    """How far one output of a candidate is from eager fp32, over all probes."""

    output: str
    max_abs: float
    max_rel: float
    """max|Δ| / max|y|."""
    cosine: float
    sqnr_db: float
    """10 log10(Σ y² / Σ Δ²); inf is written as 999."""
    top1_agreement: float | None = None
    worst_shape: tuple[int, ...]
    """Shape of the probe's first input with the largest max|Δ|."""


class MetricEvidence(Strict):
    """A paired comparison with eager fp32 on one split. The metric is higher-is-better."""

    name: str
    split: Literal["validation", "holdout"]
    samples: int
    eager: float
    candidate: float
    drop: float
    """eager - candidate, as observed."""
    drop_upper: float | None = None
    """Upper confidence bound of the drop."""
    confidence: float | None = None
    """Of that bound, after the correction for the number of finalists."""
    method: str | None = None
    samples_needed: int | None = None
    """How many samples would prove the limit, where these do not and more could."""
    per_class: dict[str, float] = Field(default_factory=dict)
    """Observed drop of each class' recall."""


class LatencyPoint(Strict):
    """One stream, one batch size: times of single runs."""

    batch: int
    p50_ms: float
    p99_ms: float
    runs: int


class ThroughputPoint(Strict):
    """A closed loop with streams × batch instances in flight."""

    point: OperatingPoint
    items_per_s: float
    p50_ms: float
    p99_ms: float


class Speed(Strict):
    """A paired comparison over interleaved rounds: ratio > 1 says that the candidate is faster than `against`."""

    against: str
    objective: Objective
    ratio: float
    """Geometric mean over the rounds."""
    lower: float
    """One-sided 95 % lower bound."""
    upper: float
    rounds: int


class ReferenceEvidence(Strict):
    """What live data is compared with in production."""

    samples: int
    signals: int
    """How many are computed of each answer and what was asked."""
    scored: int
    """Those of them that the sequential detector bets on."""
    fitted_on: Literal["calibration", "validation", "holdout"]
    """Where the constants of the signals come from; of the holdout it is a half that is not in the reference."""
    fitted: int
    """Samples of that."""
    level: float | None = None
    """The least that the metric may be in production; None where no labels were at hand."""


class Evidence(Strict):
    """All that was measured of a candidate; what was not reached is None or empty."""

    parity: tuple[Parity, ...] = ()
    tolerance: dict[str, float] = Field(default_factory=dict)
    """Golden tolerance (absolute) per output: 4 × the error seen at build."""
    metrics: tuple[MetricEvidence, ...] = ()
    latency: tuple[LatencyPoint, ...] = ()
    throughput: tuple[ThroughputPoint, ...] = ()
    best: OperatingPoint | None = None
    speed: tuple[Speed, ...] = ()
    load_s: float | None = None
    rss_mb: float | None = None
    """Peak of the process that ran only this candidate, 10^6 bytes."""
    device_mb: float | None = None
    """Peak of its memory on the GPU, 10^6 bytes; None on the CPU."""
    size_mb: float | None = None
    """Of the graph's files, 10^6 bytes."""
    zipped_mb: float | None = None
    """Of the same files, each deflated."""
    kernels: tuple[Kernel, ...] = ()
    reference: ReferenceEvidence | None = None
    """None where the candidate was not packed, or no data was held out."""


class QuantizedOperation(Strict):
    """One operation that could run in int8, and what became of it."""

    name: str
    """Of the operation in the engine's graph."""
    op: str
    """Its type there, such as `Convolution` or `MatMul`."""
    precision: str
    """int8, or the precision that it was kept in."""
    sqnr_db: float | None = None
    """Of its output when only its own inputs and weights are quantized; None where it was not measured."""
    reason: str = ""
    """Why it was kept in float; empty where it is int8."""


class PrunedLayer(Strict):
    """One layer's mask, or the channels that it lost."""

    name: str
    kind: str
    """Type of the layer, such as `Conv2d`."""
    mask_shape: tuple[int, ...]
    """Shape of the weight before."""
    zeros: int
    """Weights that were removed or set to zero."""
    ones: int
    """Weights that are left."""
    neurons_kept: int
    """Output channels with any weight left."""
    neurons_pruned: int
    sensitivity: float | None = None
    """Loss of the metric, or relative error of the output where there is none, when only this group is pruned."""

    @property
    def sparsity(self) -> float:
        return self.zeros / max(1, self.zeros + self.ones)


class Epoch(Strict):
    """One pass over the training data."""

    number: int
    loss: float
    """Mean over the samples."""
    validation: float | None = None
    """The metric on data that was not trained on, higher is better."""
    seconds: float


class Compression(Strict):
    """What a recipe did to a model."""

    recipe: str
    """Such as `static`, `prune30`, `distill`."""
    parameters_before: int
    parameters_after: int
    """For unstructured pruning those that are not zero."""
    bytes_before: int
    """Of the parameters and buffers, or of the graph's files for a quantized graph."""
    bytes_after: int
    macs_before: int | None = None
    """Multiply-accumulate operations of one sample, counted."""
    macs_after: int | None = None
    mean_abs_diff: dict[str, float] = Field(default_factory=dict)
    """mean|Δ| of each output against the model before, over real samples where there are any, else probes."""
    samples: int | None = None
    """Calibration or training samples that were used."""
    operations: tuple[QuantizedOperation, ...] = ()
    layers: tuple[PrunedLayer, ...] = ()
    epochs: tuple[Epoch, ...] = ()
    notes: tuple[str, ...] = ()
    """What was chosen and why, in a sentence each: schemes, ranges, samples, comparisons."""

    @property
    def ratio(self) -> float:
        """How many times smaller in bytes."""
        return self.bytes_before / max(1, self.bytes_after)


class Candidate(Strict):
    """A recipe on an engine in a precision."""

    recipe: str = "plain"
    engine: str
    precision: Precision

    @property
    def id(self) -> str:
        """`openvino-int8`, `prune30+onnxruntime-fp32`."""
        base = f"{self.engine}-{self.precision}"
        return base if self.recipe == "plain" else f"{self.recipe}+{base}"


class CandidateResult(Strict):
    """A candidate with its verdict, its reason and the evidence for it."""

    candidate: Candidate
    verdict: Literal["baseline", "chosen", "accepted", "rejected", "skipped"]
    reason: str
    gate: str | None = None
    """What rejected it: export, load, parity, kernels, metric, limits, speed, crash, hang, memory."""
    evidence: Evidence = Evidence()
    compression: tuple[Compression, ...] = ()
    """One for each step of its recipe, in order."""
    findings: tuple[Finding, ...] = ()
    seconds: float = 0.0
    """Time spent on it."""


class Environment(Strict):
    """The host and the versions that the measurements were made with."""

    host: dict[str, str]
    versions: dict[str, str]


class BuildRecord(Strict):
    """A whole build: what evidence.json holds, and what the report shows."""

    name: str
    contract_digest: str
    created: str
    """UTC, ISO 8601."""
    environment: Environment
    findings: tuple[Finding, ...] = ()
    """From check and from the data."""
    results: tuple[CandidateResult, ...]
    """Every candidate, accepted or not; the baseline (eager fp32) first."""
    chosen: str | None = None
    """Id of the chosen candidate; None where none meets the contract."""
    why: str = ""
    """The reasons of the choice, in a sentence or two."""
    pareto: tuple[str, ...] = ()
    """Ids of the candidates that no other beats on accuracy, speed and size at once."""
    seconds: float = 0.0
    skipped: tuple[str, ...] = ()
    """What was not tried, and why."""
