"""The dashboard and the alert rules: of metrics that there are, readable by Prometheus, and in Grafana's schema."""

from __future__ import annotations

import itertools
import json
import re
import shutil
import subprocess
import threading
import time
import urllib.parse
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
import view_cases

from shipworthy.errors import MonitorError
from shipworthy.monitor import dashboards
from shipworthy.monitor.dashboards.grafana import dashboard
from shipworthy.monitor.dashboards.panels import ROWS
from shipworthy.monitor.dashboards.rules import GROUPS
from shipworthy.monitor.exposition import exposition
from shipworthy.monitor.families import FAMILIES
from shipworthy.monitor.webhooks import Sent
from shipworthy.server.observe import Metrics
from shipworthy.server.observe.families import FAMILIES as OF_SERVER

PROMETHEUS = pytest.mark.skipif(
    shutil.which("prometheus") is None, reason="needs Prometheus: apt-get install prometheus"
)
NAMES = {
    name
    for one in (*FAMILIES, *OF_SERVER)
    for name in (
        [f"{one.name}_{part}" for part in ("bucket", "sum", "count")] if one.kind == "histogram" else [one.name]
    )
}
OF = 'model="digits", version="3"'
RULES = [rule for rules in GROUPS.values() for rule in rules]
QUERIES = [query.expression for row in ROWS for panel in row.panels for query in panel.queries]


def named(expression: str) -> set[str]:
    """The metrics in it."""
    return set(re.findall(r"(?:shipworthy|process)_\w+", expression))


@pytest.mark.parametrize("expression", [*QUERIES, *(rule.expression for rule in RULES)])
def test_every_metric_is_one_that_a_server_exports(expression: str) -> None:
    assert named(expression)
    assert named(expression) <= NAMES


def test_every_metric_that_a_query_of_the_dashboard_names_is_one() -> None:
    assert named(json.dumps(dashboard()["templating"])) <= NAMES
    assert named(json.dumps(dashboard()["annotations"])) <= NAMES


def test_every_metric_of_monitoring_is_shown() -> None:
    shown = set().union(*map(named, QUERIES))
    derived = {"shipworthy_monitor_rule_fires_uncalibrated", "shipworthy_monitor_quality_below"}
    unasked = {"shipworthy_monitor_requests_total", "shipworthy_monitor_reference_wanted_samples"}
    assert {one.name for one in FAMILIES} - shown == derived | unasked | {"shipworthy_monitor_webhooks_total"}


def test_no_alert_follows_a_rule_of_thumb() -> None:
    assert not any("uncalibrated" in rule.expression for rule in RULES)


def test_panels_neither_overlap_nor_repeat() -> None:
    panels = dashboard()["panels"]
    taken: set[tuple[int, int]] = set()
    for panel in panels:
        place = panel["gridPos"]
        cells = {
            (x, y)
            for x in range(place["x"], place["x"] + place["w"])
            for y in range(place["y"], place["y"] + place["h"])
        }
        assert not cells & taken, panel["title"]
        assert place["x"] + place["w"] <= 24
        taken |= cells
    assert len({panel["id"] for panel in panels}) == len(panels)
    assert len({panel["title"] for panel in panels}) == len(panels)
    assert all(panel["description"] for panel in panels if panel["type"] != "row")


def test_the_source_of_data_is_a_variable() -> None:
    made = dashboard()
    assert made["templating"]["list"][0]["type"] == "datasource"
    sources = re.findall(r'"uid": "([^"]*)"', json.dumps(made["panels"]))
    assert set(sources) == {"${datasource}"}


def test_both_are_written(tmp_path: Path) -> None:
    written = dashboards.write(tmp_path / "new" / "folder")
    assert [path.name for path in written] == ["grafana.json", "alerts.yaml"]
    assert json.loads(written[0].read_text())["title"] == "Shipworthy: models"
    (tmp_path / "file").touch()
    with pytest.raises(MonitorError, match="give another folder"):
        dashboards.write(tmp_path / "file")


