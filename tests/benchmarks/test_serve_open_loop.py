"""The open loop of benchmarks/serve: its rounds, the limits that peers are given, and what becomes of their steps."""

from __future__ import annotations

import shutil
import statistics
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT))

from benchmarks.serve import dialects, open_loop, servers  # noqa: E402
from benchmarks.serve.models import INT8, IRIS, ONNX, SAMPLES, UINT8, Model  # noqa: E402
from benchmarks.serve.open_loop import LIMITS, ROUNDS, climb  # noqa: E402
from benchmarks.serve.open_step import averaged, step  # noqa: E402
from benchmarks.serve.process import Failed  # noqa: E402
from benchmarks.serve.race import Contender, Effort  # noqa: E402
from benchmarks.serve.results import Result  # noqa: E402
from benchmarks.serve.servers import SERVERS, Command, Job, Server  # noqa: E402

BY_NAME = {server.name: server for server in SERVERS}
EFFORT = Effort(rounds=3, slice_s=1.0, warm_s=0.5, step_s=10.0)
Step = tuple[str, int | None, float, float, int]
"""Server, limit, offered rate, seconds, seed."""


def contender(name: str) -> Contender:
    return Contender(BY_NAME[name], INT8, 2)


@pytest.fixture
def taken(monkeypatch: pytest.MonkeyPatch) -> Callable[[Callable[[Contender, float], float]], list[Step]]:
    """Has steps come to the goodput that a function gives, and returns the list of those that were taken."""

    def of(goodput: Callable[[Contender, float], float]) -> list[Step]:
        steps: list[Step] = []

        def step(model: Model, one: Contender, rate: float, effort: Effort, seconds: float, seed: int) -> Result:
            steps.append((one.server.name, one.limit, rate, seconds, seed))
            found = goodput(one, rate)
            return Result("open-loop", one.server.name, one.server.ours, offered_rps=rate, rps=rate, goodput_rps=found)

        monkeypatch.setattr(open_loop, "step", step)
        return steps

    return of


def quiet(text: str) -> None:
    """Nobody is told."""


def test_every_load_is_run_in_rounds_with_arrivals_of_their_own(
    taken: Callable[..., list[Step]], monkeypatch: pytest.MonkeyPatch
) -> None:
    capacities = iter([130.0, 90.0])
    monkeypatch.setattr(open_loop, "capacity", lambda *_: next(capacities))
    steps = taken(lambda one, rate: rate)
    kept: list[int] = []
    rows = climb(
        UINT8,
        [contender("Shipworthy"), contender("LitServe")],
        EFFORT,
        quiet,
        (0.5, 2.0),
        capacity_rps=100.0,
        keep=lambda rows: kept.append(len(rows)),
    )
    assert [(row.server, row.offered_rps) for row in rows] == [
        *(("Shipworthy", rate) for rate in (50.0, 200.0)),
        *(("LitServe", rate) for rate in (50.0, 200.0)),
    ]
    assert {(row.rounds, row.capacity_rps, row.workers, row.engine, row.target_ms) for row in rows} == {
        (ROUNDS, statistics.median([100.0, 130.0, 90.0]), 2, INT8, 50.0)
    }
    # All servers of a load in a round have the same arrivals, and nobody else has them.
    seeds = {(rate, seed) for _, _, rate, _, seed in steps}
    assert len(seeds) == len({seed for _, seed in seeds}) == 2 * ROUNDS and len(steps) == 4 * ROUNDS
    assert kept == [2, 4, 4, 4]


