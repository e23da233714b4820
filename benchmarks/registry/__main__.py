"""`python -m benchmarks.registry`: fills registries on SQLite and PostgreSQL, and times what is asked of them."""

from __future__ import annotations

import argparse
import os
import platform
import shutil
import sqlite3
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.registry import postgres_server

from shipworthy.registry import Registry

from .filling import Packages, fill
from .timing import Timing, measure

TARGET_MS = 20
MODELS = (20, 1)
"""Over how many models the versions are spread: a registry each."""
RESULTS = Path(__file__).with_name("results.md")


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.registry")
    parser.add_argument("--versions", type=int, default=10_000)
    parser.add_argument("--rounds", type=int, default=200, help="how often each operation is timed")
    parser.add_argument("--only", choices=("sqlite", "postgresql"))
    parser.add_argument("--out", type=Path, help="by default results.md here, for a whole run only")
    given = parser.parse_args()
    tables: dict[str, list[Timing]] = {}
    notes: list[str] = []
    with tempfile.TemporaryDirectory(prefix="shipworthy-bench-") as work:
        os.environ["XDG_CACHE_HOME"] = str(Path(work) / "cache")
        for kind in ("sqlite", "postgresql") if given.only is None else (given.only,):
            for models in MODELS:
                folder = Path(work) / f"{kind}-{models}"
                folder.mkdir()
                with _place(kind, folder) as (url, called):
                    if url is None:
                        notes.append(called)
                        break
                    timings, note = _one(url, folder, models, given.versions, given.rounds)
                column = f"{called}, {models} model{'s' * (models > 1)}"
                tables[column] = timings
                notes.append(f"{column}: {note}")
                shutil.rmtree(folder)
    text = _page(tables, notes, given.versions, given.rounds)
    sys.stdout.write(text)
    whole = given.only is None and given.versions >= 10_000
    out = given.out or (RESULTS if whole else None)
    if out is not None:
        out.write_text(text)


def _one(url: str, folder: Path, models: int, versions: int, rounds: int) -> tuple[list[Timing], str]:
    with Registry(url, artifacts=str(folder / "blobs"), who="benchmark") as registry:
        packages = Packages(folder)
        began = time.perf_counter()
        fill(registry, packages, models, versions)
        seconds = time.perf_counter() - began
        filled = f"{versions} versions and {registry.newest_event()} events written in {seconds:.0f} s by one process"
        return measure(registry, packages, models, rounds), filled


@contextmanager
def _place(kind: str, folder: Path) -> Iterator[tuple[str | None, str]]:
    """A url, and what the database is called; without a url, why there is none."""
    if kind == "sqlite":
        yield str(folder / "registry"), f"SQLite {sqlite3.sqlite_version}"
        return
    missing = postgres_server.missing()
    if missing is not None:
        yield None, missing
        return
    with postgres_server.running() as server:
        version = server.execute("SHOW server_version")[0][0].split()[0]
        yield server.new_database(), f"PostgreSQL {version}"


def _page(tables: dict[str, list[Timing]], notes: list[str], versions: int, rounds: int) -> str:
    head = " | ".join(f"{called}: median | p95" for called in tables)
    lines = [
        "# A registry with many versions",
        "",
        f"{versions:,} versions of {' or '.join(map(str, MODELS))} models, each a package of its own, made from the "
        f"one before it and champion until the next. Milliseconds of {rounds} whole calls, on models and versions at "
        "random; the operations take turns. A change is on the disk when its call returns.",
        "",
        f"| operation | {head} |",
        "|---|" + "--:|--:|" * len(tables),
    ]
    for row in zip(*tables.values(), strict=True):
        cells = " | ".join(f"{timing.median:.1f} | {timing.p95:.1f}" for timing in row)
        lines.append(f"| {row[0].operation} | {cells} |")
    every = [(timing, called) for called, timings in tables.items() for timing in timings if timing.judged]
    worst, called = max(every, key=lambda one: one[0].median)
    missed = sorted({timing.operation for timing, _ in every if timing.median > TARGET_MS})
    verdict = f"missed by {', '.join(missed)}" if missed else "kept"
    slowest = f"the slowest, {worst.operation!r} on {called}, has {worst.median:.1f} ms"
    aim = f"Aim: a median of at most {TARGET_MS} ms for every operation on versions and aliases; {slowest}: {verdict}."
    lines += ["", f"{aim} To open a connection, to pull and to collect garbage is not among them.", ""]
    lines += [f"- {note}" for note in notes]
    host = f"{os.cpu_count()} cores, {platform.system()} {platform.machine()}, Python {platform.python_version()}"
    lines += [f"- {host}; load of the last minute at the end {os.getloadavg()[0]:.1f}", ""]
    return "\n".join(lines)


if __name__ == "__main__":
    main()
