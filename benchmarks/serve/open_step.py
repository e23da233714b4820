"""One offered load on one server: warmed, weighed, and what came of it."""

from __future__ import annotations

import json
import statistics
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import psutil

from .closed import closed
from .models import ROOT, Model
from .open_load import OPENED
from .process import Failed, Process
from .quiet import Elsewhere
from .race import Contender, Effort
from .results import Result
from .visit import Visit, visited

WORKLOAD = "open-loop"
TARGET_S = 0.05
_GRACE_S = 1 + 2 * TARGET_S
_SAMPLE_S = 0.2


def step(model: Model, one: Contender, rate: float, effort: Effort, seconds: float, seed: int) -> Result:
    """A server of its own under `rate` requests per second. Raises Failed."""
    expected = model.expected(one.engine)
    with visited(one.server, model, one.engine, one.workers, expected, deadline_s=TARGET_S, limit=one.limit) as visit:
        visit.check()
        warmed(visit, effort)
        before = visit.process.rss_mb()
        with Weighing(visit.process) as weighing, Elsewhere(visit.process) as elsewhere:
            found = offered(visit, rate, seconds, seed=seed)
        after = visit.process.rss_mb()
    peak = max(before, after, weighing.peak_mb)
    plain = Result(WORKLOAD, one.server.name, one.server.ours, offered_rps=rate, elsewhere_cpu=elsewhere.cores)
    return replace(plain, **found, rss_before_mb=before, rss_mb=after, rss_peak_mb=peak)


def warmed(visit: Visit, effort: Effort) -> None:
    """By a closed load."""
    closed(visit.port, visit.requests[0], connections=8, seconds=effort.warm_s)


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
            # What is more than its limit when the load begins would be refused, however little is asked.
            "opened": min(OPENED, visit.job.limit or OPENED),
        }
        try:
            ended = subprocess.run(
                [sys.executable, "-m", f"{__package__}.open_load"],
                input=json.dumps(spec),
                capture_output=True,
                text=True,
                cwd=ROOT,
                timeout=seconds + 60,
            )
        except subprocess.TimeoutExpired as error:
            raise Failed(f"the load generator did not end: {error}") from error
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


def averaged(plain: Result, steps: Sequence[Result]) -> Result:
    """Means of rates and medians, the worst of p99 and of the generator's lag, sums of counts, and the most memory."""
    goodput = [one.goodput_rps for one in steps if one.goodput_rps is not None]
    rates = [one.rps for one in steps if one.rps is not None]
    return replace(
        plain,
        rounds=len(steps),
        rps=_mean(rates),
        rps_low=min(rates, default=None),
        rps_high=max(rates, default=None),
        goodput_rps=_mean(goodput),
        goodput_low_rps=min(goodput, default=None),
        goodput_high_rps=max(goodput, default=None),
        p50_ms=_mean(one.p50_ms for one in steps),
        p99_ms=_most(one.p99_ms for one in steps),
        refusal_ms=_mean(one.refusal_ms for one in steps),
        refused=sum(one.refused or 0 for one in steps),
        late=sum(one.late or 0 for one in steps),
        errors=sum(one.errors or 0 for one in steps),
        unanswered=sum(one.unanswered or 0 for one in steps),
        rss_before_mb=_most(one.rss_before_mb for one in steps),
        rss_peak_mb=_most(one.rss_peak_mb for one in steps),
        rss_mb=_most(one.rss_mb for one in steps),
        lag_p99_ms=_most(one.lag_p99_ms for one in steps),
        generator_cpu=_most(one.generator_cpu for one in steps),
        elsewhere_cpu=_most(one.elsewhere_cpu for one in steps),
    )


def _mean(values: Iterable[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return statistics.fmean(known) if known else None


def _most(values: Iterable[float | None]) -> float | None:
    return max((value for value in values if value is not None), default=None)
