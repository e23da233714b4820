"""A build that is killed at any moment ends with the same verdicts, and repeats no finished measurement."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import textwrap
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from shipworthy.contract import Contract, contract_toml
from shipworthy.select import read_journal

_BUILD = """
import json, sys
from pathlib import Path
from shipworthy.contract import read_contract
from shipworthy.measure import Course, SurveyTimes
from shipworthy.select import Effort, build

times = SurveyTimes(curve_s=0.02, point_s=0.01, warm_s=0.005)
report = build(read_contract(Path(sys.argv[1])), work=Path(sys.argv[2]), engines=["onnxruntime", "openvino"],
    progress=False, effort=Effort(times=times, course=Course(rounds=4, slice_s=0.02)))
rows = {row.candidate.id: [row.verdict, row.gate] for row in report.record.results}
Path(sys.argv[3]).write_text(json.dumps({"chosen": report.record.chosen, "rows": rows}))
"""


@pytest.mark.long
@pytest.mark.timeout(1800)
def test_a_killed_build_resumes(
    iris: Path, iris_contract: Callable[..., Contract], tmp_path: Path, effort: float
) -> None:
    # Sizes do not scatter as speeds do, so that an undisturbed build must come to the very same verdicts.
    contract = iris_contract(target={"threads": 1, "objective": "size"})
    path = iris / "resume.toml"
    path.write_text(contract_toml(contract))
    script = tmp_path / "build_it.py"
    script.write_text(textwrap.dedent(_BUILD))
    work, kills, random = tmp_path / "work", max(2, int(30 * effort)), np.random.default_rng(os.getpid())
    for _ in range(kills):
        process = _start(script, path, work, tmp_path / "killed.json")
        time.sleep(float(random.uniform(2.0, 14.0)))
        _kill(process)
    first = _finish(script, path, work, tmp_path / "first.json")
    assert first["rows"]["torch-fp32"] == ["baseline", None]
    assert first["chosen"] in ("onnxruntime-fp32", "openvino-fp32")
    _nothing_finished_was_started_again(work)

    before = len([entry for entry in read_journal(work) if entry.event == "started"])
    assert _finish(script, path, work, tmp_path / "again.json") == first
    assert len([entry for entry in read_journal(work) if entry.event == "started"]) == before
    assert _finish(script, path, tmp_path / "undisturbed", tmp_path / "other.json") == first


def _start(script: Path, contract: Path, work: Path, out: Path) -> subprocess.Popen[bytes]:
    command = [sys.executable, str(script), str(contract), str(work), str(out)]
    return subprocess.Popen(command, stderr=subprocess.PIPE, start_new_session=True)


def _kill(process: subprocess.Popen[bytes]) -> None:
    process.send_signal(signal.SIGKILL)
    process.communicate()


def _finish(script: Path, contract: Path, work: Path, out: Path) -> dict[str, object]:
    process = _start(script, contract, work, out)
    _, words = process.communicate(timeout=240)
    assert process.returncode == 0, words.decode()
    found: dict[str, object] = json.loads(out.read_text())
    return found


def _nothing_finished_was_started_again(work: Path) -> None:
    finished: set[str] = set()
    for entry in read_journal(work):
        if entry.event == "started":
            assert entry.key not in finished, f"{entry.stage} of {entry.subject} was repeated"
        elif entry.event == "finished":
            finished.add(entry.key)
    assert finished
