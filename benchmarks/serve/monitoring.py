"""What it costs to watch what a server answers: the same server, not watched and watched."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

from .features import CONNECTIONS
from .models import IRIS, ONNX
from .race import Contender, Effort, Told, everywhere, race
from .results import Result
from .rows import by_connections
from .servers import Server

WORKLOAD = "iris-monitoring"


def monitoring(ours: Server, effort: Effort, told: Told, after: Callable[[Sequence[Result]], None]) -> list[Result]:
    """A row for the server that is not watched, then one that is; `ratio` is against the first, round by round.

    `after` gets the rows so far whenever a server has ended."""
    contenders = [Contender(ours, ONNX, 1), Contender(ours, ONNX, 1, watched=True)]

    def rows() -> list[Result]:
        return by_connections(WORKLOAD, contenders, (CONNECTIONS,), base=ours.name)

    plan, effort = everywhere(CONNECTIONS), replace(effort, rounds=2 * effort.feature_rounds)
    race(IRIS, contenders, plan, effort, told, after=lambda: after(rows()))
    return rows()
