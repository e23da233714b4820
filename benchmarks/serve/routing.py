"""What it costs to follow a registry, and to share requests between two versions: the server of a file, and the same
package from a registry, alone and in each kind of rollout."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

from .apps.routed import STATES
from .features import CONNECTIONS
from .models import IRIS, ONNX
from .race import Contender, Effort, Told, everywhere, race
from .results import Result
from .rows import by_connections
from .servers import Server

WORKLOAD = "iris-routing"


def routing(ours: Server, effort: Effort, told: Told, after: Callable[[Sequence[Result]], None]) -> list[Result]:
    """A row for the server of a file, then one for each state; `ratio` is against the first, round by round.

    `after` gets the rows so far whenever a server has ended."""
    contenders = [Contender(ours, ONNX, 1), *(Contender(ours, ONNX, 1, routed=state) for state in STATES)]

    def rows() -> list[Result]:
        return by_connections(WORKLOAD, contenders, (CONNECTIONS,), base=ours.name)

    plan, effort = everywhere(CONNECTIONS), replace(effort, rounds=effort.feature_rounds)
    race(IRIS, contenders, plan, effort, told, after=lambda: after(rows()))
    return rows()