def test_grafanas_own_model_knows_every_field() -> None:
    """Grafana's published schema, as its library for Python has it: what it does not know is lost on the way."""
    pytest.importorskip("grafana_foundation_sdk", reason="needs Grafana's library: pip install grafana-foundation-sdk")
    from grafana_foundation_sdk.cog.encoder import JSONEncoder
    from grafana_foundation_sdk.cog.plugins import register_default_plugins
    from grafana_foundation_sdk.models.dashboard import Dashboard

    register_default_plugins()
    given = dashboard()
    back = json.loads(JSONEncoder(sort_keys=True).encode(Dashboard.from_json(given)))
    for variable in given["templating"]["list"]:
        variable.pop("definition", None)  # for the editor; the schema has it in later versions only
    for annotation in given["annotations"]["list"]:
        for field in ("step", "titleFormat", "textFormat", "tagKeys"):  # of the source of data, not of the dashboard
            annotation.pop(field)
    assert _lost(given, back) == []


def _lost(given: Any, back: Any, place: str = "") -> list[str]:
    if isinstance(given, dict):
        return [one for key in given for one in (_lost(given[key], back.get(key), f"{place}/{key}"))]
    if isinstance(given, list) and isinstance(back, list) and len(given) == len(back):
        return [
            one
            for number, (a, b) in enumerate(zip(given, back, strict=True))
            for one in _lost(a, b, f"{place}/{number}")
        ]
    return [] if given == back else [f"{place}: {given!r} became {back!r}"]


