"""`shipworthy monitor`, as it is typed."""

from __future__ import annotations

import json
import sys
import threading
from collections.abc import Iterator
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest
from typer.testing import CliRunner, Result

from shipworthy.cli import app, monitor_show
from shipworthy.errors import MissingExtra, MonitorError
from shipworthy.monitor import States, View
from shipworthy.monitor.record import record_of

sys.path.insert(0, str(Path(__file__).parents[1] / "monitor"))

import view_cases
from monitor_cases import draw
from point_packages import package

DRIFTING = view_cases.drifting()
STANDS = DRIFTING.alarms[0].id


def fresh(view: View, node: str) -> View:
    """As a node that runs would have written it now."""
    import time

    return replace(view, updated=time.time(), nodes=(node,))


@pytest.fixture
def place(tmp_path: Path) -> Path:
    states = States(tmp_path / "states")
    for view in (DRIFTING, view_cases.well(), view_cases.collecting()):
        states.write(view.model, view.version, "host1", view=fresh(view, "host1"))
    states.write("iris", "1", "host2", view=fresh(view_cases.well(), "host2"))
    return tmp_path / "states"


def run(*words: str | Path) -> Result:
    return CliRunner().invoke(app, ["monitor", *map(str, words)])


def refused(result: Result) -> str:
    assert isinstance(result.exception, MonitorError), result.output
    return str(result.exception)


def test_status_has_a_line_for_each_version(place: Path) -> None:
    lines = run("status", "--place", place).output.splitlines()
    rows = {line.split()[0]: line for line in lines[1:4]}
    assert set(rows) == {"digits", "iris", "house"}
    assert "━━━━━━━━━━━━ 30 " in rows["digits"]
    assert "too low" in rows["digits"]
    assert "≈ 0.924" in rows["digits"]
    assert "18,000" in rows["iris"]  # of two nodes
    assert "collecting 412 of 1,000" in rows["house"]
    assert "count scored requests" in lines[-1]


def test_status_of_a_model_shows_alarms_and_signals(place: Path) -> None:
    text = run("status", "digits", "--place", place).output
    assert "ALARM (large) digits:3 drifts: brightness of image" in text
    assert "began about 2025-11-23 13:03:20 UTC" in text
    assert "8: 10 % → 16 %" in text
    assert all(signal.title in text for signal in DRIFTING.signals)
    assert "an estimate" in text
    assert "rule of thumb (uncalibrated)" in text
    assert "exchangeable with the reference" in text
    assert "known" not in text.replace("unknown", "")  # an alarm that was seen to is not shown


def test_json_is_the_view(place: Path) -> None:
    (told,) = json.loads(run("status", "digits", "--place", place, "--json").output)
    assert (told["model"], told["scored"]) == ("digits", DRIFTING.scored)
    assert [alarm["id"] for alarm in told["alarms"]] == [alarm.id for alarm in DRIFTING.alarms]


def test_acknowledging_is_seen_at_once(place: Path) -> None:
    done = run("acknowledge", "digits", STANDS, "--why", "a new scanner", "--place", place)
    assert done.output == f"acknowledged: {DRIFTING.alarms[0].summary}\n"
    (said,) = States(place).acknowledgements("digits", "3")
    assert (said.alarm, said.why) == (STANDS, "a new scanner")
    (told,) = json.loads(run("status", "digits", "--place", place, "--json").output)
    assert [alarm["why"] for alarm in told["alarms"] if alarm["id"] == STANDS] == ["a new scanner"]
    again = refused(run("acknowledge", "digits", STANDS, "--place", place))
    assert f"these stand: {DRIFTING.alarms[1].id}" in again


def test_acknowledging_may_ask_for_a_new_baseline(place: Path) -> None:
    words = "acknowledge", "digits", STANDS, "--place", place
    assert "at least 32" in refused(run(*words, "--new-baseline", 31))
    assert States(place).acknowledgements("digits", "3") == []
    assert "the next 1,000 requests become the reference" in run(*words, "--new-baseline", 1000).output
    (said,) = States(place).acknowledgements("digits", "3")
    assert said.new_baseline == 1000


def test_a_report_is_written(place: Path, tmp_path: Path) -> None:
    out = tmp_path / "report.html"
    assert run("report", "house", "--out", out, "--place", place).output == f"{out}\n"
    assert "house is collecting its reference" in out.read_text(encoding="utf-8")


def test_dashboards_are_written(tmp_path: Path) -> None:
    words = run("dashboards", "--out", tmp_path / "made").output.split()
    assert [Path(word).name for word in words] == ["grafana.json", "alerts.yaml"]
    assert all(Path(word).is_file() for word in words)


