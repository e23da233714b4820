"""Goodput as load rises: the same offered loads for ours and for the best peers, up to twice what ours can answer."""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
import threading
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import psutil

from .closed import closed
from .models import INT8, ROOT, Model
from .process import Failed, Process
from .race import Contender, Effort, Told
from .results import Result
from .visit import Visit, visited

TARGET_S = 0.05
LOADS = (0.2, 0.4, 0.6, 0.8, 0.9, 1.0, 1.2, 1.5, 2.0)
QUICK_LOADS = (0.5, 2.0)
"""Shares of the capacity."""
CONNECTIONS = (4, 8, 16)
"""Of the closed load that finds the capacity."""
WORKLOAD = "open-loop"
_GRACE_S = 1 + 2 * TARGET_S
_SAMPLE_S = 0.2


def capacity(model: Model, ours: Contender, effort: Effort) -> float:
    """What ours answers per second under closed load, at its best number of connections. Raises Failed."""
    with visited(ours.server, model, ours.engine, ours.workers, model.expected(ours.engine)) as visit:
        visit.check()
        _warm(visit, effort)
        return max(
            closed(visit.port, visit.requests[0], connections=count, seconds=effort.slice_s).rps
            for count in CONNECTIONS
        )


def climb(
    model: Model,
    contenders: Sequence[Contender],
    effort: Effort,
    told: Told,
    loads: Sequence[float],
    *,
    capacity_rps: float,
) -> list[Result]:
    """A row for each server and load, each with a server of its own that was warmed before."""
    rows: list[Result] = []
    for number, load in enumerate(loads):
        turn = number % len(contenders)
        for one in (*contenders[turn:], *contenders[:turn]):
            rate = load * capacity_rps
            told(f"{WORKLOAD}: {one.name}, {one.workers} workers, {load:g} × capacity, {rate:.0f} requests/s")
            plain = Result(
                WORKLOAD,
                one.server.name,
                one.server.ours,
                offered_rps=rate,
                workers=one.workers,
                engine=one.engine,
                target_ms=TARGET_S * 1e3,
                capacity_rps=capacity_rps,
            )
            try:
                rows.append(_step(model, one, plain, effort, seed=number))
            except (Failed, OSError, subprocess.TimeoutExpired) as error:
                told(f"{WORKLOAD}: {one.name} failed: {error}")
                rows.append(replace(plain, error=str(error)))
    order = {one.server.name: place for place, one in enumerate(contenders)}
    return sorted(rows, key=lambda row: (order[row.server], row.offered_rps))


def _step(model: Model, one: Contender, plain: Result, effort: Effort, *, seed: int) -> Result:
    expected = model.expected(one.engine)
    with visited(one.server, model, one.engine, one.workers, expected, deadline_s=TARGET_S) as visit:
        visit.check()
        _warm(visit, effort)
        assert plain.offered_rps is not None
        before = visit.process.rss_mb()
        with Weighing(visit.process) as weighing:
            found = offered(visit, plain.offered_rps, effort.step_s, seed=seed)
        after = visit.process.rss_mb()
    known = {name: found[name] for name in found if name not in ("sent",)}
    peak = max(before, after, weighing.peak_mb)
    return replace(plain, **known, rss_before_mb=before, rss_mb=after, rss_peak_mb=peak)


def offered(visit: Visit, rate: float, seconds: float, *, seed: int) -> dict[str, Any]:
    """What `rate` requests per second came to, by the load generator in a process of its own. Raises Failed."""
    with tempfile.TemporaryDirectory() as folder:
        wires = []
        for number, request in enumerate(visit.requests):
            wires.append(str(Path(folder) / str(number)))
            Path(wires[-1]).write_bytes(request.wire(visit.port))
        spec = {
            "port": visit.port,
            "wires": wires,
            "rate": rate,
            "seconds": seconds,
            "seed": seed,
            "grace_s": _GRACE_S,
            "target_s": TARGET_S,
        }
        ended = subprocess.run(
            [sys.executable, "-m", f"{__package__}.open_load"],
            input=json.dumps(spec),
            capture_output=True,
            text=True,
            cwd=ROOT,
            timeout=seconds + 60,
        )
    if ended.returncode != 0:
        last = (ended.stderr.strip().splitlines() or [""])[-1]
        raise Failed(f"the load generator ended with status {ended.returncode}: {last}")
    found: dict[str, Any] = json.loads(ended.stdout)
    return found


class Weighing:
    """Looks at the memory of a server's processes while a load runs. Used as a context manager."""

    def __init__(self, process: Process) -> None:
        # To find the processes anew at every look would take time from what is measured.
        self._members = process.members()
        self._done = threading.Event()
        self._thread = threading.Thread(target=self._look, daemon=True)
        self.peak_mb = 0.0

    def _look(self) -> None:
        while not self._done.wait(_SAMPLE_S):
            total = 0
            for one in self._members:
                try:
                    total += one.memory_info().rss
                except psutil.Error:
                    continue
            self.peak_mb = max(self.peak_mb, total / 1e6)

    def __enter__(self) -> Weighing:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._done.set()
        self._thread.join()


def best_peers(rows: Sequence[Result], workload: str, count: int = 2) -> list[tuple[str, int]]:
    """Names and workers of the peers with the most answers per second with our engine."""
    known = [row for row in rows if row.workload == workload and row.engine == INT8 and not row.ours and row.rps]
    best = sorted(known, key=lambda row: -(row.rps or 0.0))[:count]
    return [(row.server, row.workers or 1) for row in best]


def _warm(visit: Visit, effort: Effort) -> None:
    closed(visit.port, visit.requests[0], connections=8, seconds=effort.warm_s)