@PROMETHEUS
def test_promtool_takes_the_rules(tmp_path: Path) -> None:
    rules = dashboards.write(tmp_path)[1]
    done = subprocess.run(["promtool", "check", "rules", rules], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert f"{len(RULES)} rules found" in done.stdout


@contextmanager
def exported() -> Iterator[str]:
    """What a server exports that watches a model in whose traffic noise has begun; its address."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            body = Metrics().render()[0] + _traffic() + exposition([view_cases.drifting()], Sent(1, 0, 0, 2))
            self.send_response(200)
            self.send_header("content-type", "text/plain; version=0.0.4")
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *args: object) -> None:
            """Nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
    try:
        yield f"127.0.0.1:{server.server_address[1]}"
    finally:
        server.shutdown()
        server.server_close()


def _traffic() -> bytes:
    """Requests of the model that rise, with their answers' times."""
    number = time.time() % 1e5 * 100
    labels = 'model="digits",version="3",route="predict"'
    lines = [f'shipworthy_requests_total{{{labels},status="200"}} {number}']
    lines += [f'shipworthy_request_duration_seconds_bucket{{{labels},le="{le}"}} {number}' for le in ("0.01", "+Inf")]
    return ("\n".join(lines) + "\n").encode()


@contextmanager
def prometheus(folder: Path, target: str) -> Iterator[str]:
    dashboards.write(folder)
    config = {
        "global": {"scrape_interval": "250ms", "scrape_timeout": "250ms", "evaluation_interval": "250ms"},
        "rule_files": ["alerts.yaml"],
        "scrape_configs": [{"job_name": "shipworthy", "static_configs": [{"targets": [target]}]}],
    }
    (folder / "prometheus.yml").write_text(json.dumps(config))
    with ThreadingHTTPServer(("127.0.0.1", 0), BaseHTTPRequestHandler) as free:
        address = f"127.0.0.1:{free.server_address[1]}"
    words = [f"--config.file={folder}/prometheus.yml", f"--storage.tsdb.path={folder}/data"]
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen(["prometheus", *words, f"--web.listen-address={address}"], stdout=log, stderr=log)
    try:
        yield f"http://{address}/api/v1/"
    finally:
        process.terminate()
        process.wait(20)


def ask(url: str, **parameters: str) -> Any:
    with urllib.request.urlopen(f"{url}?{urllib.parse.urlencode(parameters)}", timeout=5) as answer:
        return json.loads(answer.read())["data"]


def until(wanted: Any, seconds: float = 30.0) -> Any:
    """What it gives, once that is something."""
    end = time.monotonic() + seconds
    while True:
        try:
            if found := wanted():
                return found
        except OSError:
            pass  # It does not listen yet.
        assert time.monotonic() < end
        time.sleep(0.05)


@PROMETHEUS
def test_an_alarm_that_all_nodes_have_counts_once(tmp_path: Path) -> None:
    """Labels are known to every node; drift is what one node has seen. One node's silence is not hidden by others."""
    standing = next(panel for panel in ROWS[0].panels if panel.title == "Alarms that stand").queries[0].expression
    asked = standing.replace("$model", ".*").replace("$version", ".*")
    alarms = [
        {"series": f'{name}{{instance="{node}", detector="{detector}", {OF}}}', "values": "1x20"}
        for name, node, detector in itertools.product(["shipworthy_monitor_alarms"], "ab", ["window", "quality"])
    ]
    updated = [
        {"series": f'shipworthy_monitor_last_update_timestamp_seconds{{instance="{node}", {OF}}}', "values": values}
        for node, values in (("a", "0+60x20"), ("b", "0x20"))
    ]
    requests = [
        {"series": f'shipworthy_requests_total{{instance="{node}", {OF}}}', "values": "0+60x20"} for node in "ab"
    ]
    silent = {
        "eval_time": "7m",
        "alertname": "ShipworthyMonitorSilent",
        "exp_alerts": [
            {
                "exp_labels": {"instance": "b", "model": "digits", "version": "3", "severity": "warning"},
                "exp_annotations": {
                    "summary": "digits:3 on b: requests come, and the monitor has not looked for five minutes",
                    "description": "Drift would not be seen. Its process is started again when it dies; the log of the "
                    "server says why it did.",
                },
            }
        ],
    }
    counted = {"expr": asked, "eval_time": "5m", "exp_samples": [{"labels": f"{{{OF}}}", "value": 3}]}
    dashboards.write(tmp_path)
    case = {
        "interval": "1m",
        "input_series": [*alarms, *updated, *requests],
        "alert_rule_test": [silent],
        "promql_expr_test": [counted],
    }
    (tmp_path / "test.json").write_text(json.dumps({"rule_files": ["alerts.yaml"], "tests": [case]}))
    done = subprocess.run(
        ["promtool", "test", "rules", tmp_path / "test.json"], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.full
@PROMETHEUS
def test_a_prometheus_raises_the_alarm_and_answers_every_panel(tmp_path: Path) -> None:
    with exported() as target, prometheus(tmp_path, target) as api:
        fired = until(
            lambda: {
                one["labels"]["alertname"]: one for one in ask(f"{api}alerts")["alerts"] if one["state"] == "firing"
            }
        )
        until(lambda: ask(f"{api}query", query="rate(shipworthy_requests_total[10s]) > 0")["result"])
        assert set(fired) == {"ShipworthyDrift", "ShipworthyQualityBelowLevel"}
        assert "digits:3: inputs or answers have drifted" in fired["ShipworthyDrift"]["annotations"]["summary"]
        answered = {}
        for expression in QUERIES:
            asked = expression.replace("$model", ".*").replace("$version", ".*").replace("$__rate_interval", "10s")
            answered[expression] = bool(ask(f"{api}query", query=asked)["result"])
        silent = {expression for expression, found in answered.items() if not found}
        # Of the server itself only requests and their times are made up here.
        assert all("shipworthy_monitor_" not in expression for expression in silent), silent
        assert sum(answered.values()) > 30


def test_every_alert_is_described() -> None:
    page = (Path(__file__).parents[2] / "docs" / "monitoring.md").read_text(encoding="utf-8")
    described = re.findall(r"^\| `(Shipworthy\w+)` \| (\w+) \|", page, re.MULTILINE)
    assert described == [(rule.name, rule.severity) for rule in RULES]
