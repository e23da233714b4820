"""Rounds of benchmarks/serve: who runs in which, what counts, and the rows that come of it."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import pytest

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT))

from benchmarks.serve import monitoring as watching  # noqa: E402
from benchmarks.serve import race as races  # noqa: E402
from benchmarks.serve.apps.routed import STATES  # noqa: E402
from benchmarks.serve.apps.without import PARTS  # noqa: E402
from benchmarks.serve.closed import Slice  # noqa: E402
from benchmarks.serve.features import features  # noqa: E402
from benchmarks.serve.in_process import InProcess  # noqa: E402
from benchmarks.serve.models import INT8, IRIS, ONNX, UINT8, Model  # noqa: E402
from benchmarks.serve.process import Failed  # noqa: E402
from benchmarks.serve.race import Contender, Effort, Plan, everywhere, narrowed, race  # noqa: E402
from benchmarks.serve.routing import routing  # noqa: E402
from benchmarks.serve.rows import at_best, by_connections, ratio  # noqa: E402
from benchmarks.serve.servers import EMPTY, SERVERS, Server  # noqa: E402
from benchmarks.serve.store import Store  # noqa: E402
from benchmarks.serve.tables import _NUMBERS, _table  # noqa: E402
from benchmarks.serve.workloads import ORDER, WORKLOADS, Run  # noqa: E402

BY_NAME = {server.name: server for server in SERVERS}


class Stage:
    """Servers that are not there: what they answer per second, and when they fail."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.rates: dict[tuple[str, int, int], float] = {}
        """By server, workers and connections; 100 where nothing is said."""
        self.fails: Callable[[str, int, int], str | None] = lambda name, workers, start: None
        self.wrong_after_load: set[str] = set()
        self.recovers = 99
        """With which visit of all wrong answers end."""
        self.elsewhere: Iterator[float] = iter(())
        self.ran: list[tuple[str, str, int, tuple[int, ...]]] = []
        self._starts: dict[tuple[str, str, int], int] = {}
        monkeypatch.setattr(Model, "expected", lambda model, engine: np.zeros((1, 1), np.float32))
        monkeypatch.setattr(races, "visited", self._visited)
        monkeypatch.setattr(races, "closed", self._closed)
        monkeypatch.setattr(races, "Elsewhere", self._elsewhere)

    @contextmanager
    def _visited(
        self, server: Server, model: Model, engine: str, workers: int, expected: Any, **_: Any
    ) -> Iterator[Any]:
        key = (server.name, engine, workers)
        start = self._starts[key] = self._starts.get(key, 0) + 1
        self.ran.append((server.name, engine, workers, ()))
        if (error := self.fails(server.name, workers, start)) is not None:
            raise Failed(error)
        yield _Visit(self, server, workers)

    def _closed(self, port: int, request: Any, *, connections: int, seconds: float) -> Slice:
        visit = cast(_Visit, request)
        if seconds == EFFORT.warm_s:
            return Slice(1.0, 1.0, 1.0, 0)
        *_, (name, engine, workers, counts) = self.ran
        if connections not in counts:
            self.ran[-1] = (name, engine, workers, (*counts, connections))
        rate = self.rates.get((visit.server.name, visit.workers, connections), 100.0)
        return Slice(rate, 1e3 / rate, 2e3 / rate, 0)

    @contextmanager
    def _elsewhere(self, process: Any) -> Iterator[Any]:
        yield SimpleNamespace(cores=next(self.elsewhere, 0.02), served=0.5)


class _Visit:
    def __init__(self, stage: Stage, server: Server, workers: int) -> None:
        self.server, self.workers, self.port = server, workers, 1
        self.requests, self.first_answer_s = (self,), 0.5
        self.process = SimpleNamespace(rss_mb=lambda: 50.0)
        self._stage, self._checks = stage, 0

    def check(self) -> None:
        self._checks += 1
        wrong = self.server.name in self._stage.wrong_after_load and len(self._stage.ran) < self._stage.recovers
        if self._checks == 2 and wrong:
            raise Failed("answers with other numbers than the engine")


EFFORT = Effort(rounds=3, slice_s=5.0, warm_s=2.0)


@pytest.fixture
def stage(monkeypatch: pytest.MonkeyPatch) -> Stage:
    return Stage(monkeypatch)


def ran(contenders: list[Contender], plan: Plan, told: list[str] | None = None, **more: Any) -> list[Contender]:
    race(UINT8, contenders, plan, EFFORT, (told if told is not None else []).append, **more)
    return contenders


