"""Metrics: known answers, another library as oracle, and the two formats."""

from __future__ import annotations

import asyncio
import os
import re
import sys
import threading
import time
import weakref
from collections import Counter
from pathlib import Path

import numpy as np
import prometheus_client
import pytest
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client.openmetrics import parser as openmetrics_parser
from prometheus_client.parser import text_string_to_metric_families

from shipworthy.server.observe import Metrics, NoMetrics, Recorder, Timing
from shipworthy.server.observe import metrics as observed
from shipworthy.server.observe.exposition import prefers_openmetrics
from shipworthy.server.observe.families import FAMILIES, ROWS, SECONDS

Sample = tuple[str, tuple[tuple[str, str], ...]]
OPENMETRICS = "application/openmetrics-text"


def samples(metrics: Recorder) -> dict[Sample, float]:
    text = metrics.render()[0].decode()
    families = text_string_to_metric_families(text)
    return {(one.name, tuple(sorted(one.labels.items()))): one.value for family in families for one in family.samples}


def value(metrics: Recorder, name: str, **labels: str) -> float:
    return samples(metrics)[name, tuple(sorted({"model": "digits", "version": "1", **labels}.items()))]


def busy() -> Metrics:
    """A server that has seen something of everything."""
    metrics = Metrics()
    metrics.ready, metrics.models_loaded, metrics.lines_lost = lambda: True, lambda: 1, lambda: 4
    metrics.traces_lost, metrics.connections_ended = lambda: 5, lambda: {"idle": 6, "too-slow": 7}
    lane = metrics.lane("digits", "1")
    lane.in_flight, lane.waiting = lambda: 3, lambda: 2
    lane.ran(3, 4, 2, [0.001, 0.002], 0.01)
    lane.answered("predict", 0.02)
    lane.answered("grpc", 0.03)
    lane.refused("deadline")
    lane.failed(503)
    lane.failed(422, "v2", 0.25)
    metrics.unrouted(401)
    return metrics


@pytest.mark.parametrize("seed", range(3))
def test_histograms_are_as_the_client_library_counts_them(seed: int) -> None:
    rng = np.random.default_rng(seed)
    seconds = [*np.exp(rng.normal(-6, 3, 3000)).tolist(), *SECONDS, 0.0, 1e9]
    oracle = prometheus_client.Histogram("oracle", "", buckets=SECONDS, registry=None)
    rows_oracle = prometheus_client.Histogram("rows", "", buckets=ROWS, registry=None)
    metrics = Metrics()
    lane = metrics.lane("digits", "1")
    for one in seconds:
        rows = int(rng.integers(1, 5000))
        lane.ran(rows, rows, 1, [one], one)
        lane.answered("predict", one)
        oracle.observe(one)
        rows_oracle.observe(rows)
    ours = samples(metrics)
    for name, theirs, labels in (
        ("shipworthy_request_duration_seconds", oracle, {"route": "predict"}),
        ("shipworthy_queue_duration_seconds", oracle, {}),
        ("shipworthy_compute_duration_seconds", oracle, {}),
        ("shipworthy_batch_rows", rows_oracle, {}),
    ):
        for family in theirs.collect():
            for sample in family.samples:
                if not sample.name.endswith("_created"):
                    suffix = sample.name.removeprefix(family.name)
                    all_labels = {"model": "digits", "version": "1", **labels, **sample.labels}
                    found = ours[name + suffix, tuple(sorted(all_labels.items()))]
                    assert found == pytest.approx(sample.value, rel=1e-12)


def test_buckets_are_round_numbers() -> None:
    assert [*SECONDS[:4], *SECONDS[-4:]] == [1e-5, 2.5e-5, 5e-5, 1e-4, 1.0, 2.5, 5.0, 10.0]
    assert len(SECONDS) == 19
    assert ROWS[0] == 1 and ROWS[-1] == 4096