def test_nothing_is_watched_yet(tmp_path: Path) -> None:
    assert "nothing is watched yet" in run("status", "--place", tmp_path / "none").output
    assert "has not been watched" in refused(run("status", "digits", "--place", tmp_path / "none"))


def test_what_cannot_be_meant_together_is_refused(tmp_path: Path) -> None:
    (tmp_path / "token").write_text("t")
    assert "give --server too" in refused(run("status", "--token-file", tmp_path / "token"))
    both = run("status", "--server", "http://127.0.0.1:1", "--place", tmp_path)
    assert "leave out one of both" in refused(both)
    assert "no address of a server" in refused(run("status", "--server", "localhost:8000"))


@pytest.fixture(scope="module")
def points(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A package with a reference, and files of requests beside it: as it was, and drifted from the middle on."""
    folder = tmp_path_factory.mktemp("points")
    random = np.random.default_rng(7)
    for name, shift in (("well", 0.0), ("drifted", 1.0)):
        first, _, _ = draw(600, random)
        then, _, _ = draw(600, random, shift=shift)
        np.savez(folder / f"{name}.npz", point=np.concatenate([first, then]))
    return package(folder / "package")


def test_a_file_is_scored(points: Path) -> None:
    well = run("score", points, points.parent / "well.npz")
    assert (well.exit_code, "ALARM" in well.output) == (0, False)
    drifted = run("score", points, points.parent / "drifted.npz", "--json")
    assert drifted.exit_code == 3
    told = json.loads(drifted.output)
    assert told["clock"] == "rows"
    assert 500 < next(one["began"] for one in told["alarms"] if one["detector"] == "sequential") < 700
    assert run("score", points, points.parent / "none.npz").exit_code not in (0, 3)


def test_status_and_score_need_no_extra(place: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for module in ("altair", "jinja2", "vl_convert", "pyarrow"):
        monkeypatch.setitem(sys.modules, module, None)
    assert run("status", "digits", "--place", place).exit_code == 0
    missing = run("report", "digits", "--place", place, "--out", tmp_path / "page.html")
    assert isinstance(missing.exception, MissingExtra)
    assert not (tmp_path / "page.html").exists()


@pytest.mark.parametrize(("evidence", "full"), [(0.0, 0), (1e-9, 0), (0.001, 0), (0.03, 6), (1.0, 12), (1e9, 12)])
def test_the_bar_is_logarithmic(evidence: float, full: int) -> None:
    assert monitor_show._bar(evidence).plain.count("━") == full


class Answers(BaseHTTPRequestHandler):
    """As a server with a token does."""

    told: ClassVar[list[dict[str, Any]]] = []

    def do_GET(self) -> None:
        if self.headers["authorization"] != "Bearer word":
            self._send(401, {"detail": "a token is needed"})
        elif self.path == "/models":
            self._send(200, {"models": [{"name": "digits"}, {"name": "plain"}]})
        elif self.path == "/models/digits/monitor":
            self._send(200, {"model": "digits", "versions": [record_of(DRIFTING)]})
        else:
            self._send(404, {"detail": "'plain' is not watched"})

    def do_POST(self) -> None:
        self.told.append(json.loads(self.rfile.read(int(self.headers["content-length"]))))
        self._send(200, {"alarm": STANDS})

    def _send(self, status: int, body: dict[str, Any]) -> None:
        self.send_response(status)
        self.end_headers()
        self.wfile.write(json.dumps(body).encode())

    def log_message(self, *args: object) -> None:
        """Nothing."""


@pytest.fixture
def server(tmp_path: Path) -> Iterator[list[str | Path]]:
    made = ThreadingHTTPServer(("127.0.0.1", 0), Answers)
    threading.Thread(target=made.serve_forever, args=(0.01,), daemon=True).start()
    (tmp_path / "token").write_text("word\n")
    yield ["--server", f"http://127.0.0.1:{made.server_address[1]}", "--token-file", tmp_path / "token"]
    made.shutdown()
    made.server_close()


def test_a_server_is_asked(server: list[str | Path]) -> None:
    assert run("status", *server).output.splitlines()[1].startswith("digits")
    assert "'plain' is not watched" in refused(run("status", "plain", *server))
    assert "--token-file" in refused(run("status", *server[:2]))
    run("acknowledge", "digits", STANDS, "--why", "seen", "--new-baseline", 500, *server)
    assert [(told["alarm"], told["why"], told["new_baseline"]) for told in Answers.told] == [(STANDS, "seen", 500)]


def test_a_server_that_is_away_is_said(tmp_path: Path) -> None:
    assert "is the server running?" in refused(run("status", "--server", "http://127.0.0.1:1"))
