"""What a worker saw, put into the evidence of a rollout."""

from __future__ import annotations

import numpy as np

from .counting import KeyLog
from .evidence import Evidence
from .observed import Assignments, Completions, Copies, Observed
from .pairs import Pair, pairs_of
from .spec import Spec
from .tally import Tally

HALF_A_PART = 0.5e-4
"""Shares are multiples of 1/10,000: nearer than this is the same one."""


def absorb(observed: Observed, spec: Spec, evidence: Evidence, tally: Tally, keys: KeyLog) -> list[Pair]:
    """Adds everything to `evidence` and `tally`; gives the pairs that wait for a label, which the evidence has as the
    worst case."""
    if len(observed.assigned):
        _assigned(observed.assigned, spec, evidence, tally, keys)
    if len(observed.completed):
        _completed(observed.completed, spec, evidence, tally, keys)
    if len(observed.settled):
        _settled(observed.settled, spec, evidence, keys)
    tally.lost += observed.copies.lost
    _failures(observed.copies, spec, evidence, tally)
    return _copies(observed.copies, evidence, tally, keys) if len(observed.copies) else []


def requests_at(share: float, assigned: Assignments) -> int:
    return int(np.count_nonzero(np.abs(assigned.shares - share) < HALF_A_PART))


def _assigned(seen: Assignments, spec: Spec, evidence: Evidence, tally: Tally, keys: KeyLog) -> None:
    tally.add("assigned", seen.new)
    counts = keys.count("assigned", seen.digests)
    if "ratio" in spec.guardrails:
        evidence.assigned.observe(seen.new[counts], seen.shares[counts])


def _completed(seen: Completions, spec: Spec, evidence: Evidence, tally: Tally, keys: KeyLog) -> None:
    tally.add("completed", seen.new)
    tally.add("failed", seen.new, seen.failed)
    tally.add("slow", seen.new, seen.slow == 1)
    counts = keys.count("completed", seen.digests)
    new, shares = seen.new[counts], seen.shares[counts]
    if "errors" in spec.guardrails:
        evidence.errors.observe(new, shares, seen.failed[counts])
    if "latency" in spec.guardrails:
        slow = seen.slow[counts]
        judged = slow >= 0
        evidence.latency.observe(new[judged], shares[judged], slow[judged] == 1)


def _settled(seen: Assignments, spec: Spec, evidence: Evidence, keys: KeyLog) -> None:
    if "ratio" in spec.guardrails:
        counts = keys.count("settled", seen.digests)
        evidence.completed.observe(seen.new[counts], seen.shares[counts])


def _failures(seen: Copies, spec: Spec, evidence: Evidence, tally: Tally) -> None:
    for name, events in (("failed", seen.failed), ("slow", seen.slow)):
        counted: list[int] = getattr(tally, name)
        counted[0] += int(events[:, 0].sum())
        counted[1] += int(events[:, 1].sum())
    if "errors" in spec.guardrails and len(seen.failed):
        evidence.errors.pairs(seen.failed[:, 0], seen.failed[:, 1])
    if "latency" in spec.guardrails and len(seen.slow):
        evidence.latency.pairs(seen.slow[:, 0], seen.slow[:, 1])


def _copies(seen: Copies, evidence: Evidence, tally: Tally, keys: KeyLog) -> list[Pair]:
    tally.copies += len(seen)
    counts = keys.count("copied", seen.digests)
    agree = seen.worst == 0
    evidence.paired.add(0.0, count=int(np.count_nonzero(counts & agree)))
    if (bounds := seen.worst[counts & ~agree]).size:
        evidence.paired.add_open(bounds)
    return pairs_of(seen, counts)
