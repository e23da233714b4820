"""The harness of benchmarks/drift on few streams: its statistics against SciPy, its thresholds, tables and picture."""

from __future__ import annotations

import random
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy import stats

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT))

from benchmarks.drift import adwin, agreement, online, results, windows  # noqa: E402
from benchmarks.drift.cells import Cell, cells, look, tune  # noqa: E402
from benchmarks.drift.detectors import DETECTORS  # noqa: E402
from benchmarks.drift.paths import each_sample, each_window, tuned  # noqa: E402
from benchmarks.drift.results import Cost, Result  # noqa: E402
from benchmarks.drift.shifts import SHIFTS  # noqa: E402
from benchmarks.drift.streams import CAP, REFERENCE, Scene, draw, tabulate  # noqa: E402
from benchmarks.drift.subjects import SUBJECTS  # noqa: E402

WANTED = {"data", "shift", "share", "detector", "ours", "setting", "false_alarm", "power", "median_delay"} | {
    *("memory_kb", "us_per_sample")
}
ENVIRONMENTS = [adwin.python(name) for name in ("evidently", "frouros", "river")]


@pytest.fixture(scope="module")
def scene() -> Scene:
    shift = next(each for each in SHIFTS if each.name == "one column")
    return draw(tabulate(SUBJECTS["diabetes"](), shift), shift.name, 0.5, range(2))


def test_a_threshold_is_the_lowest_that_few_enough_streams_reach() -> None:
    highest = np.arange(100.0)
    assert 94 < tuned(highest, 0.05) <= 95 and (highest >= tuned(highest, 0.05)).sum() == 5
    assert (np.zeros(10) >= tuned(np.zeros(10), 0.05)).sum() == 0


def test_delays_are_those_of_the_first_look_that_reaches_the_threshold() -> None:
    statistic = np.array([[0.0, 2.0, 1.0], [0.0, 0.5, 0.9]])
    assert each_sample(statistic).delays(1.0).tolist() == [2, CAP + 1]
    assert each_window(statistic, 500).delays(0.9).tolist() == [1000, 1500]


def test_streams_are_of_one_pool_and_as_many_are_affected_as_are_said(scene: Scene) -> None:
    pool = scene.table.pool
    assert scene.references.shape == (2, REFERENCE) and scene.references.max() < pool
    assert scene.streams.shape == (2, CAP) and abs((scene.streams >= pool).mean() - 0.5) < 0.03
    again = draw(scene.table, "one column", 0.5, range(1, 2))
    assert (again.streams[0] == scene.streams[1]).all() and (scene.streams[0] != scene.streams[1]).any()


def test_distances_and_p_values_are_scipys(scene: Scene) -> None:
    values = np.round(scene.table.watched, 2)
    distances = windows.ks_distances(scene, values, 500)
    p, far = windows.ks_p(distances, 500), windows.wasserstein(scene, values, 500)
    reference, window = values[scene.references[1]], values[scene.streams[1][500:1000]]
    assert p[1, 1] == pytest.approx(stats.ks_2samp(reference, window).pvalue, rel=1e-9)
    apart = stats.wasserstein_distance(reference, window) / reference.std()
    assert far[1, 1] == pytest.approx(apart, rel=1e-9)


def test_the_test_of_classes_is_scipys(scene: Scene) -> None:
    values = np.floor(scene.table.watched * 2.999)
    reference, window = values[scene.references[0]], values[scene.streams[0][:100]]
    expected, observed = (np.bincount(each.astype(int), minlength=3) for each in (reference, window))
    wanted = stats.chisquare(observed, expected / 10).pvalue
    assert windows.class_p(scene, values, 100)[0, 0] == pytest.approx(wanted, rel=1e-9)


def test_a_discrepancy_is_the_mean_of_its_kernels(scene: Scene) -> None:
    kernel = windows.Kernel(scene.table.inputs, scene.table.pool)
    x = scene.table.inputs[scene.references[0]].astype(float)
    y = scene.table.inputs[scene.streams[0][:200]].astype(float)
    within = []
    for one, other in ((x, x), (y, y), (x, y)):
        found = np.exp(-((one[:, None] - other) ** 2).sum(axis=2) / (2 * kernel.sigma**2))
        within.append((found.sum() - len(one)) / (len(one) * (len(one) - 1)) if one is other else found.mean())
    wanted = within[0] + within[1] - 2 * within[2]
    assert kernel.distances(scene, 200)[0, 0] == pytest.approx(wanted, abs=1e-5)


