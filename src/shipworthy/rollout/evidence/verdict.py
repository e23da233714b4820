"""From evidence to a verdict, and why."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, TypeAlias

from . import wording
from .figures import GUARDRAILS, SAMPLE_RATIOS, Alphas, Figure, Figures, Process, measure
from .state import Evidence

Verdict: TypeAlias = Literal["promote", "rollback", "hold"]


@dataclass(frozen=True, slots=True)
class Judgement:
    """What the evidence says now."""

    verdict: Verdict | None
    """None while it says nothing yet."""
    by: Process | Literal["drift"] | None
    """The process that decided; drift where it was an alarm, which is none of this evidence."""
    reason: str
    """For an engineer to read; also where there is no verdict, with what is still needed."""
    figures: tuple[Figure, ...]
    """Every process as it stands."""


def judge(evidence: Evidence, alphas: Alphas | None = None, *, share: float = 0.5, timed: int = 0) -> Judgement:
    """Ask after every merge, and act on the first verdict: which of two came first is then not in doubt.

    Where several have passed: guardrails before a mismatch, as taking a version back is safe whatever else is wrong; a
    mismatch before quality, as then the versions did not get alike requests, and what was compared is not known;
    rollback before promotion. A mismatch is written down in `evidence.mismatch`, and there is no quality verdict ever
    after. `share` is the present one, for the estimate of what is still needed. A promotion waits until so many answers
    of the new version were `timed`, so that its latency was looked at; waiting adds nothing to the rate of errors."""
    figures = measure(evidence, alphas or Alphas())
    for name in GUARDRAILS:
        if figures[name].passed:
            return _judgement("rollback", name, wording.guarded(figures[name], evidence), figures)
    if evidence.mismatch is None:
        evidence.mismatch = next((name for name in SAMPLE_RATIOS if figures[name].passed), None)
    if evidence.mismatch is not None:
        reason = wording.mismatched(figures[evidence.mismatch])
        return _judgement("hold", evidence.mismatch, reason, figures)
    if figures["rollback"].passed:
        return _judgement("rollback", "rollback", wording.worse(figures["rollback"], evidence), figures)
    if figures["promote"].passed and evidence.latency.requests[1] < timed:
        return _judgement(None, None, wording.untimed(figures["promote"], evidence, timed), figures)
    if figures["promote"].passed:
        return _judgement("promote", "promote", wording.good(figures["promote"], evidence), figures)
    return _judgement(None, None, wording.undecided(figures, evidence, share), figures)


def _judgement(verdict: Verdict | None, by: Process | None, reason: str, figures: Figures) -> Judgement:
    return Judgement(verdict, by, reason, tuple(figures.values()))