def test_peers_that_shed_nothing_have_the_better_of_no_limit_and_their_best_one(
    taken: Callable[..., list[Step]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(open_loop, "capacity", lambda *_: 100.0)
    under_load = {None: 5.0, 6: 60.0, 10: 70.0, 16: 20.0}

    def goodput(one: Contender, rate: float) -> float:
        return under_load[one.limit] if rate > 100 else rate - (0 if one.limit is None else 1)

    steps = taken(goodput)
    contenders = [contender("Shipworthy"), contender("FastAPI"), contender("MLServer"), contender("BentoML")]
    rows = climb(UINT8, contenders, EFFORT, quiet, (0.5, 2.0), capacity_rps=100.0)
    tried = [(name, limit) for name, limit, rate, seconds, _ in steps if (rate, seconds) == (150.0, 3.0)]
    assert tried == [(name, limit) for name in ("FastAPI", "MLServer") for limit in LIMITS]
    assert {limit for name, limit, _, seconds, _ in steps if seconds == 10.0 and name == "FastAPI"} == {None, 10}
    assert {limit for name, limit, *_ in steps if name in ("Shipworthy", "BentoML")} == {None}
    assert len(rows) == 8
    found = {(row.server, row.offered_rps): row for row in rows}
    for name in ("FastAPI", "MLServer"):
        assert found[name, 50.0].goodput_rps == 50.0 and found[name, 200.0].goodput_rps == 70.0
        assert (
            found[name, 50.0].detail
            == "0.5 × capacity: no limit; with uvicorn's limit of connections at 10 49/s in time"
        )
        assert found[name, 200.0].detail == "2 × capacity: uvicorn's limit of connections at 10; without it 5/s in time"
    assert found["BentoML", 200.0].detail == found["Shipworthy", 200.0].detail == ""


def test_a_step_that_fails_is_said_and_who_never_answers_is_not_tried_again(
    taken: Callable[..., list[Step]], monkeypatch: pytest.MonkeyPatch
) -> None:
    def lost(*_: object) -> float:
        raise Failed("it is gone")

    monkeypatch.setattr(open_loop, "capacity", lost)
    seen: dict[str, int] = {}

    def goodput(one: Contender, rate: float) -> float:
        number = seen[one.server.name] = seen.get(one.server.name, 0) + 1
        if one.server.name == "Ray Serve" or (one.server.name == "LitServe" and number == 2):
            raise Failed("no answer")
        return rate

    steps = taken(goodput)
    contenders = [contender("Shipworthy"), contender("LitServe"), contender("Ray Serve")]
    rows = climb(UINT8, contenders, EFFORT, quiet, (0.5, 2.0), capacity_rps=100.0)
    assert [name for name, *_ in steps].count("Ray Serve") == 1
    found = {(row.server, row.offered_rps): row for row in rows}
    assert [found["Ray Serve", rate].error for rate in (50.0, 200.0)] == ["no answer"] * 2
    assert (found["LitServe", 50.0].error, found["LitServe", 50.0].rounds) == (None, ROUNDS)
    assert (found["LitServe", 200.0].error, found["LitServe", 200.0].rounds) == ("no answer", ROUNDS - 1)
    assert {row.capacity_rps for row in rows} == {100.0}


def test_steps_are_averaged_and_the_worst_is_kept() -> None:
    plain = Result("open-loop", "a", False, offered_rps=100.0)
    one = replace(plain, rps=90.0, goodput_rps=80.0, p50_ms=10.0, p99_ms=40.0, refused=3, late=1, errors=0)
    one = replace(
        one, unanswered=2, refusal_ms=None, rss_mb=100.0, rss_before_mb=90.0, rss_peak_mb=120.0, lag_p99_ms=1.0
    )
    two = replace(plain, rps=94.0, goodput_rps=60.0, p50_ms=20.0, p99_ms=70.0, refused=4, late=2, errors=1)
    two = replace(
        two, unanswered=0, refusal_ms=5.0, rss_mb=130.0, rss_before_mb=95.0, rss_peak_mb=130.0, lag_p99_ms=3.0
    )
    row = averaged(plain, [one, two])
    assert (row.rps, row.rps_low, row.rps_high) == (92.0, 90.0, 94.0)
    assert (row.goodput_rps, row.goodput_low_rps, row.goodput_high_rps) == (70.0, 60.0, 80.0)
    assert (row.p50_ms, row.p99_ms, row.refusal_ms, row.lag_p99_ms) == (15.0, 70.0, 5.0, 3.0)
    assert (row.refused, row.late, row.errors, row.unanswered, row.rounds) == (7, 3, 1, 2, 2)
    assert (row.rss_mb, row.rss_before_mb, row.rss_peak_mb) == (130.0, 95.0, 130.0)
    assert averaged(plain, [replace(one, p50_ms=None, p99_ms=None)]).p99_ms is None


APP = """
import asyncio
async def app(scope, receive, send):
    if scope["type"] != "http":
        return
    while (await receive()).get("more_body"):
        pass
    await asyncio.sleep(0.02)
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"2")]})
    await send({"type": "http.response.body", "body": b"ok"})
"""


@pytest.mark.skipif(shutil.which("wrk") is None, reason="needs wrk")
def test_a_limit_of_connections_refuses_what_is_beyond_it(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Three at once of 20 ms each are 150 per second; as it is, the server takes all 400."""
    monkeypatch.setattr(servers, "python", lambda environment: sys.executable)
    monkeypatch.setattr("benchmarks.serve.visit.CACHE", tmp_path)
    monkeypatch.setattr(Model, "expected", lambda model, engine: np.zeros((SAMPLES, model.width), np.float32))
    (tmp_path / "slow.py").write_text(APP)

    def start(job: Job) -> Command:
        return Command(servers._uvicorn("any", "slow:app", job), {"PYTHONPATH": str(tmp_path)})

    slow = Server("slow", "any", start, dialects.EMPTY, None, has_model=False)
    found = {
        limit: step(IRIS, Contender(slow, ONNX, 1, limit=limit), 400.0, EFFORT, 1.0, seed=1) for limit in (None, 3)
    }
    free, limited = found[None], found[3]
    assert free.refused == 0 and free.errors == 0
    assert limited.refused is not None and limited.refused > 100 and limited.errors is not None
    assert limited.rps is not None and 40 < limited.rps < 160 and limited.errors < 20
    assert limited.generator_cpu is not None and limited.rss_peak_mb is not None and limited.elsewhere_cpu is not None