def test_known_answers() -> None:
    metrics = busy()
    assert value(metrics, "shipworthy_batch_padding_rows_total") == 1
    assert value(metrics, "shipworthy_requests_total", route="predict", status="200") == 1
    assert value(metrics, "shipworthy_requests_total", route="v2", status="422") == 1
    assert value(metrics, "shipworthy_requests_total", route="predict", status="503") == 1
    assert value(metrics, "shipworthy_requests_failed_total", fault="client") == 1
    assert value(metrics, "shipworthy_requests_failed_total", fault="server") == 1
    assert value(metrics, "shipworthy_requests_shed_total", reason="deadline") == 1
    assert value(metrics, "shipworthy_requests_in_flight") == 3
    assert value(metrics, "shipworthy_queue_rows") == 2
    assert value(metrics, "shipworthy_queue_duration_seconds_count") == 2
    assert value(metrics, "shipworthy_queue_duration_seconds_sum") == pytest.approx(0.003)
    assert value(metrics, "shipworthy_queue_duration_seconds_bucket", le="0.001") == 1
    whole = samples(metrics)
    assert whole["shipworthy_requests_unrouted_total", (("status", "401"),)] == 1
    assert whole["shipworthy_ready", ()] == 1
    assert whole["shipworthy_models_loaded", ()] == 1
    assert whole["shipworthy_workers", ()] == 1
    assert whole["shipworthy_log_lines_dropped_total", ()] == 4
    assert whole["shipworthy_traces_dropped_total", ()] == 5
    assert whole["shipworthy_connections_ended_total", (("reason", "idle"),)] == 6
    assert whole["shipworthy_connections_ended_total", (("reason", "too-slow"),)] == 7
    assert whole["shipworthy_metrics_series_dropped", ()] == 0


def test_the_process_is_described() -> None:
    whole = samples(busy())
    pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1])
    assert whole["process_resident_memory_bytes", ()] == pytest.approx(pages * os.sysconf("SC_PAGESIZE"), rel=0.2)
    assert whole["process_cpu_seconds_total", ()] == pytest.approx(sum(os.times()[:2]), abs=2.0)
    assert whole["process_open_fds", ()] >= 3
    assert abs(whole["process_start_time_seconds", ()] - time.time()) < 60


def test_processor_time_is_counted_once() -> None:
    metrics = Metrics()
    for _ in range(5):
        metrics.flush()
    assert samples(metrics)["process_cpu_seconds_total", ()] <= sum(os.times()[:2])


def test_what_others_count_is_counted_once_and_as_it_grows() -> None:
    ended: Counter[str] = Counter()
    lost = 0
    metrics = Metrics()
    metrics.lines_lost = metrics.traces_lost = lambda: lost
    metrics.connections_ended = lambda: ended
    assert samples(metrics)["shipworthy_traces_dropped_total", ()] == 0
    for turn in range(1, 4):
        ended["unread"] += 2
        ended[f"reason-{turn}"] += 1
        lost += 3
        metrics.flush()
        metrics.flush()
    whole = samples(metrics)
    assert whole["shipworthy_log_lines_dropped_total", ()] == whole["shipworthy_traces_dropped_total", ()] == 9
    found = {labels[0][1]: count for (name, labels), count in whole.items() if name.startswith("shipworthy_conn")}
    assert found == {"unread": 6, "reason-1": 1, "reason-2": 1, "reason-3": 1}


def test_reasons_may_come_while_they_are_read() -> None:
    """The event loop counts; a scrape reads in another thread."""
    ended: Counter[str] = Counter()
    metrics = Metrics()
    metrics.connections_ended = lambda: ended

    def end() -> None:
        for number in range(400):
            ended[f"reason-{number}"] += 1

    loop = threading.Thread(target=end)
    loop.start()
    while loop.is_alive():
        metrics.flush()
    assert sum(count for (name, _), count in samples(metrics).items() if name.startswith("shipworthy_conn")) == 400


