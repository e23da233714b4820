"""What a run of benchmarks/serve writes: rows, their tables and picture, and where they go as they come."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT))

from benchmarks.serve import picture, results, store, tables  # noqa: E402
from benchmarks.serve.models import UINT8  # noqa: E402
from benchmarks.serve.results import FIELDS, Result  # noqa: E402
from benchmarks.serve.servers import EMPTY  # noqa: E402
from benchmarks.serve.store import Store  # noqa: E402
from benchmarks.serve.workloads import ORDER, WORKLOADS  # noqa: E402

WANTED = (
    *("workload", "server", "ours", "connections", "offered_rps", "rps", "goodput_rps"),
    *("p50_ms", "p99_ms", "rss_mb", "first_answer_s"),
)


def climbed(*servers: str) -> list[Result]:
    """Rows of the open load, ours first."""
    return [
        Result(
            "open-loop",
            name,
            number == 0,
            offered_rps=rate,
            goodput_rps=rate / (1 + number),
            goodput_low_rps=rate / (2 + number),
            goodput_high_rps=rate,
            capacity_rps=300.0,
            target_ms=50.0,
            elsewhere_cpu=0.07,
        )
        for number, name in enumerate(servers)
        for rate in (150.0, 600.0)
    ]


def test_rows_have_what_is_asked_for_and_are_kept_by_workload(tmp_path: Path) -> None:
    assert set(WANTED) <= set(FIELDS)
    assert set(WORKLOADS) <= set(ORDER)
    old = [Result("start", "a", False, first_answer_s=1.0), Result("iris", "a", False, rps=1.0)]
    new = [Result("iris", "a", False, rps=2.0), Result("iris", "b", True, rps=3.0)]
    rows = results.merged(old, new, ORDER)
    assert [(row.workload, row.server, row.rps) for row in rows] == [
        ("iris", "a", 2.0),
        ("iris", "b", 3.0),
        ("start", "a", None),
    ]
    results.write(tmp_path / "results.json", rows, {"cpu": "x"})
    assert results.read(tmp_path / "results.json") == (rows, {"cpu": "x"})
    assert set(json.loads((tmp_path / "results.json").read_text())["rows"][0]) == set(FIELDS)
    assert results.read(tmp_path / "none.json") == ([], {})


def test_tables_show_every_workload() -> None:
    environment = results.environment("make bench-serve")
    assert environment["versions"]["mlserver"] == "1.7.1" and environment["versions"]["ray"] == "2.60.0"
    rows = [
        Result("iris", EMPTY, False, connections=32, rps=40_000.0, workers=1, ratio=1.0, elsewhere_cpu=0.04),
        Result("iris-features", "Shipworthy without metrics", True, connections=32, rps=31_000.0, ratio=1.03),
        Result(f"{UINT8.name} in process", "Shipworthy", True, rps=370.0, detail="2 streams"),
        Result(UINT8.name, "MLServer", False, connections=8, rps=250.0, workers=1, ratio=0.68, error="late\n|"),
        Result("start", "Shipworthy", True, first_answer_s=0.7, rss_mb=106.0, rounds=5),
        *climbed("Shipworthy", "MLServer"),
    ]
    text = tables.markdown(rows, environment)
    for said in (
        "| empty ASGI |",
        "| 103% |",
        "**Shipworthy, in process**",
        "| 68% |",
        "| 0.70 |",
        "| 200% |",
        "| 0.04 |",
        "| 300 (200–600) |",
        "| 0.07 |",
        "- **Shipworthy, in process**: 2 streams",
        "- MLServer: failed once or more: late /",
        f"of revision {environment['revision']}",
    ):
        assert said in text, said
    assert len([line for line in text.splitlines() if line.startswith("## ")]) == 5


@pytest.mark.parametrize("peers", [1, 9])
def test_the_picture_has_a_line_and_a_range_for_each_server(peers: int) -> None:
    rows = climbed("Shipworthy", *(f"peer {number}" for number in range(peers)))
    drawn = picture.chart(rows).to_dict()
    assert len(drawn["layer"]) == 5 and "50 ms" in json.dumps(drawn["title"])
    marks = [layer["mark"]["type"] for layer in drawn["layer"]]
    assert marks == ["line", "line", "rule", "point", "text"]
    ranged = drawn["layer"][2]
    assert ranged["data"]["values"][-1]["low"] == pytest.approx(600 / (2 + peers))
    assert len(ranged["encoding"]["color"]["scale"]["range"]) == 1 + peers


def test_names_of_lines_that_end_close_together_stand_apart() -> None:
    ends = [{"server": name, "goodput": at} for name, at in (("b", 98.0), ("a", 100.0), ("c", 97.0), ("d", 50.0))]
    placed = {one["server"]: one["label"] for one in picture._apart(ends, gap=6.0)}
    assert placed == {"a": 100.0, "b": 94.0, "c": 88.0, "d": 50.0}


def test_rows_are_written_as_they_come_and_moved_only_when_nothing_failed(tmp_path: Path) -> None:
    told: list[str] = []
    scratch, final = tmp_path / "scratch", tmp_path / "final"

    def begun(day: str, *, keep: bool) -> Store:
        environment = {**results.environment("make bench-serve"), "date": day, "revision": "abc+"}
        return Store(scratch, final, environment, told.append, order=ORDER, keep=keep)

    scratch.mkdir()
    (scratch / "results.png").write_text("of another run")
    run = begun("2030-01-01", keep=False)
    run.keep([Result("iris", "a", False, rps=1.0)])
    run.keep([Result("iris", "a", False, rps=2.0), Result("iris", "b", False, rps=3.0)])
    assert [row.rps for row in results.read(scratch / "results.json")[0]] == [2.0, 3.0]
    run.show()
    assert "| a |" in (scratch / "results.md").read_text()
    run.finish(failed=1)
    assert not final.exists() and "is as it was" in told[-1]
    run.finish(failed=0)
    assert [row.rps for row in results.read(final / "results.json")[0]] == [2.0, 3.0]
    assert {path.name for path in final.iterdir()} == {"results.json", "results.md"}

    again = begun("2030-02-02", keep=True)
    again.keep([Result("iris", "b", False, rps=4.0)])
    rows, environment = results.read(scratch / "results.json")
    assert [row.rps for row in rows] == [2.0, 4.0]
    assert [one["date"] for one in environment["runs"]] == ["2030-01-01", "2030-02-02"]
    text = tables.markdown(rows, environment)
    assert (
        "Rows that this run has not measured are kept from: `make bench-serve`, abc+, 2030-01-01, in 0 minutes" in text
    )
    assert begun("2030-03-03", keep=False).rows == []


def test_what_draws_rows_cannot_lose_them(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(folder: Path, rows: list[Result]) -> None:
        raise StopIteration("no colour left")

    told: list[str] = []
    monkeypatch.setattr(store.picture, "write", broken)
    run = Store(tmp_path, tmp_path, results.environment("x"), told.append, order=ORDER)
    run.keep(climbed("Shipworthy"))
    run.show()
    assert any("StopIteration: no colour left" in line for line in told)
    run.finish(failed=0)
    assert len(results.read(tmp_path / "results.json")[0]) == 2 and "200%" in (tmp_path / "results.md").read_text()


@pytest.mark.skipif(shutil.which("git") is None, reason="needs git")
def test_the_revision_says_whether_the_tree_has_changes(tmp_path: Path) -> None:
    def git(*words: str) -> None:
        said = ("-c", "user.name=a", "-c", "user.email=a@b", "-c", "commit.gpgsign=false")
        subprocess.run(["git", *said, *words], cwd=tmp_path, check=True, capture_output=True)

    assert results.revision(tmp_path) == ""
    serve = tmp_path / "benchmarks" / "serve"
    serve.mkdir(parents=True)
    (serve / "race.py").write_text("pass\n")
    git("init")
    git("add", ".")
    git("commit", "-m", "begun")
    clean = results.revision(tmp_path)
    assert len(clean) == 12 and not clean.endswith("+")
    (serve / "results.json").write_text("{}")
    (tmp_path / "NOTES").write_text("elsewhere")
    assert results.revision(tmp_path) == clean
    (serve / "race.py").write_text("...\n")
    assert results.revision(tmp_path) == f"{clean}+"