def both(*names: str, engine: str = ONNX) -> list[Contender]:
    return [Contender(BY_NAME[name], engine, workers) for name in names for workers in (1, 2)]


def test_all_workers_run_in_every_round_and_are_chosen_for_each_number_of_connections(stage: Stage) -> None:
    stage.rates = {("FastAPI", 1, 1): 120.0, ("FastAPI", 2, 32): 300.0, (EMPTY, 1, 1): 480.0}
    every = ran(both(EMPTY, "FastAPI"), everywhere(1, 32))
    assert len(stage.ran) == 3 * 4 and all(counts == (1, 32) for *_, counts in stage.ran)
    rows = by_connections("iris", every, (1, 32), base=EMPTY)
    assert [(row.server, row.connections, row.workers) for row in rows] == [
        (EMPTY, 1, 1),
        (EMPTY, 32, 1),
        ("FastAPI", 1, 1),
        ("FastAPI", 32, 2),
    ]
    alone, crowd = rows[2:]
    assert (alone.rps, alone.other_workers_rps, crowd.rps, crowd.other_workers_rps) == (120.0, 100.0, 300.0, 100.0)
    assert alone.detail == "at 1 connection with 2 workers: p50 10.00 ms" and crowd.detail == ""
    assert (rows[0].ratio, alone.ratio, crowd.ratio) == (1.0, 0.25, 3.0)
    assert alone.rounds == 3 and alone.rss_mb == 50.0 and alone.first_answer_s == 0.5
    assert alone.elsewhere_cpu == pytest.approx(0.02)


def test_ratios_are_of_the_same_round() -> None:
    def one(*rates: float) -> Contender:
        return Contender(
            SERVERS[1], ONNX, 1, slices={32: {n: Slice(rate, 1.0, 1.0, 0) for n, rate in enumerate(rates) if rate}}
        )

    mine, base = one(10.0, 0, 90.0, 40.0), one(20.0, 50.0, 100.0, 400.0)
    assert ratio(mine, 32, base.rates(32)) == 0.5
    assert ratio(mine, 32, {1: 5.0}) is None


def test_latencies_have_their_range() -> None:
    slices = {n: Slice(100.0, p50, 10 * p50, 1, 0.1 * p50) for n, p50 in enumerate((3.0, 1.0, 2.0))}
    (row,) = by_connections("iris", [Contender(SERVERS[1], ONNX, 1, slices={32: slices})], (32,))
    assert (row.p50_ms, row.p50_low_ms, row.p50_high_ms) == (2.0, 1.0, 3.0)
    assert (row.p99_ms, row.p99_low_ms, row.p99_high_ms) == (20.0, 10.0, 30.0)
    assert row.elsewhere_cpu == pytest.approx(0.2) and row.errors == 3 and row.ratio is None
    assert "| 2.00 (1.00–3.00) | 20.00 (10.00–30.00) |" in _table([row], _NUMBERS)


def test_a_narrow_race_goes_on_with_the_better_workers_and_drops_the_other_engine_after_two_rounds(
    stage: Stage,
) -> None:
    stage.rates = {("MLServer", 2, 8): 200.0, ("MLServer", 2, 16): 250.0}
    every = [*both("MLServer", engine=INT8), *both("MLServer", engine=ONNX)]
    ran(every, narrowed(8, (4, 8, 16), lambda one: one.engine == INT8))
    first, second, third = stage.ran[:4], stage.ran[4:6], stage.ran[6:]
    assert {(engine, workers) for _, engine, workers, _ in first} == {(e, w) for e in (INT8, ONNX) for w in (1, 2)}
    assert all(counts == (8,) for *_, counts in first)
    assert {engine for _, engine, _, _ in second} == {INT8, ONNX}
    assert all((workers, counts) == (2, (4, 8, 16)) for *_, workers, counts in (*second, *third))
    assert [engine for _, engine, _, _ in third] == [INT8]
    row, _ = at_best("pictures", every, 8)
    assert (row.connections, row.workers, row.rps, row.rounds, row.other_workers_rps) == (16, 2, 250.0, 2, 100.0)


