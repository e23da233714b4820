"""`make bench-serve`: all servers, all workloads, one run; see benchmarks/README.md."""

from __future__ import annotations

import argparse
import shlex
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from . import picture, results, tables
from .cold import WORKLOAD as START
from .cold import starts
from .features import WORKLOAD as FEATURES
from .features import features
from .in_process import InProcess
from .models import CACHE, FLOAT32, HERE, INT8, IRIS, ONNX, UINT8, Model
from .open_loop import CONNECTIONS, LOADS, QUICK_LOADS, best_peers, capacity, climb
from .open_loop import WORKLOAD as OPEN
from .prepare import prepare
from .process import Failed
from .race import Contender, Effort, Told, race
from .race import results as rows_of
from .results import Result
from .servers import SERVERS, Server

IRIS_CONNECTIONS = (1, 32)
_DEFAULT_PEERS = ["MLServer", "FastAPI"]
"""Which climb where no rows say which are the best."""


@dataclass(frozen=True)
class Run:
    """What holds for all workloads."""

    effort: Effort
    servers: tuple[Server, ...]
    rebuild: bool
    quick: bool
    told: Told
    prepared: set[str]

    def ready(self, *models: Model) -> None:
        """Raises Failed where a model cannot be built."""
        for model in models:
            if model.name not in self.prepared:
                self.told(f"{model.name}: data and package")
                prepare(model, rebuild=self.rebuild)
                self.prepared.add(model.name)

    def ours(self) -> list[Server]:
        return [server for server in self.servers if server.ours]


def iris(run: Run, known: Sequence[Result]) -> list[Result]:
    run.ready(IRIS)
    every = [Contender(server, ONNX, workers) for server in run.servers for workers in server.workers]
    kept = race(IRIS, every, IRIS_CONNECTIONS, run.effort, run.told, deciding=max(IRIS_CONNECTIONS))
    return rows_of(IRIS.name, kept, every)


def switched_off(run: Run, known: Sequence[Result]) -> list[Result]:
    run.ready(IRIS)
    return [row for server in run.ours() for row in features(server, run.effort, run.told)]


def pictures(model: Model) -> Callable[[Run, Sequence[Result]], list[Result]]:
    def measured(run: Run, known: Sequence[Result]) -> list[Result]:
        run.ready(model)
        every = [
            Contender(server, engine, workers)
            for server in run.servers
            if server.pictures is not None
            for engine in ((INT8,) if server.ours else (ONNX, INT8))
            for workers in server.workers
        ]
        alone = InProcess(model, run.effort.slice_s)
        kept = race(model, every, CONNECTIONS, run.effort, run.told, beside=alone, narrow=True)
        rows = rows_of(model.name, kept, every, only_best=True)
        if alone.rates:
            rows = [_against(row, alone.rate) for row in rows]
        return [alone.result(), *rows]

    return measured


def open_loop(run: Run, known: Sequence[Result]) -> list[Result]:
    run.ready(UINT8)
    ours = [Contender(server, INT8, _workers(known, server)) for server in run.ours()]
    if not ours:
        return []
    run.told(f"{OPEN}: capacity")
    most = capacity(UINT8, ours[0], run.effort)
    named = best_peers(known, UINT8.name) or [(name, 1) for name in _DEFAULT_PEERS]
    by_name = {server.name: server for server in run.servers}
    peers = [Contender(by_name[name], INT8, workers) for name, workers in named if name in by_name]
    loads = QUICK_LOADS if run.quick else LOADS
    return climb(UINT8, [*ours, *peers], run.effort, run.told, loads, capacity_rps=most)


def cold(run: Run, known: Sequence[Result]) -> list[Result]:
    run.ready(IRIS)
    return starts(IRIS, run.servers, ONNX, run.effort, run.told)


WORKLOADS: dict[str, Callable[[Run, Sequence[Result]], list[Result]]] = {
    IRIS.name: iris,
    FEATURES: switched_off,
    FLOAT32.name: pictures(FLOAT32),
    UINT8.name: pictures(UINT8),
    OPEN: open_loop,
    START: cold,
}
ORDER = [IRIS.name, FEATURES, *(f"{m.name}{end}" for m in (FLOAT32, UINT8) for end in (" in process", "")), OPEN, START]


def main(words: list[str]) -> int:
    said = _arguments(words)
    whole = not (said.only or said.servers or said.quick)
    out = said.out or (HERE if whole else CACHE / "results")
    began = time.monotonic()

    def told(text: str) -> None:
        print(f"{time.monotonic() - began:7.1f} s  {text}", file=sys.stderr, flush=True)  # noqa: T201

    servers = tuple(server for server in SERVERS if not said.servers or server.name in said.servers)
    effort = Effort.quick() if said.quick else Effort()
    run = Run(effort, servers, said.rebuild, said.quick, told, set())
    rows = results.read(out / "results.json")[0] if said.keep else []
    environment = results.environment(
        shlex.join(["make", "bench-serve", *([f"ARGS={shlex.join(words)}"] if words else [])])
    )
    failed = 0
    for name in said.only or WORKLOADS:
        try:
            found = WORKLOADS[name](run, rows)
        except (Failed, OSError) as error:
            told(f"{name}: {error}")
            failed += 1
            continue
        rows = results.merged(rows, found, ORDER)
        environment["seconds"] = round(time.monotonic() - began)
        results.write(out / "results.json", rows, environment)
        (out / "results.md").write_text(tables.markdown(rows, environment))
        picture.write(out, rows)
        told(f"{name}: written to {out}")
    return 1 if failed else 0


def _against(row: Result, rate: float) -> Result:
    if row.rps is None or row.engine != INT8:
        return row
    return replace(row, ratio=row.rps / rate)


def _workers(known: Sequence[Result], server: Server) -> int:
    """Those that were better with closed load; 1 where that is not known."""
    return next(
        (row.workers for row in known if (row.workload, row.server) == (UINT8.name, server.name) and row.workers), 1
    )


def _arguments(words: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="make bench-serve ARGS=…", description=__doc__)
    names = tuple(server.name for server in SERVERS)
    parser.add_argument(
        "--only",
        type=_names(tuple(WORKLOADS)),
        default=(),
        help="workloads, with commas between: " + ", ".join(WORKLOADS),
    )
    parser.add_argument("--servers", type=_names(names), default=(), help="servers: " + ", ".join(names))
    parser.add_argument("--quick", action="store_true", help="one short round of each")
    parser.add_argument("--rebuild", action="store_true", help="build the packages anew")
    parser.add_argument("--keep", action="store_true", help="keep the results of what is not run now")
    parser.add_argument("--out", type=_folder, help="where results go; by default here, a part of the run elsewhere")
    return parser.parse_args(words)


def _names(known: tuple[str, ...]) -> Callable[[str], tuple[str, ...]]:
    def parse(text: str) -> tuple[str, ...]:
        names = tuple(name.strip() for name in text.split(",") if name.strip())
        if unknown := [name for name in names if name not in known]:
            raise argparse.ArgumentTypeError(f"{', '.join(unknown)}: the names are {', '.join(known)}")
        return names

    return parse


def _folder(text: str) -> Path:
    return Path(text).resolve()


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
