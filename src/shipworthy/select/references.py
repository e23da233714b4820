"""References: what the signals of each packed variant are on held-out data, for whoever watches it in production."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Literal

import numpy as np

from ..contract import Array, Arrays
from ..data import Dataset, Splits, read_cases
from ..data.leaks import row_digests
from ..evidence import Finding, MetricEvidence, ReferenceEvidence
from ..signals import (
    ENOUGH,
    FEWEST,
    Accepted,
    Reference,
    fit,
    fits_outputs,
    make_reference,
    read_reference,
    save_reference,
)
from .bench import Bench
from .trial import Trial
from .tried import Tried
from .way import artifact_of

TOLERATED = 0.01
"""Where the contract limits no drop: what a variant may lose of its own metric in production, or that part of it where
it is larger than 1."""
_REMEDY = "give more holdout data, or take the first production requests: --monitor-baseline"


@dataclass(frozen=True, slots=True)
class References:
    """By the ids of the variants."""

    files: dict[str, Path] = field(default_factory=dict)
    evidence: dict[str, ReferenceEvidence] = field(default_factory=dict)
    findings: tuple[Finding, ...] = ()


@dataclass(frozen=True, slots=True)
class _Rows:
    """Which rows the constants are fitted on, and which the reference is made of: no row is in both."""

    split: Literal["calibration", "validation", "holdout"]
    fitted: Array
    """bool, for each sample of that split."""
    held: Array
    """bool, for each sample of the holdout."""


def references(bench: Bench, packed: Sequence[Tried], created: str) -> References:
    """Make the reference of every variant that will be packed, with its own answers to the holdout.

    Without data that is held out, or with too little of it, there are none, and a finding says so."""
    rows = _rows(bench.job.splits)
    if not packed:
        return References()
    if rows is None:
        return References(findings=(_missing("data.holdout", "there is no data to make one of", _REMEDY),))
    samples = int(rows.held.sum())
    if samples < FEWEST:
        why = f"{samples} samples are held out, and an alarm needs at least {FEWEST} to compare with"
        return References(findings=(_missing("data.holdout", why, _REMEDY),))
    bench.keep()
    bench.deadline.at = None
    found = References(findings=(_small(samples),) if samples < ENOUGH else ())
    for tried in packed:
        found = _added(bench, found, tried, rows, created)
    return found


def _added(bench: Bench, found: References, tried: Tried, rows: _Rows, created: str) -> References:
    """With that of one more variant, or the finding that there is none."""
    subject = tried.candidate.id
    with Trial(bench, tried.candidate, tried.way) as trial:
        made = trial.reference(tried.exported, lambda file: _make(bench, trial, tried, rows, file))
    if made.refusal is not None or made.file is None:
        why = "nothing was made" if made.refusal is None else made.refusal.reason
        return replace(
            found, findings=(*found.findings, _missing(subject, why, "see why it cannot answer the holdout"))
        )
    reference = read_reference(made.file, str(made.file))
    accepted = _accepted(bench, tried.proof.metric)
    path = bench.store.reference(subject)
    save_reference(replace(reference, accepted=accepted, created=created), path)
    evidence = ReferenceEvidence(
        samples=reference.samples,
        signals=len(reference.signals),
        scored=sum(signal.scored for signal in reference.signals),
        fitted_on=rows.split,
        fitted=int(rows.fitted.sum()),
        level=None if accepted is None else accepted.level,
    )
    return replace(found, files={**found.files, subject: path}, evidence={**found.evidence, subject: evidence})


def _make(bench: Bench, trial: Trial, tried: Tried, rows: _Rows, file: Path) -> Reference:
    contract, artifact = bench.contract, artifact_of(tried.exported)
    answered = trial.answer(artifact, rows.split) if fits_outputs(contract) else None
    constants = fit(contract, _fitted(bench, rows, answered))
    reference = make_reference(contract, constants, _held(bench, rows, trial.answer(artifact, "holdout")))
    save_reference(reference, file)
    return reference


def _fitted(bench: Bench, rows: _Rows, answers: Path | None) -> Iterator[tuple[Arrays, Arrays]]:
    """Batches of what the constants are fitted on: inputs, and outputs where they are asked for."""
    start = 0
    outputs = None if answers is None else read_cases(answers)
    for chunk in bench.batches(rows.split):
        wanted = rows.fitted[start : start + len(chunk)]
        answered = {} if outputs is None else next(outputs)[1]
        yield _taken(chunk.inputs, wanted), _taken(answered, wanted)
        start += len(chunk)


def _held(bench: Bench, rows: _Rows, answers: Path) -> Iterator[tuple[Arrays, Arrays, Array | None]]:
    start = 0
    for chunk, (_, outputs) in zip(bench.batches("holdout"), read_cases(answers), strict=True):
        wanted = rows.held[start : start + len(chunk)]
        targets = None if chunk.targets is None else chunk.targets[wanted]
        yield _taken(chunk.inputs, wanted), _taken(outputs, wanted), targets
        start += len(chunk)


def _taken(arrays: Arrays, wanted: Array) -> Arrays:
    """Rows of arrays; one that has no row for each sample is left out."""
    return {name: array[wanted] for name, array in arrays.items() if array.ndim and len(array) == len(wanted)}


def _rows(splits: Splits) -> _Rows | None:
    """The calibration data without what the holdout has too, else the validation data, else half of the holdout."""
    holdout = splits.holdout
    if holdout is None or not len(holdout):
        return None
    held = row_digests(holdout)
    known = set(held)
    own = None if splits.calibration is splits.validation else splits.calibration
    sources: tuple[tuple[Literal["calibration", "validation"], Dataset | None], ...] = (
        ("calibration", own),
        ("validation", splits.validation),
    )
    for name, data in sources:
        apart = np.array([digest not in known for digest in row_digests(data)] if data is not None else [], bool)
        if apart.sum() >= FEWEST:
            return _Rows(name, apart, np.ones(len(held), bool))
    # By a bit of the row's own digest: samples that are equal stay together.
    half = np.array([digest[0] & 1 for digest in held], bool)
    return _Rows("holdout", half, ~half)


def _accepted(bench: Bench, metric: MetricEvidence | None) -> Accepted | None:
    """The level below which live quality must not fall. A metric against eager's own answers says nothing of labels."""
    if metric is None or bench.job.metric is None or bench.job.metric.against_eager:
        return None
    limit = bench.contract.limits.max_metric_drop
    own = metric.candidate - TOLERATED * max(1.0, abs(metric.candidate))
    level = own if limit is None else metric.eager - limit
    if not (math.isfinite(level) and math.isfinite(metric.candidate)):
        return None
    return Accepted(metric.name, metric.candidate, level, metric.samples)


def _missing(where: str, why: str, remedy: str) -> Finding:
    return Finding(rule="reference-missing", severity="warning", where=where, why=f"no reference: {why}", remedy=remedy)


def _small(samples: int) -> Finding:
    why = f"the reference has {samples} samples; with fewer than {ENOUGH}, alarms of drift come late"
    return Finding(rule="reference-small", severity="note", where="data.holdout", why=why, remedy=_REMEDY)
