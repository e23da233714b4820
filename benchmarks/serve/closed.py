"""Closed load, by wrk: each connection sends its next request when it has the answer to the last."""

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
    errors: int
    """Answers with another status than 2xx and 3xx, and connections that failed."""


def closed(port: int, request: Request, *, connections: int, seconds: float) -> Slice:
    """Raises Failed where wrk is not there, or gives up."""
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
        ended = subprocess.run(
            words, env={**os.environ, **variables}, capture_output=True, text=True, timeout=seconds + 60
        )
    line = next((line for line in ended.stdout.splitlines() if line.startswith("RESULT ")), None)
    if line is None:
        raise Failed(f"wrk ended with status {ended.returncode}: {(ended.stderr or ended.stdout).strip()[-200:]}")
    return _read(line)


def _read(line: str) -> Slice:
    micros, requests, refused, broken, p50, p99, _ = map(float, line.split()[1:])
    return Slice((requests - refused) / (micros / 1e6), p50 / 1e3, p99 / 1e3, int(refused + broken))