def test_what_is_measured_beside_ours_surrounds_each_visit_to_it(stage: Stage) -> None:
    seen: list[object] = []
    every = [Contender(BY_NAME[name], INT8, 1) for name in ("MLServer", "Shipworthy")]
    ran(every, everywhere(8), beside=seen.append, after=lambda: seen.append(stage.ran[-1][0]))
    mine = [[number, number, "Shipworthy"] for number in range(3)]
    assert [seen[at - 2 : at + 1] for at, one in enumerate(seen) if one == "Shipworthy"] == mine
    assert sorted(map(str, seen)) == sorted(["0", "0", "1", "1", "2", "2", *["MLServer", "Shipworthy"] * 3])


def test_the_order_of_a_round_is_its_own_and_the_same_in_every_run(stage: Stage) -> None:
    names = [server.name for server in SERVERS]
    for _ in range(2):
        ran([Contender(server, ONNX, 1) for server in SERVERS], everywhere(1))
    orders = [[name for name, *_ in stage.ran[at : at + len(names)]] for at in range(0, 6 * len(names), len(names))]
    assert orders[:3] == orders[3:] and len({tuple(order) for order in orders}) == 3
    assert all(sorted(order) == sorted(names) for order in orders)
    before = [{order[at + 1]: order[at] for at in range(len(names) - 1)} for order in orders[:3]]
    assert any(len({places.get(name) for places in before}) == 3 for name in names)


def test_who_never_answers_is_tried_once_and_who_fails_later_again(stage: Stage) -> None:
    def fails(name: str, workers: int, start: int) -> str | None:
        return "no | such port" if name == "LitServe" or (name == "FastAPI" and start == 2) else None

    stage.fails = fails
    told: list[str] = []
    every = ran([Contender(BY_NAME[name], ONNX, 1) for name in ("LitServe", "FastAPI")], everywhere(1), told)
    assert [name for name, *_ in stage.ran].count("LitServe") == 1
    assert sum("LitServe, 1 workers failed: no | such port" in line for line in told) == 1
    dead, alive = by_connections("iris", every, (1,))
    assert dead.rps is None and dead.error == "with 1 worker: no | such port"
    assert (alive.rounds, alive.error) == (2, "no | such port")
    text = _table([dead, alive], _NUMBERS)
    assert "| LitServe | failed: with 1 worker: no / such port |" in text
    assert "- FastAPI, onnxruntime-fp32: failed once or more: no / such port" in text


def test_who_starts_but_fails_under_load_is_tried_again(stage: Stage) -> None:
    every = [Contender(BY_NAME["FastAPI"], INT8, workers) for workers in (1, 2)]
    stage.wrong_after_load = {"FastAPI"}
    stage.recovers = 3
    ran(every, narrowed(8, (4, 8, 16), lambda one: True))
    assert [counts for *_, counts in stage.ran] == [(8,), (8,), (4, 8, 16), (4, 8, 16)]
    (row,) = at_best("pictures", every, 8)
    assert (row.rounds, row.workers) == (2, 1) and "other numbers" in (row.error or "") and "other" in row.detail


def test_rows_are_only_of_what_was_tried(stage: Stage) -> None:
    every = both("FastAPI", "LitServe")
    every[0].slices = {8: {0: Slice(5.0, 1.0, 1.0, 0)}}
    every[1].error = "died"
    assert [(row.server, row.rps, row.detail) for row in by_connections("iris", every, (8,))] == [
        ("FastAPI", 5.0, "with 2 workers: died")
    ]
    assert [(row.server, row.connections) for row in at_best("pictures", every, 8)] == [("FastAPI", 8)]


def test_answers_that_are_wrong_after_the_load_cost_the_whole_visit(stage: Stage) -> None:
    stage.wrong_after_load = {"FastAPI"}
    (one,) = ran([Contender(BY_NAME["FastAPI"], ONNX, 1)], everywhere(1, 32))
    assert one.slices == {} and one.error == "answers with other numbers than the engine" and one.firsts == []


def test_a_loud_slice_is_measured_once_more_and_the_quieter_one_kept(stage: Stage) -> None:
    told: list[str] = []
    stage.elsewhere = iter((0.9, 0.2, 0.05, 0.4, 0.7))
    (one,) = ran([Contender(BY_NAME["FastAPI"], ONNX, 1)], everywhere(1), told)
    assert [found.elsewhere_cpu for found in one.slices[1].values()] == [0.2, 0.05, 0.4]
    loud = [line for line in told if "elsewhere" in line]
    assert loud == [
        "FastAPI: 0.90 cores were used elsewhere, measured once more",
        "FastAPI: 0.20 cores were used elsewhere",
        "FastAPI: 0.40 cores were used elsewhere, measured once more",
        "FastAPI: 0.40 cores were used elsewhere",
    ]


