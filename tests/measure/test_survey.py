"""The look at every operating point: which points there are, and where it stops."""

from __future__ import annotations

from pathlib import Path
from typing import cast

import pytest

from shipworthy.contract import Contract, Signature
from shipworthy.contract.spec import Objective, TargetSpec
from shipworthy.measure import Worker, ranked, survey
from shipworthy.measure.messages import OpenGraph, OpenReply, TimeLoop, TimeReply
from shipworthy.measure.survey import operating_points
from shipworthy.runtime import Artifact


class _Engine:
    """Stands for a worker: a run takes `fixed_s`, and `each_s` for every sample that a thread has to itself."""

    def __init__(self, fixed_s: float, each_s: float) -> None:
        self.fixed_s, self.each_s = fixed_s, each_s
        self.threads = 1
        self.asked: list[tuple[int, int, int]] = []

    def ask(self, command: OpenGraph | TimeLoop, reply: object) -> OpenReply | TimeReply:
        if isinstance(command, OpenGraph):
            self.threads = command.point.threads
            return OpenReply(load_s=0.1)
        batch = int(command.case)
        self.asked.append((command.streams, self.threads, batch))
        run_s = self.fixed_s + self.each_s * batch * command.streams / self.threads
        return TimeReply(rate=command.streams / run_s, times=(run_s,) * 3)


def _contract(objective: Objective = "throughput", threads: int = 2) -> Contract:
    return Contract(
        name="n",
        inputs={"x": {"dtype": "float32", "shape": ["batch", 2]}},  # type: ignore[dict-item]
        target=TargetSpec(objective=objective, threads=threads),
    )


def _survey(engine: _Engine, contract: Contract) -> list[tuple[int, int, int]]:
    artifact = Artifact("openvino", "fp32", Path("nowhere"), Signature(inputs={}))
    survey(cast(Worker, engine), artifact, contract, Path("nowhere"))
    return engine.asked


def test_streams_and_threads_are_points_of_their_own() -> None:
    def points(objective: Objective, threads: int) -> list[tuple[int, int]]:
        target = TargetSpec(objective=objective, threads=threads)
        return [(point.streams, point.threads) for point in operating_points(target)]

    assert points("throughput", 2) == [(1, 2), (2, 2), (1, 1)]
    assert points("throughput", 4) == [(1, 4), (2, 4), (4, 4), (1, 1)]
    assert points("latency", 4) == [(1, 4), (1, 1)]
    assert points("size", 1) == [(1, 1)]


def test_a_single_thread_is_looked_at_where_runs_are_short() -> None:
    assert (1, 1, 1) in _survey(_Engine(1e-4, 1e-5), _contract())
    assert (1, 1, 1) not in _survey(_Engine(0.0, 0.1), _contract())


def test_long_runs_that_gain_nothing_end_the_ladder() -> None:
    assert _survey(_Engine(0.0, 0.2), _contract())[:3] == [(1, 2, 1), (1, 2, 2), (1, 2, 4)]
    assert _survey(_Engine(0.0, 0.2), _contract())[3] == (2, 2, 1), "no fourth size: the last two brought nothing"
    gaining = [batch for streams, _, batch in _survey(_Engine(1.0, 0.01), _contract()) if streams == 1]
    assert gaining == [1, 2, 4, 8, 16, 32]


@pytest.mark.parametrize("threads", [1, 2])
def test_latency_takes_the_quicker_number_of_threads(threads: int) -> None:
    from shipworthy.evidence import ThroughputPoint
    from shipworthy.runtime import OperatingPoint

    seen = [
        ThroughputPoint(
            point=OperatingPoint(threads=n, batch=batch), items_per_s=9, p50_ms=batch + abs(n - threads), p99_ms=9
        )
        for n in (2, 1)
        for batch in (1, 2)
    ]
    [best] = ranked(seen, TargetSpec(objective="latency"), None)
    assert (best.point.threads, best.point.batch) == (threads, 1)
