"""Cold starts: from the command to the first good answer, and the memory after it."""

from __future__ import annotations

import random
import statistics
from collections.abc import Sequence
from dataclasses import replace

from .models import Model
from .process import Failed
from .race import Effort, Told
from .results import Result
from .servers import Server
from .visit import visited

WORKLOAD = "start"


def starts(model: Model, servers: Sequence[Server], engine: str, effort: Effort, told: Told) -> list[Result]:
    """A row for each server with one worker: all are started in turn, several times, each time in an order of its own.

    Those that take longest are last: the machine is not at rest at once when they have ended."""
    expected = model.expected(engine)
    seconds: dict[str, list[float]] = {server.name: [] for server in servers}
    memory: dict[str, list[float]] = {server.name: [] for server in servers}
    failed: dict[str, str] = {}
    for number in range(effort.starts):
        turns = list(servers)
        random.Random(number).shuffle(turns)
        for server in sorted(turns, key=lambda one: one.start_s):
            if server.name in failed:
                continue
            told(f"{WORKLOAD}: {server.name}, {number + 1} of {effort.starts}")
            try:
                with visited(server, model, engine, 1, expected) as visit:
                    seconds[server.name].append(visit.first_answer_s)
                    memory[server.name].append(visit.process.rss_mb())
            except (Failed, OSError) as error:
                told(f"{WORKLOAD}: {server.name} failed: {error}")
                failed[server.name] = str(error)
    return [
        _row(server, engine, seconds[server.name], memory[server.name], failed.get(server.name)) for server in servers
    ]


def _row(server: Server, engine: str, seconds: list[float], memory: list[float], error: str | None) -> Result:
    ran = engine if server.has_model else None
    plain = Result(WORKLOAD, server.name, server.ours, workers=1, engine=ran, rounds=len(seconds), error=error)
    if not seconds:
        return plain
    return replace(
        plain,
        first_answer_s=statistics.median(seconds),
        first_answer_low_s=min(seconds),
        first_answer_high_s=max(seconds),
        rss_mb=statistics.median(memory),
    )
