"""A candidate's answers to a split beside eager's."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from ..contract import Arrays
from ..data import Dataset, read_cases
from ..evidence import MetricEvidence
from ..quality import Claim, compare, gather, join, misfit
from .bench import Bench


def metric_on(
    bench: Bench,
    subject: str,
    split: Literal["validation", "holdout"],
    mine: Path,
    claim: Claim | None = None,
) -> tuple[MetricEvidence | None, str | None]:
    """The paired metric of `subject`, or why the answers cannot be compared; neither without data or a metric.

    Raises what `compare` raises: an error of `subject` where the metric fails for it alone."""
    data: Dataset | None = getattr(bench.job.splits, split)
    if bench.job.metric is None or data is None or not len(data):
        return None, None
    eager, candidate = _answers(bench.answers(bench.baseline.id, split)), _answers(mine)
    first = data.chunks[0].inputs
    for expected, got in zip(eager, candidate, strict=True):
        why = misfit(first, expected, got)
        if why is not None:
            return None, f"{why} (on the {split} data)"
    targets = [chunk.targets for chunk in data.chunks if chunk.targets is not None and len(chunk)]
    evidence = compare(
        bench.job.metric,
        split,
        join(targets) if targets else None,
        gather(eager),
        gather(candidate),
        claim=claim,
        seed=bench.contract.search.seed,
        subject=subject,
    )
    return evidence, None


def _answers(path: Path) -> list[Arrays]:
    return [outputs for _, outputs in read_cases(path)]
