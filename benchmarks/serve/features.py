"""What each feature of ours costs: the server as it is, and with one of its parts replaced by one that does nothing."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

from .apps.without import PARTS
from .models import IRIS, ONNX
from .race import Contender, Effort, Told, everywhere, race
from .results import Result
from .rows import by_connections
from .servers import Server

WORKLOAD = "iris-features"
CONNECTIONS = 32


def features(ours: Server, effort: Effort, told: Told, after: Callable[[Sequence[Result]], None]) -> list[Result]:
    """A row for the whole server, then one without each part; `ratio` is against the whole server, round by round.

    `after` gets the rows so far whenever a server has ended."""
    contenders = [Contender(ours, ONNX, 1), *(Contender(ours, ONNX, 1, without=part) for part in PARTS)]

    def rows() -> list[Result]:
        return by_connections(WORKLOAD, contenders, (CONNECTIONS,), base=ours.name)

    plan, effort = everywhere(CONNECTIONS), replace(effort, rounds=effort.feature_rounds)
    race(IRIS, contenders, plan, effort, told, after=lambda: after(rows()))
    return rows()