def test_what_slides_is_tested_as_scipy_tests_it() -> None:
    values = np.round(np.random.default_rng(0).random((1, 130)) + np.linspace(0, 0.5, 130), 2)
    found = online.kswin(values)[0]
    chosen = random.Random(online.KSWIN_SEED)
    for end in range(100, 131):
        older = [values[0, end - 100 + at] for at in chosen.sample(range(70), 30)]
        assert found[end - 1] == pytest.approx(
            -np.log10(stats.ks_2samp(older, values[0, end - 30 : end]).pvalue), rel=1e-5
        )
    assert (found[:99] == 0).all()


@pytest.fixture(scope="module")
def few(request: pytest.FixtureRequest) -> list[Result]:
    """Rows of two detectors, of three streams with a shift and three without."""
    kept = [each for each in DETECTORS if each.name in (results.OURS, "PSI, 500")]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("benchmarks.drift.cells.DETECTORS", kept)
        highest = tune("diabetes", range(3), [each.name for each in kept])
        thresholds = {name: {"equal": float(each[0].max()), "own": 9.0} for name, each in highest.items()}
        some = (Cell("diabetes", "none", 0.0), Cell("diabetes", "one column", 1.0))
        seen = [row for cell in some for row in look(cell, range(3), thresholds)]
    found = results.rows(seen)
    return results.priced(found, {"diabetes": {results.OURS: Cost(9.0, 0.5), "PSI, 500": Cost(4.0, 1.5)}})


def test_rows_have_what_they_are_asked_for(few: list[Result], tmp_path: Path) -> None:
    results.write(tmp_path, few, {"command": "make bench-drift", "date": "2026-01-01", "seconds": 1})
    assert results.read(tmp_path / "results.json")[0] == few
    assert set(WANTED) <= set(Result.__dataclass_fields__) and len(few) == 8
    assert {row.setting for row in few} == {"own", "equal"} and [row.us_per_sample for row in few[:2]] == [0.5, 0.5]
    shifted = next(row for row in few if row.shift == "one column" and row.ours and row.setting == "equal")
    assert shifted.power == 1 and shifted.median_delay < 1000
    text = (tmp_path / "results.md").read_text()
    assert "**Shipworthy, both**" in text and "make bench-drift" in text


def test_a_peer_with_more_power_is_named(few: list[Result]) -> None:
    ours, peer = (next(row for row in few if row.ours is own and row.share) for own in (True, False))
    ours, peer = (replace(row, seeds=200, setting="equal") for row in (ours, peer))
    lost = [replace(ours, power=0.5), replace(peer, power=0.8)]
    assert [pair.peer.detector for pair in results.behind(lost)] == ["PSI, 500"]
    assert not results.behind([replace(ours, power=0.75), replace(peer, power=0.8)])


def test_every_share_has_its_column_in_the_picture(few: list[Result]) -> None:
    from benchmarks.drift.picture import chart

    made: dict[str, Any] = chart([row for row in few if row.setting == "equal" and row.share]).to_dict()
    (panel,) = made["hconcat"]
    values = panel.get("data", made.get("data"))["values"]
    assert panel["title"]["text"] == "100 % affected"
    assert [value["kind"] for value in values] == ["the best other one", "Shipworthy, both"]


def test_every_subject_has_cells_of_all_shares() -> None:
    for data in SUBJECTS:
        found = list(cells(data))
        assert found[0].shift == "none" and (len(found) - 1) % 3 == 0 and len(found) > 9


def test_a_detector_is_compared_over_its_own_shifts(few: list[Result]) -> None:
    ours = next(row for row in few if row.ours and row.share)
    other = replace(ours, detector="other", ours=False, median_delay=2 * ours.median_delay)
    found = results.overall([ours, replace(ours, shift="prior", median_delay=1.0), other])
    assert list(found) == [results.OURS, "other"] and found["other"].to_ours == pytest.approx(2)


@pytest.mark.full
@pytest.mark.skipif(not all(each.exists() for each in ENVIRONMENTS), reason="make bench-drift has not built the peers")
def test_statistics_are_those_of_the_libraries() -> None:
    found = agreement.check("breast-cancer")
    assert set(found) == {"evidently", "frouros", "river"} and max(found.values()) <= agreement.TOLERANCE
