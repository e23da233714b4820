"""What the package gives without a server, between the rounds of benchmarks/serve."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT))

from benchmarks.serve import in_process  # noqa: E402
from benchmarks.serve.in_process import InProcess  # noqa: E402
from benchmarks.serve.models import UINT8  # noqa: E402


def test_rates_are_kept_by_the_round_and_what_goes_wrong_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    def run(words: list[str], **_: object) -> subprocess.CompletedProcess[str]:
        code, out, error = said.pop(0)
        return subprocess.CompletedProcess(words, code, out, error)

    def rate(value: float) -> str:
        return json.dumps(
            {"rate": value, "variant": "static", "streams": 2, "batch": 4, "rates": {"1": 9.0, "4": value}}
        )

    monkeypatch.setattr(in_process.subprocess, "run", run)
    said = [
        (0, rate(300.0), ""),
        (0, "no JSON", ""),
        (0, rate(60.0), ""),
        (0, rate(140.0), ""),
        (1, "", "Traceback\nOSError: gone"),
    ]
    alone = InProcess(UINT8, 1.0)
    for number in range(2):
        alone(number)
    assert alone.error is not None and "said 'no JSON'" in alone.error
    for number in (2, 2, 3):
        alone(number)
    row = alone.result()
    assert alone.rates == {0: 300.0, 2: 100.0}, "the mean of the measurements of a round"
    assert (row.rps, row.rps_low, row.rps_high, row.rounds) == (200.0, 100.0, 300.0, 2)
    assert (row.error, row.detail) == ("OSError: gone", "static, 2 streams, batches of 4 (9/s of 1, 140/s of 4)")
    assert row.elsewhere_cpu is not None
    assert InProcess(UINT8, 1.0).result().rps is None