def test_statistics() -> None:
    metrics = busy()
    lane = metrics.lane("digits", "1")
    lane.ran(8, 8, 1, [0.004], 0.03)
    lane.ran(2, 4, 1, [0.0], 0.02)
    done = metrics.statistics("digits", "1")
    assert (done.model, done.version) == ("digits", "1")
    assert (done.inference_count, done.execution_count) == (13, 3)
    assert done.success == Timing(2, 50_000_000)
    assert done.fail == Timing(2, 250_000_000)
    assert done.queue == Timing(4, 7_000_000)
    assert done.compute_infer == Timing(3, 60_000_000)
    assert [(one.batch_size, one.compute_infer) for one in done.batches] == [
        (4, Timing(2, 30_000_000)),
        (8, Timing(1, 30_000_000)),
    ]
    assert abs(done.last_inference_ms - time.time() * 1e3) < 60_000
    assert metrics.statistics("digits", "2").execution_count == 0
    assert metrics.statistics("nobody", "1") == type(done)("nobody", "1")


def test_nothing_is_lost_where_threads_meet(monkeypatch: pytest.MonkeyPatch) -> None:
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    monkeypatch.setattr(observed, "BULK", 16)
    try:
        tell_from_four_threads()
    finally:
        sys.setswitchinterval(before)


def tell_from_four_threads() -> None:
    metrics = Metrics()
    lane = metrics.lane("digits", "1")

    def work() -> None:
        for _ in range(3000):
            lane.ran(1, 2, 1, [0.001], 0.001)
            lane.answered("predict", 0.001)
            lane.failed(500)

    threads = [threading.Thread(target=work) for _ in range(4)]
    for one in threads:
        one.start()
    while any(one.is_alive() for one in threads):
        metrics.flush()
    done = metrics.statistics("digits", "1")
    assert (done.execution_count, done.success.count, done.queue.count, done.fail.count) == (12_000,) * 4


def test_many_observations_are_counted_without_being_asked_for() -> None:
    metrics = Metrics()
    lane = metrics.lane("digits", "1")
    for _ in range(100):
        lane.ran(32, 32, 32, [0.001] * 32, 0.01)
    assert len(lane._queued) < 1024
    assert len(lane._batches) < 100


def test_a_lane_that_closes_lets_its_model_go(monkeypatch: pytest.MonkeyPatch) -> None:
    class Served:
        def count(self) -> int:
            return 7

    metrics = Metrics()
    lane = metrics.lane("digits", "1")
    served = Served()
    lane.in_flight = served.count
    assert value(metrics, "shipworthy_requests_in_flight") == 7
    gone = weakref.ref(served)
    lane.answered("predict", 0.1)
    lane.close()
    del served
    assert gone() is None
    assert value(metrics, "shipworthy_requests_in_flight") == 0
    lane.answered("predict", 0.1)  # its answer was being sent
    assert value(metrics, "shipworthy_request_duration_seconds_count", route="predict") == 2
    monkeypatch.setattr(observed, "LINGER_S", 0.0)
    metrics.flush()
    assert metrics._lanes == {}
    assert value(metrics, "shipworthy_request_duration_seconds_count", route="predict") == 2


def test_lanes_of_one_version_add_up_while_one_replaces_the_other() -> None:
    metrics = Metrics()
    old, new = metrics.lane("digits", "1"), metrics.lane("digits", "1")
    old.in_flight, new.in_flight = lambda: 2, lambda: 3
    old.answered("predict", 0.1)
    new.answered("predict", 0.1)
    assert value(metrics, "shipworthy_requests_in_flight") == 5
    old.close()
    assert value(metrics, "shipworthy_requests_in_flight") == 3
    assert value(metrics, "shipworthy_requests_total", route="predict", status="200") == 2


async def flushed_by_itself() -> float:
    metrics = Metrics()
    task = asyncio.create_task(metrics.keep_flushing(0.01))
    metrics.lane("digits", "1").answered("predict", 0.1)
    await asyncio.sleep(0.1)
    task.cancel()
    totals = metrics._reader.read()
    return float(totals.value(("shipworthy_requests_total", "digits", "1", "predict", "200"))[0])


def test_it_is_flushed_from_time_to_time() -> None:
    assert asyncio.run(flushed_by_itself()) == 1.0


