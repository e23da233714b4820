"""`python -m benchmarks.registry`: fills registries on SQLite and PostgreSQL, and times what is asked of them."""

from __future__ import annotations

import argparse
import os
import platform
import sqlite3
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.registry import postgres_server

from shipworthy.registry import Registry

from .filling import MODELS, Packages, fill
from .timing import OPENING, Timing, measure

TARGET_MS = 20
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
        for kind in ("sqlite", "postgresql") if given.only is None else (given.only,):
            folder = Path(work) / kind
            folder.mkdir()
            with _place(kind, folder) as (url, called):
                if url is None:
                    notes.append(called)
                    continue
                timings, note = _one(url, folder, given.versions, given.rounds)
            tables[called] = timings
            notes.append(f"{called}: {note}")
    text = _page(tables, notes, given.versions, given.rounds)
    sys.stdout.write(text)
    whole = given.only is None and given.versions >= 10_000
    out = given.out or (RESULTS if whole else None)
    if out is not None:
        out.write_text(text)


def _one(url: str, folder: Path, versions: int, rounds: int) -> tuple[list[Timing], str]:
    with Registry(url, artifacts=str(folder / "blobs"), who="benchmark") as registry:
        packages = Packages(folder)
        began = time.perf_counter()
        fill(registry, packages, versions)
        seconds = time.perf_counter() - began
        filled = f"{versions} versions and {registry.newest_event()} events written in {seconds:.0f} s by one process"
        return measure(registry, packages, rounds), filled


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
        f"{versions:,} versions of {MODELS} models, each a package of its own. Milliseconds of {rounds} whole calls, "
        "on models and versions at random; the operations take turns. A change is on the disk when its call returns.",
        "",
        f"| operation | {head} |",
        "|---|" + "--:|--:|" * len(tables),
    ]
    for row in zip(*tables.values(), strict=True):
        cells = " | ".join(f"{timing.median:.1f} | {timing.p95:.1f}" for timing in row)
        lines.append(f"| {row[0].operation} | {cells} |")
    every = [timing for timings in tables.values() for timing in timings if timing.operation != OPENING]
    worst = max(every, key=lambda timing: timing.median)
    verdict = "kept" if worst.median <= TARGET_MS else "missed"
    slowest = f"the slowest, {worst.operation!r}, has {worst.median:.1f} ms"
    lines += ["", f"Aim: a median of at most {TARGET_MS} ms for each but opening; {slowest}: {verdict}.", ""]
    lines += [f"- {note}" for note in notes]
    host = f"{os.cpu_count()} cores, {platform.system()} {platform.machine()}, Python {platform.python_version()}"
    lines += [f"- {host}; load of the last minute at the end {os.getloadavg()[0]:.1f}", ""]
    return "\n".join(lines)


if __name__ == "__main__":
    main()
