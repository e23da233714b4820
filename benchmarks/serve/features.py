"""What each feature of ours costs: the server as it is, and with one of its parts replaced by one that does nothing."""

from __future__ import annotations

import statistics
from dataclasses import replace

from .apps.without import PARTS
from .models import IRIS, ONNX
from .race import Contender, Effort, Told, race, results
from .results import Result
from .servers import Server

WORKLOAD = "iris-features"
CONNECTIONS = 32


def features(ours: Server, effort: Effort, told: Told) -> list[Result]:
    """A row for the whole server, then one without each part; `ratio` is against the whole server, round by round."""
    contenders = [Contender(ours, ONNX, 1), *(Contender(ours, ONNX, 1, without=part) for part in PARTS)]
    effort = replace(effort, rounds=effort.feature_rounds)
    kept = race(IRIS, contenders, (CONNECTIONS,), effort, told)
    whole = contenders[0]
    rows = []
    for one, row in zip(kept, results(WORKLOAD, kept, contenders), strict=True):
        rows.append(replace(row, ratio=_ratio(one, whole)) if row.rps else row)
    return rows


def _ratio(one: Contender, whole: Contender) -> float | None:
    pairs = zip(one.slices[CONNECTIONS], whole.slices.get(CONNECTIONS, ()), strict=False)
    ratios = [mine.rps / all_of_it.rps for mine, all_of_it in pairs if all_of_it.rps]
    return statistics.median(ratios) if ratios else None
