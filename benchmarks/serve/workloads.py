"""What is measured: each workload on all servers, as rows."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from .cold import WORKLOAD as START
from .cold import starts
from .features import WORKLOAD as FEATURES
from .features import features
from .in_process import InProcess
from .models import FLOAT32, INT8, IRIS, ONNX, UINT8, Model
from .monitoring import WORKLOAD as MONITORING
from .monitoring import monitoring
from .open_loop import LOADS, QUICK_LOADS, best_peers, capacity, climb
from .open_loop import WORKLOAD as OPEN
from .race import Contender, Effort, Told, everywhere, narrowed, race
from .results import Result
from .routing import WORKLOAD as ROUTING
from .routing import routing
from .rows import at_best, by_connections, ratio
from .servers import EMPTY, Server
from .store import Store

IRIS_CONNECTIONS = (1, 32)
PICTURE_CONNECTIONS = (4, 8, 16, 32)
FIRST_CONNECTIONS = 8
"""With which numbers of workers are chosen for pictures."""
_ALONE = 2.0
"""Slices that the graph without a server has for all its batch sizes."""
_DEFAULT_PEERS = [("MLServer", 1), ("FastAPI", 1)]
"""Names and workers of those that climb where no rows say which are the best."""


@dataclass(frozen=True)
class Run:
    """What holds for all workloads."""

    effort: Effort
    servers: tuple[Server, ...]
    quick: bool
    told: Told
    store: Store

    def ours(self) -> list[Server]:
        return [server for server in self.servers if server.ours]


@dataclass(frozen=True)
class Workload:
    models: tuple[Model, ...]
    """That must have been built."""
    measure: Callable[[Run], list[Result]]


def iris(run: Run) -> list[Result]:
    every = [Contender(server, ONNX, workers) for server in run.servers for workers in server.workers]

    def rows() -> list[Result]:
        return by_connections(IRIS.name, every, IRIS_CONNECTIONS, base=EMPTY)

    plan = everywhere(*IRIS_CONNECTIONS)
    race(IRIS, every, plan, run.effort, run.told, after=lambda: run.store.keep(rows()))
    return rows()


def switched_off(run: Run) -> list[Result]:
    return [row for server in run.ours() for row in features(server, run.effort, run.told, run.store.keep)]


def routed(run: Run) -> list[Result]:
    return [row for server in run.ours() for row in routing(server, run.effort, run.told, run.store.keep)]


def watched(run: Run) -> list[Result]:
    return [row for server in run.ours() for row in monitoring(server, run.effort, run.told, run.store.keep)]


def pictures(model: Model) -> Callable[[Run], list[Result]]:
    def measured(run: Run) -> list[Result]:
        every = [
            Contender(server, engine, workers)
            for server in run.servers
            if server.pictures is not None
            for engine in ((INT8,) if server.ours else (ONNX, INT8))
            for workers in server.workers
        ]
        alone = InProcess(model, _ALONE * run.effort.slice_s)
        plan = narrowed(FIRST_CONNECTIONS, PICTURE_CONNECTIONS, lambda one: one.engine == INT8)

        def rows() -> list[Result]:
            found = at_best(model.name, every, FIRST_CONNECTIONS)
            return [alone.result(), *(_against(row, every, alone.rates) for row in found)]

        race(model, every, plan, run.effort, run.told, beside=alone, after=lambda: run.store.keep(rows()))
        return rows()

    return measured


def open_loop(run: Run) -> list[Result]:
    known = run.store.rows
    ours = [Contender(server, INT8, _workers(known, server)) for server in run.ours()]
    if not ours:
        return []
    run.told(f"{OPEN}: capacity")
    most = capacity(UINT8, ours[0], run.effort)
    by_name = {server.name: server for server in run.servers}
    named = best_peers(known, UINT8.name) or _DEFAULT_PEERS
    peers = [Contender(by_name[name], INT8, workers) for name, workers in named if name in by_name]
    loads = QUICK_LOADS if run.quick else LOADS
    every, effort = [*ours, *peers], run.effort
    return climb(UINT8, every, effort, run.told, loads, capacity_rps=most, keep=run.store.keep)


def cold(run: Run) -> list[Result]:
    return starts(IRIS, run.servers, ONNX, run.effort, run.told)


WORKLOADS: dict[str, Workload] = {
    IRIS.name: Workload((IRIS,), iris),
    FEATURES: Workload((IRIS,), switched_off),
    ROUTING: Workload((IRIS,), routed),
    MONITORING: Workload((IRIS,), watched),
    FLOAT32.name: Workload((FLOAT32,), pictures(FLOAT32)),
    UINT8.name: Workload((UINT8,), pictures(UINT8)),
    OPEN: Workload((UINT8,), open_loop),
    START: Workload((IRIS,), cold),
}
_PICTURES = [f"{model.name}{end}" for model in (FLOAT32, UINT8) for end in (" in process", "")]
ORDER = [IRIS.name, FEATURES, ROUTING, MONITORING, *_PICTURES, OPEN, START]


def _against(row: Result, contenders: Sequence[Contender], rates: dict[int, float]) -> Result:
    """With the ratio to what our graph gives in process, for those that run it."""
    if row.connections is None or row.engine != INT8:
        return row
    key = (row.server, row.engine, row.workers)
    one = next(one for one in contenders if (one.name, one.engine, one.workers) == key)
    return replace(row, ratio=ratio(one, row.connections, rates))


def _workers(known: Sequence[Result], server: Server) -> int:
    """Those that were better with closed load; 1 where that is not known."""
    return next(
        (row.workers for row in known if (row.workload, row.server) == (UINT8.name, server.name) and row.workers), 1
    )
