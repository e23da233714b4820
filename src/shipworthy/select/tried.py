"""A candidate with all that is known of it."""

from __future__ import annotations

from dataclasses import dataclass, field

from ..evidence import Candidate, CandidateResult, Compression, Evidence
from .contest import Rival
from .results import Exported, Pace, Proof, Quality, Refusal
from .way import Way, artifact_of


@dataclass(frozen=True, slots=True)
class Tried:
    """A candidate with the stages that it reached, and what refused it, if anything did."""

    candidate: Candidate
    way: Way
    exported: Exported
    quality: Quality = field(default_factory=Quality)
    pace: Pace = field(default_factory=Pace)
    proof: Proof = field(default_factory=Proof)
    refusal: Refusal | None = None

    @property
    def seconds(self) -> float:
        return sum(stage.seconds for stage in (self.exported, self.quality, self.pace, self.proof))

    @property
    def compression(self) -> tuple[Compression, ...]:
        """What each step of its recipe did."""
        shaping = None if self.way.shaped is None else self.way.shaped.compression
        quantization = None if self.exported.reply is None else self.exported.reply.compression
        return tuple(step for step in (shaping, self.way.base_report, quantization) if step is not None)

    def rival(self) -> Rival | None:
        """It as something that others are compared with; None where it was not measured."""
        if self.pace.best is None:
            return None
        exported = self.exported
        return Rival(self.candidate.id, artifact_of(exported), exported.size_mb, exported.zipped_mb, self.pace.best)

    def evidence(self) -> Evidence:
        metrics = (self.quality.metric, self.proof.metric)
        return Evidence(
            parity=self.quality.parity,
            tolerance=self.quality.tolerance,
            metrics=tuple(metric for metric in metrics if metric is not None),
            latency=self.pace.latency,
            throughput=self.pace.throughput,
            best=self.pace.best,
            speed=self.pace.speed,
            load_s=self.pace.load_s,
            rss_mb=self.pace.rss_mb,
            device_mb=self.pace.device_mb,
            size_mb=self.exported.size_mb if self.exported.reply else None,
            zipped_mb=self.exported.zipped_mb if self.exported.reply else None,
            kernels=self.quality.kernels,
        )


Outcome = Tried | CandidateResult
"""Tried, or skipped: then a row that says why."""
