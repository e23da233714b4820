"""Closed load, by wrk: each connection sends its next request when it has the answer to the last.

wrk counts answers of every status as requests, and says how many had one of 400 and above; those are taken away here.
Its latencies are of answers of every status, and corrected for coordinated omission: where an answer took more than
twice the mean interval of a connection, wrk adds those that would have been sent meanwhile (`stats_correct` there)."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from dataclasses import dataclass
from pathlib import Path

from .dialects import Request
from .models import HERE
from .process import Failed


@dataclass(frozen=True)
class Slice:
    """What some seconds of load gave."""

    rps: float
    """Good answers per second."""
    p50_ms: float
    p99_ms: float
    """Of all answers."""
    errors: int
    """Answers with another status than 2xx and 3xx, and connections that failed."""
    elsewhere_cpu: float | None = None
    """Cores that were used neither by the server nor for the load; None where nobody looked."""
    server_cpu: float | None = None
    """Cores that the server used, its children with it."""


def closed(port: int, request: Request, *, connections: int, seconds: float) -> Slice:
    """Raises Failed where wrk is not there, gives up, or gets no good answer."""
    if shutil.which("wrk") is None:
        raise Failed("wrk is not installed; Debian has a package of that name")
    with tempfile.TemporaryDirectory() as folder:
        body = Path(folder) / "body"
        body.write_bytes(request.body)
        variables = {
            "BENCH_BODY": str(body),
            "BENCH_PATH": request.path,
            "BENCH_HEADERS": "".join(f"{name}: {value}\n" for name, value in request.headers.items()),
        }
        words = ["wrk", "-t1", f"-c{connections}", f"-d{max(1, round(seconds))}s", "--timeout", "30s", "--latency"]
        words += ["-s", str(HERE / "closed.lua"), f"http://127.0.0.1:{port}"]
        try:
            ended = subprocess.run(
                words,
                env={**os.environ, **variables},
                capture_output=True,
                text=True,
                errors="replace",
                timeout=seconds + 60,
            )
        except (OSError, subprocess.TimeoutExpired) as error:
            raise Failed(f"wrk did not end: {error}") from error
    line = next((line for line in ended.stdout.splitlines() if line.startswith("RESULT ")), None)
    if line is None:
        raise Failed(f"wrk ended with status {ended.returncode}: {(ended.stderr or ended.stdout).strip()[-200:]}")
    found = _read(line)
    if not found.rps:
        raise Failed(f"no good answer under load with {connections} connections, and {found.errors} errors")
    return found


def _read(line: str) -> Slice:
    try:
        micros, requests, refused, broken, p50, p99, _ = map(float, line.split()[1:])
        return Slice((requests - refused) / (micros / 1e6), p50 / 1e3, p99 / 1e3, int(refused + broken))
    except (ValueError, ZeroDivisionError) as error:
        raise Failed(f"wrk said {line!r}") from error
