"""The rows of the results, as JSON."""

from __future__ import annotations

import json
import platform
import subprocess
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, fields
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path
from typing import Any

from .models import HERE, ROOT


@dataclass(frozen=True)
class Result:
    """One server under one load. What does not apply, or was not reached, is None."""

    workload: str
    server: str
    ours: bool
    connections: int | None = None
    """Of a closed load."""
    offered_rps: float | None = None
    """Of an open load."""
    rps: float | None = None
    """Good answers per second: the median of the rounds, or under open load, where only those until its end
    count, the mean."""
    goodput_rps: float | None = None
    """Good answers per second that came within the target, counted from the intended send time."""
    p50_ms: float | None = None
    p99_ms: float | None = None
    """Under closed load the medians of the rounds, of all answers, corrected by wrk for coordinated omission. Under
    open load of everything that was not refused, from the intended send time: the mean of the rounds, and the worst."""
    rss_mb: float | None = None
    """All processes of the server together, when the load ends; what they share is counted in each."""
    first_answer_s: float | None = None
    """From the command to the first good answer: the median of the starts or rounds."""
    workers: int | None = None
    other_workers_rps: float | None = None
    """With the other number of workers, which was not better; for pictures in the first round."""
    engine: str | None = None
    rps_low: float | None = None
    rps_high: float | None = None
    """Slowest and fastest round, or first answer."""
    first_answer_low_s: float | None = None
    first_answer_high_s: float | None = None
    goodput_low_rps: float | None = None
    goodput_high_rps: float | None = None
    p50_low_ms: float | None = None
    p50_high_ms: float | None = None
    p99_low_ms: float | None = None
    p99_high_ms: float | None = None
    """Least and most of the rounds or steps."""
    elsewhere_cpu: float | None = None
    """Cores that neither the server nor the load generator nor the benchmark itself used while it was measured, with
    what the host took away: the median of the rounds, or the most of the open load's. Above 0.1 it was not quiet."""
    rounds: int | None = None
    errors: int | None = None
    """Answers with another status than 200, and broken connections."""
    ratio: float | None = None
    """Of its answers per second, the median of the rounds: to those of the empty application for numbers, to the whole
    server's where a feature is off, to those in process for pictures."""
    target_ms: float | None = None
    capacity_rps: float | None = None
    refused: int | None = None
    """Answers with status 503."""
    refusal_ms: float | None = None
    """Median, from the intended send time."""
    late: int | None = None
    """Good answers after the target."""
    unanswered: int | None = None
    """When the load had ended, and twice the target and a second more."""
    rss_before_mb: float | None = None
    rss_peak_mb: float | None = None
    lag_p99_ms: float | None = None
    """How late the load generator itself was."""
    generator_cpu: float | None = None
    """Share of one core that the load generator used."""
    detail: str = ""
    error: str | None = None


def read(path: Path) -> tuple[list[Result], dict[str, Any]]:
    """Rows and environment; nothing where there is no file."""
    if not path.exists():
        return [], {}
    stored = json.loads(path.read_text())
    return [Result(**row) for row in stored["rows"]], stored["environment"]


def merged(kept: Iterable[Result], new: Sequence[Result], order: Sequence[str]) -> list[Result]:
    """The newest rows of each workload, in the order of the workloads."""
    fresh = {(row.workload, row.server) for row in new}
    rows = [*(row for row in kept if (row.workload, row.server) not in fresh), *new]
    return sorted(rows, key=lambda row: order.index(row.workload) if row.workload in order else len(order))


def write(path: Path, rows: Sequence[Result], environment: dict[str, Any]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    text = json.dumps({"environment": environment, "rows": [asdict(row) for row in rows]}, indent=1)
    unfinished = path.with_suffix(".new")
    unfinished.write_text(text + "\n")
    unfinished.replace(path)


def environment(command: str) -> dict[str, Any]:
    """The machine, the day, and the version of every server."""
    import psutil

    from shipworthy.runtime import this_host

    host = this_host()
    telling = [flag for flag in sorted(host.isa) if flag.startswith(("avx512_vnni", "avx512_bf16", "amx"))]
    return {
        "cpu": host.cpu,
        "isa": telling,
        "cores": psutil.cpu_count(),
        "memory_gib": round(psutil.virtual_memory().total / 2**30),
        "system": f"{platform.system()} {platform.release()}",
        "python": platform.python_version(),
        "date": f"{datetime.now(UTC):%Y-%m-%d}",
        "command": command,
        "revision": revision(),
        "versions": _versions(),
    }


def revision(root: Path = ROOT) -> str:
    """Of the source, with `+` where the tree has changes; empty where git does not know it."""
    # What an earlier run has written is no change of what is measured.
    paths = ("src", "benchmarks", ":!benchmarks/*/results.*")
    head = _git(root, "rev-parse", "--short=12", "HEAD")
    return head + ("+" if head and _git(root, "status", "--porcelain", "--", *paths) else "")


def _git(root: Path, *words: str) -> str:
    try:
        return subprocess.run(["git", *words], cwd=root, capture_output=True, text=True, check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return ""


_TOLD = ("uvicorn", "fastapi", "litserve", "bentoml", "mlserver", "ray", "torchserve", "onnxruntime", "openvino")


def _versions() -> dict[str, str]:
    found = {"shipworthy": metadata.version("shipworthy")}
    for listed in sorted((HERE / "peers").glob("*.txt")):
        for line in listed.read_text().splitlines():
            name, _, version = line.partition("==")
            if name.lower() in _TOLD:
                found.setdefault(name.lower(), version)
    return found


FIELDS = tuple(field.name for field in fields(Result))
