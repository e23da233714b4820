"""`make bench-serve`: all servers, all workloads, one run; see benchmarks/README.md."""

from __future__ import annotations

import argparse
import shlex
import signal
import sys
import time
import traceback
from collections.abc import Callable, Sequence
from pathlib import Path
from types import FrameType

from . import results
from .models import CACHE, HERE, Model
from .prepare import prepare
from .process import Failed
from .race import Effort, Told
from .servers import SERVERS
from .store import Store
from .workloads import ORDER, WORKLOADS, Run


def main(words: list[str]) -> int:
    said = _arguments(words)
    scratch, final = _places(said)
    began = time.monotonic()

    def told(text: str) -> None:
        print(f"{time.monotonic() - began:7.1f} s  {text}", file=sys.stderr, flush=True)  # noqa: T201

    _end_orderly()
    environment = results.environment(
        shlex.join(["make", "bench-serve", *([f"ARGS={shlex.join(words)}"] if words else [])])
    )
    store = Store(scratch, final, environment, told, order=ORDER, keep=said.keep)
    servers = tuple(server for server in SERVERS if not said.servers or server.name in said.servers)
    run = Run(Effort.quick() if said.quick else Effort(), servers, said.quick, told, store)
    names = said.only or tuple(WORKLOADS)
    unbuilt = built([model for name in names for model in WORKLOADS[name].models], told, rebuild=said.rebuild)
    failed = [name for name in names if not measured(name, run, unbuilt)]
    store.finish(failed=len(failed))
    return 1 if failed else 0


def built(models: Sequence[Model], told: Told, *, rebuild: bool) -> dict[str, str]:
    """All data and packages, before anything is measured; the errors of the models that have none."""
    errors: dict[str, str] = {}
    for model in dict.fromkeys(models):
        told(f"{model.name}: data and package")
        try:
            prepare(model, rebuild=rebuild)
        except (Failed, OSError) as error:
            told(f"{model.name}: {error}")
            errors[model.name] = str(error)
    return errors


def measured(name: str, run: Run, unbuilt: dict[str, str]) -> bool:
    """Whether a workload gave figures. What it raises is told with its traceback, and the next one has its turn."""
    for model in WORKLOADS[name].models:
        if model.name in unbuilt:
            run.told(f"{name}: {unbuilt[model.name]}")
            return False
    try:
        rows = WORKLOADS[name].measure(run)
        run.store.keep(rows)
    except Failed as error:
        run.told(f"{name}: {error}")
        return False
    except Exception:  # noqa: BLE001  one workload must not take the others' hour with it
        run.told(f"{name}: {traceback.format_exc()}")
        return False
    finally:
        run.store.show()
    run.told(f"{name}: done")
    # Nothing to measure is no failure: without ours there is no open load.
    return not rows or any(row.rps is not None or row.first_answer_s is not None for row in rows)


def _places(said: argparse.Namespace) -> tuple[Path, Path]:
    """Where results are written as they come, and where they are when the run is over."""
    scratch = CACHE / "results"
    final = said.out or (scratch if said.only or said.servers or said.quick else HERE)
    return (scratch if final == HERE else final), final


def _end_orderly() -> None:
    """The servers are in sessions of their own, and would outlive a process that just ends."""

    def end(number: int, frame: FrameType | None) -> None:
        for each in (signal.SIGTERM, signal.SIGHUP):
            signal.signal(each, signal.SIG_IGN)
        raise SystemExit(128 + number)

    for each in (signal.SIGTERM, signal.SIGHUP):
        # nohup has said that it is to be ignored.
        if signal.getsignal(each) is not signal.SIG_IGN:
            signal.signal(each, end)


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
    parser.add_argument(
        "--out", type=_folder, help="where results stay: by default benchmarks/serve, for a part of it the cache"
    )
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