def test_both_formats_parse_and_agree() -> None:
    metrics = busy()
    text, plain_type = metrics.render("text/plain;version=0.0.4")
    om, om_type = metrics.render(OPENMETRICS)
    assert plain_type.startswith("text/plain; version=0.0.4")
    assert om_type.startswith("application/openmetrics-text; version=1.0.0")
    plain = {
        (one.name, tuple(sorted(one.labels.items()))): one.value
        for family in text_string_to_metric_families(text.decode())
        for one in family.samples
    }
    found = {
        (one.name, tuple(sorted(one.labels.items()))): one.value
        for family in openmetrics_parser.text_string_to_metric_families(om.decode())
        for one in family.samples
    }
    moving = {"process_cpu_seconds_total", "process_resident_memory_bytes", "process_virtual_memory_bytes"}
    assert {key for key in plain if plain[key] != found[key]} <= {(name, ()) for name in moving}
    assert plain.keys() == found.keys()


def test_names_keep_the_conventions() -> None:
    names = [family.name for family in FAMILIES]
    assert len(set(names)) == len(names)
    for family in FAMILIES:
        assert re.fullmatch(r"(shipworthy|process)_[a-z][a-z0-9_]*[a-z]", family.name)
        assert family.name.endswith("_total") == (family.kind == "counter"), family.name
        assert family.name.endswith("_info") == (family.kind == "info"), family.name
        assert not re.search(r"_(ms|us|milliseconds|minutes|kilobytes|mb|count|sum|bucket)(_|$)", family.name)
        assert re.fullmatch(r"[A-Z1].*\.", family.help)
        assert family.bounds == tuple(sorted(family.bounds)) and (family.kind == "histogram") == bool(family.bounds)
        assert not {"le", "quantile", "job", "instance"} & set(family.labels)


def test_every_family_is_exported_with_its_help_and_type() -> None:
    families = {one.name: one for one in text_string_to_metric_families(busy().render()[0].decode())}
    for family in FAMILIES:
        found = families[family.name.removesuffix("_total")]
        assert found.documentation == family.help
        assert found.type == ("gauge" if family.kind == "info" else family.kind)
        for sample in found.samples:
            assert set(sample.labels) - {"le"} == set(family.labels)


PROMETHEUS = (
    "application/openmetrics-text;version=1.0.0;q=0.5,application/openmetrics-text;version=0.0.1;q=0.4,"
    "text/plain;version=1.0.0;q=0.3,text/plain;version=0.0.4;q=0.2,*/*;q=0.1"
)


@pytest.mark.parametrize(
    ("accept", "expected"),
    [
        ("", False),
        ("*/*", False),
        ("text/plain", False),
        (OPENMETRICS, True),
        (f"{OPENMETRICS}; version=1.0.0; charset=utf-8", True),
        (f"{OPENMETRICS};version=0.0.1", False),
        (f"{OPENMETRICS};version=9", False),
        (f"{OPENMETRICS};q=0", False),
        (f"{OPENMETRICS};q=x", False),
        (f"text/plain;q=0.9,{OPENMETRICS};q=0.3", False),
        (f"text/plain;q=0.3,{OPENMETRICS};q=0.3", True),
        (PROMETHEUS, True),
        ("text/html,application/xhtml+xml", False),
    ],
)
def test_the_format_is_the_one_that_is_preferred(accept: str, expected: bool) -> None:
    assert prefers_openmetrics(accept) is expected


@given(st.text(max_size=60))
def test_any_accept_header_is_answered(accept: str) -> None:
    assert prefers_openmetrics(accept) in (True, False)


def test_the_twin_counts_nothing() -> None:
    twin: Recorder = NoMetrics()
    lane = twin.lane("digits", "1")
    lane.in_flight = lambda: 1
    lane.ran(1, 1, 1, [0.1], 0.1)
    lane.answered("predict", 0.1)
    lane.refused("deadline")
    lane.failed(500)
    lane.close()
    twin.unrouted(404)
    twin.flush()
    assert twin.render() == (b"", "text/plain; version=0.0.4; charset=utf-8")
    assert twin.render(OPENMETRICS)[0] == b"# EOF\n"
    assert twin.statistics("digits", "1").execution_count == 0
    twin.close()