def test_each_feature_is_a_row_against_the_whole_server(stage: Stage) -> None:
    written: list[int] = []
    ours = BY_NAME["Shipworthy"]
    rows = features(ours, EFFORT, lambda _: None, lambda rows: written.append(len(rows)))
    assert [row.server for row in rows] == [ours.name, *(f"{ours.name} without {part}" for part in PARTS)]
    assert all((row.ratio, row.rounds, row.workload) == (1.0, EFFORT.feature_rounds, "iris-features") for row in rows)
    assert len(written) == len(rows) * EFFORT.feature_rounds and written[: len(rows)] == list(range(1, len(rows) + 1))


def test_each_way_of_routing_is_a_row_against_the_file(stage: Stage) -> None:
    ours = BY_NAME["Shipworthy"]
    rows = routing(ours, EFFORT, lambda _: None, lambda rows: None)
    assert [row.server for row in rows] == [ours.name, *(f"{ours.name}, {state}" for state in STATES)]
    assert all((row.ratio, row.rounds, row.workload) == (1.0, EFFORT.feature_rounds, "iris-routing") for row in rows)


def test_a_server_that_is_watched_is_a_row_against_one_that_is_not(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(watching, "STARTS", 1)
    monkeypatch.setattr(watching, "PAIRS", 4)
    monkeypatch.setattr(watching, "REST_S", 0.0)
    monkeypatch.setattr(watching, "SLICE_S", 5.0)
    ours, kept, told = BY_NAME["Shipworthy"], [], []
    stage.fails = lambda name, workers, start: "it is gone" if start in (1, 4) else None
    rows = watching.monitoring(ours, EFFORT, told.append, lambda rows: kept.append([row.rounds for row in rows]))
    assert [row.server for row in rows] == [ours.name, f"{ours.name}, watched"]
    starts = EFFORT.feature_rounds
    assert kept[1:] == [[4, 4], *([4 * number] * 2 for number in range(1, starts - 1))], "a start counts as a whole"
    assert all((row.ratio, row.workload) == (1.0, "iris-monitoring") for row in rows)
    assert {row.error for row in rows} == {"it is gone"} and f"{IRIS.name}: it is gone" in told
    same = "× 1.000 (1.000–1.000; half of 12 pairs 1.00–1.00)"
    assert rows[1].detail == f"answers per second {same}; processor time of an answer 5000.0 and 5000.0 µs, {same}"
    assert [row.first_answer_s for row in rows] == [0.5, 0.5]


def test_pictures_are_against_our_graph_in_process(
    stage: Stage, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def alone(self: InProcess, number: int) -> None:
        self.rates[number] = 400.0
        self.elsewhere.append(0.0)

    monkeypatch.setattr(InProcess, "__call__", alone)
    stage.rates = {("Shipworthy", 1, 16): 300.0, ("FastAPI", 2, 8): 200.0}
    store = Store(tmp_path, tmp_path, {"date": "", "command": "", "revision": ""}, lambda _: None, order=ORDER)
    run = Run(EFFORT, (BY_NAME[EMPTY], BY_NAME["FastAPI"], BY_NAME["Shipworthy"]), False, lambda _: None, store)
    inside, *rows = WORKLOADS[UINT8.name].measure(run)
    assert (inside.workload, inside.rps, inside.rounds) == (f"{UINT8.name} in process", 400.0, 3)
    assert [(row.server, row.engine, row.workers, row.connections, row.ratio) for row in rows] == [
        ("FastAPI", ONNX, 2, 8, None),
        ("FastAPI", INT8, 2, 8, 0.5),
        ("Shipworthy", INT8, 1, 16, 0.75),
    ]
    assert [(row.server, row.rps) for row in store.rows if row.ours] == [("Shipworthy", 400.0), ("Shipworthy", 300.0)]


def test_a_slice_without_an_answer_ends_a_start(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(watching, "STARTS", 1)
    monkeypatch.setattr(watching, "REST_S", 0.0)
    monkeypatch.setattr(watching, "observed", lambda *given: (0.0, Slice(0.0, 0.0, 0.0, 0, server_cpu=0.0)))
    rows = watching.monitoring(BY_NAME["Shipworthy"], EFFORT, lambda _: None, lambda rows: None)
    assert {row.error for row in rows} == {"with 1 worker: Shipworthy, watched: no answer in a slice"}
