"""The sweep: every candidate through its trial, and what came of it."""

from __future__ import annotations

import time
from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field

from ..errors import MissingExtra
from ..evidence import Candidate, CandidateResult, Evidence
from .bench import Bench
from .candidates import parent, skip
from .contest import Rival
from .judge import judge_pace, judge_quality
from .results import Exported, Pace, Proof, Quality, Refusal
from .store import NotStoredError
from .trial import Trial, artifact_of


@dataclass(frozen=True, slots=True)
class Tried:
    """A candidate with the stages that it reached, and what refused it, if anything did."""

    candidate: Candidate
    exported: Exported
    quality: Quality = field(default_factory=Quality)
    pace: Pace = field(default_factory=Pace)
    proof: Proof = field(default_factory=Proof)
    refusal: Refusal | None = None

    @property
    def seconds(self) -> float:
        return sum(stage.seconds for stage in (self.exported, self.quality, self.pace, self.proof))

    def rival(self) -> Rival | None:
        """It as something that others are compared with; None where it was not measured."""
        if self.pace.best is None:
            return None
        return Rival(self.candidate.id, artifact_of(self.exported), self.exported.size_mb, self.pace.best)

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
            size_mb=self.exported.size_mb if self.exported.reply else None,
            kernels=self.quality.kernels,
        )


@dataclass(frozen=True, slots=True)
class Sweep:
    baseline: Tried
    tried: tuple[Tried, ...]
    skipped: tuple[CandidateResult, ...]


def sweep(bench: Bench, candidates: Sequence[Candidate], baseline: Tried, deadline: float | None) -> Sweep:
    """Try them in order; after `deadline` (of time.monotonic) only those whose stages are all in the store."""
    tried: list[Tried] = []
    skipped: list[CandidateResult] = []
    for candidate in candidates:
        late = deadline is not None and time.monotonic() > deadline
        try:
            with bench.store.finished_only() if late else nullcontext():
                outcome = _try(bench, candidate, baseline, tried)
        except NotStoredError:
            skipped.append(skip(candidate, f"the budget of {bench.contract.search.budget} was used up", gate="budget"))
            bench.progress.step(f"{candidate.id}: skipped, the budget was used up")
            continue
        except MissingExtra as missing:
            skipped.append(skip(candidate, str(missing), gate="extra"))
            bench.progress.step(f"{candidate.id}: skipped, {missing}")
            continue
        finally:
            bench.keep(baseline.candidate.id, candidate.id)
        tried.append(outcome)
        bench.progress.step(f"{candidate.id}: {_word(outcome, baseline)}")
    return Sweep(baseline, tuple(tried), tuple(skipped))


def measure_baseline(bench: Bench) -> Tried:
    """Eager, by which all others are judged. Raises what ends it: without it there is nothing to compare with."""
    with Trial(bench, bench.baseline) as trial:
        exported = trial.export()
        quality = trial.quality(exported)
        pace = trial.pace(exported, ())
    bench.progress.step(f"{bench.baseline.id}: the baseline")
    return Tried(bench.baseline, exported, quality, pace)


def _try(bench: Bench, candidate: Candidate, baseline: Tried, before: Sequence[Tried]) -> Tried:
    with Trial(bench, candidate) as trial:
        exported = trial.export()
        if exported.refusal is not None:
            return Tried(candidate, exported, refusal=exported.refusal)
        quality = trial.quality(exported)
        refusal = judge_quality(bench.contract, candidate, exported, quality)
        if refusal is not None:
            return Tried(candidate, exported, quality, refusal=refusal)
        simpler = next((other for other in before if other.candidate == parent(candidate)), None)
        rivals = [rival for other in (baseline, simpler) if other is not None and (rival := other.rival()) is not None]
        pace = trial.pace(exported, rivals)
    parent_id = None if simpler is None else simpler.candidate.id
    refusal = judge_pace(bench.contract, pace, baseline.candidate.id, parent_id)
    return Tried(candidate, exported, quality, pace, refusal=refusal)


def _word(outcome: Tried, baseline: Tried) -> str:
    if outcome.refusal is not None:
        return f"rejected ({outcome.refusal.gate}): {outcome.refusal.reason}"
    against = next((s for s in outcome.pace.speed if s.against == baseline.candidate.id), None)
    return "accepted" + (f", {against.ratio:.2f}× eager's {against.objective}" if against is not None else "")
