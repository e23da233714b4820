"""Closed load of benchmarks/serve: what wrk says, and what it cannot."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT))

from benchmarks.serve import closed as loads  # noqa: E402
from benchmarks.serve.closed import Slice, _read, closed  # noqa: E402
from benchmarks.serve.dialects import Request  # noqa: E402
from benchmarks.serve.process import Failed, free_port  # noqa: E402

REQUEST = Request("/predict", b"{}", {"content-type": "application/json"})


def wrk(folder: Path, script: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A program of that name which runs a shell script."""
    (folder / "wrk").write_text(f"#!/bin/sh\n{script}\n")
    (folder / "wrk").chmod(0o755)
    monkeypatch.setenv("PATH", f"{folder}:{os.environ['PATH']}")


def test_what_wrk_says_is_read() -> None:
    found = _read("RESULT 2000000 1000 200 3 250.000 1500.000 9000.000")
    assert found == Slice(rps=400.0, p50_ms=0.25, p99_ms=1.5, errors=203)
    assert free_port() > 1023


@pytest.mark.parametrize(
    ("script", "reason"),
    [
        ("echo 'unable to connect' >&2; exit 1", "wrk ended with status 1: unable to connect"),
        ("echo RESULT 2000000 nonsense", "wrk said 'RESULT 2000000 nonsense'"),
        ("echo RESULT 0 1 0 0 1 1 1", "wrk said"),
        ("echo RESULT 2000000 70 70 2 1 1 1", "no good answer under load with 4 connections, and 72 errors"),
        ("printf '\\377\\n'; exit 3", "wrk ended with status 3"),
    ],
)
def test_what_goes_wrong_is_a_failure(
    script: str, reason: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    wrk(tmp_path, script, monkeypatch)
    with pytest.raises(Failed, match=reason):
        closed(1, REQUEST, connections=4, seconds=1.0)


def test_wrk_that_does_not_end_is_a_failure(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def late(words: list[str], **_: object) -> None:
        raise subprocess.TimeoutExpired(words, 61.0)

    wrk(tmp_path, "exit 0", monkeypatch)
    monkeypatch.setattr(loads.subprocess, "run", late)
    with pytest.raises(Failed, match="wrk did not end"):
        closed(1, REQUEST, connections=4, seconds=1.0)


def test_without_wrk_the_reason_says_where_it_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(Failed, match="wrk is not installed"):
        closed(1, REQUEST, connections=4, seconds=1.0)
