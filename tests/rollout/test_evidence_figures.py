"""The benchmark of rollouts: its tables and its picture, of a few short runs."""

from __future__ import annotations

import json
import sys
from dataclasses import asdict, replace
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[2]))

from benchmarks.rollout import guardrails, picture, power, rates, results
from benchmarks.rollout.results import Found, Power


@pytest.fixture(scope="module")
def found() -> Found:
    wanted = {("shadow, 5 % disagree", -0.05), ("shadow, 5 % disagree", -0.02), ("canary, share .5", -0.05)}
    cells = [power.measure(*cell, runs=10, seed=1) for cell in power.settings() if (cell[0], cell[1]) in wanted]
    boundary = replace(rates.BOUNDARIES[1], samples=2_000)
    delays = [guardrails.measure(0.01, 10.0, runs=5, seed=1)]
    about = {"command": "it", "date": "2026-01-01", "seconds": 1, "seed": 1, "runs": 10, "delta": power.DELTA}
    return Found(cells, rates.measure(boundary, experiments=50, seed=1), delays, about)


def test_cells_are_all_that_can_be() -> None:
    cells = [(name, difference) for name, difference, _, _ in power.settings()]
    assert len(cells) == len(set(cells)) == 5 + 7 + 7 + 7 + 7
    assert ("shadow, 2 % disagree", 0.05) not in cells


def test_better_versions_are_promoted_and_a_shadow_is_quicker(found: Found) -> None:
    for cell in found.power:
        assert (cell.promoted, cell.rolled_back, cell.undecided) == (10, 0, 0)
        assert cell.median is not None
        assert cell.low <= cell.median <= (cell.high or cell.limit)
    far, near, unpaired = (cell.median for cell in found.power)
    assert far is not None
    assert near is not None
    assert unpaired is not None
    assert far < near
    assert far < unpaired


def test_one_seed_gives_one_result(found: Found) -> None:
    again = [
        power.measure(*cell, runs=10, seed=1) for cell in power.settings() if cell[:2] == ("canary, share .5", -0.05)
    ]
    assert again == list(found.power[-1:])


def test_files_say_what_was_found(found: Found, tmp_path: Path) -> None:
    results.write(tmp_path, found)
    record = json.loads((tmp_path / "results.json").read_text())
    assert record["power"] == [asdict(cell) for cell in found.power]
    text = (tmp_path / "results.md").read_text()
    median = found.power[0].median
    assert f"| shadow, 5 % disagree | {median:,.0f} (" in text
    assert "| shadow, 5 % disagree | promote | 2,000 | 0." in text
    assert "| canary, share .5 / shadow, 5 % disagree | " in text
    assert "| 1 % | × 10 | " in text


def test_what_is_undecided_is_said() -> None:
    cell = Power("shadow, 5 % disagree", 0.0, 10, 1_000, 2, 0, None, 700, None)
    assert cell.undecided == 8
    assert "undecided within 1,000 (8 of 10)" in results.power_table([cell])
    assert "600 (500–over 1,000)" in results.power_table([replace(cell, median=600, low=500)])


@pytest.mark.full
def test_the_picture_is_drawn(found: Found, tmp_path: Path) -> None:
    picture.write(tmp_path, found.power)
    assert (tmp_path / "results.png").read_bytes().startswith(b"\x89PNG")
    drawn = (tmp_path / "results.svg").read_text()
    for words in ("5 points better", "2 points better", "shadow, 5 % disagree", "canary, share .5"):
        assert words in drawn
