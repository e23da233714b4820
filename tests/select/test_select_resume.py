"""A build that is killed at any moment ends with the same verdicts, and repeats no finished measurement."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import textwrap
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from shipworthy.contract import Contract, contract_toml
from shipworthy.select import read_journal

_BUILD = """
import json, sys
from pathlib import Path
from typing import Any
from shipworthy.contract import read_contract
from shipworthy.measure import Course, SurveyTimes
from shipworthy.select import Effort, build

times = SurveyTimes(curve_s=0.02, point_s=0.01, warm_s=0.005)
report = build(read_contract(Path(sys.argv[1])), work=Path(sys.argv[2]), engines=sys.argv[4:],
    progress=False, effort=Effort(times=times, course=Course(rounds=4, slice_s=0.02)))
rows = {row.candidate.id: [row.verdict, row.gate] for row in report.record.results}
Path(sys.argv[3]).write_text(json.dumps({"chosen": report.record.chosen, "rows": rows}))
"""


@pytest.mark.full
@pytest.mark.long
@pytest.mark.timeout(1800)
def test_a_killed_build_resumes(
    iris: Path, iris_contract: Callable[..., Contract], tmp_path: Path, effort: float
) -> None:
    # Sizes do not scatter as speeds do, so that an undisturbed build must come to the very same verdicts.
    contract = iris_contract(target={"threads": 1, "objective": "size"})
    path = iris / "resume.toml"
    path.write_text(contract_toml(contract))
    (tmp_path / "build_it.py").write_text(textwrap.dedent(_BUILD))
    engines = ["onnxruntime", "openvino"] if effort == 1 else ["onnxruntime"]
    told = (tmp_path / "build_it.py", path, engines)
    other = _finish(*told, tmp_path / "undisturbed", tmp_path / "other.json")
    assert other["rows"]["torch-fp32"] == ["baseline", None]
    assert other["chosen"] in ("onnxruntime-fp32", "openvino-fp32")

    wanted, kills, random = max(1, int(30 * effort)), 0, np.random.default_rng(os.getpid())
    while kills < wanted:
        work = tmp_path / f"killed-after-{kills}"
        while kills < wanted and _killed(_start(*told, work, tmp_path / "killed.json"), random.uniform(3.0, 12.0)):
            kills += 1
        assert _finish(*told, work, tmp_path / "resumed.json") == other
        _nothing_finished_was_started_again(work)
        started = len([entry for entry in read_journal(work) if entry.event == "started"])
        assert _finish(*told, work, tmp_path / "again.json") == other
        assert len([entry for entry in read_journal(work) if entry.event == "started"]) == started


def _killed(process: subprocess.Popen[bytes], after: float) -> bool:
    """Kill it after so many seconds; False where it was done before."""
    try:
        process.communicate(timeout=after)
    except subprocess.TimeoutExpired:
        process.send_signal(signal.SIGKILL)
        process.communicate()
        return True
    assert process.returncode == 0
    return False


def _start(script: Path, contract: Path, engines: list[str], work: Path, out: Path) -> subprocess.Popen[bytes]:
    command = [sys.executable, str(script), str(contract), str(work), str(out), *engines]
    return subprocess.Popen(command, stderr=subprocess.PIPE, start_new_session=True)


def _finish(script: Path, contract: Path, engines: list[str], work: Path, out: Path) -> dict[str, Any]:
    process = _start(script, contract, engines, work, out)
    _, words = process.communicate(timeout=240)
    assert process.returncode == 0, words.decode()
    found: dict[str, Any] = json.loads(out.read_text())
    return found


def _nothing_finished_was_started_again(work: Path) -> None:
    finished: set[str] = set()
    for entry in read_journal(work):
        if entry.event == "started":
            assert entry.key not in finished, f"{entry.stage} of {entry.subject} was repeated"
        elif entry.event == "finished":
            finished.add(entry.key)
    assert finished
