"""Traces: the W3C rules for headers, and the spans as a collector receives them."""

from __future__ import annotations

import gzip
import http.server
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import (
    ExportTraceServiceRequest,
    ExportTraceServiceResponse,
)
from opentelemetry.proto.trace.v1.trace_pb2 import Span, Status
from opentelemetry.trace import get_current_span
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from shipworthy.server.observe import Tracer, Visit, open_tracer, tracing
from shipworthy.server.observe.tracecontext import TraceContext, begin, parse, parse_state

TRACE, SPAN = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"
PARENT = f"00-{TRACE}-{SPAN}-01"


class Collector:
    """A receiver of OTLP over HTTP on loopback."""

    def __init__(self, status: int = 200) -> None:
        received: list[ExportTraceServiceRequest] = []

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["content-length"]))
                if self.headers.get("content-encoding") == "gzip":
                    body = gzip.decompress(body)
                assert self.path == "/v1/traces" and self.headers["content-type"] == "application/x-protobuf"
                received.append(ExportTraceServiceRequest.FromString(body))
                answer = ExportTraceServiceResponse().SerializeToString()
                self.send_response(status)
                self.send_header("content-type", "application/x-protobuf")
                self.send_header("content-length", str(len(answer)))
                self.end_headers()
                self.wfile.write(answer)

            def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - the base class calls it so
                return

        self.received = received
        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_address[1]}"
        self.thread = threading.Thread(target=self.server.serve_forever, kwargs={"poll_interval": 0.02})
        self.thread.start()

    def spans(self) -> list[Span]:
        return [
            span
            for request in self.received
            for resource in request.resource_spans
            for scope in resource.scope_spans
            for span in scope.spans
        ]

    def close(self) -> None:
        self.server.shutdown()
        self.thread.join()
        self.server.server_close()


@pytest.fixture
def collector() -> Iterator[Collector]:
    made = Collector()
    yield made
    made.close()


@pytest.fixture(autouse=True)
def environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("OTEL_SERVICE_NAME", "OTEL_TRACES_SAMPLER", "OTEL_EXPORTER_OTLP_ENDPOINT", "OTEL_RESOURCE_ATTRIBUTES"):
        monkeypatch.delenv(name, raising=False)
    for name in ("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "OTEL_SDK_DISABLED"):
        monkeypatch.delenv(name, raising=False)


VISIT = Visit(
    route="/predict",
    method="POST",
    status=200,
    total_s=0.010,
    model="digits",
    version="1",
    request_id="r1",
    queue_s=0.003,
    compute_s=0.002,
    rows=8,
    queued_after_s=0.001,
)


def test_a_request_is_three_spans_with_the_right_parents(collector: Collector) -> None:
    tracer = Tracer(collector.url + "/v1/traces")
    before = time.time_ns()
    trace = tracer.begin(PARENT, ["vendor=a,other=b"])
    tracer.finish(trace, VISIT)
    assert tracer.flush()
    after = time.time_ns()
    tracer.close()

    spans = {span.name: span for span in collector.spans()}
    predict, queue, compute = spans["POST /predict"], spans["queue"], spans["compute"]
    assert len(collector.spans()) == 3
    assert {span.trace_id.hex() for span in spans.values()} == {TRACE} == {trace.trace_id}
    assert predict.parent_span_id.hex() == SPAN
    assert queue.parent_span_id == compute.parent_span_id == predict.span_id
    assert len({span.span_id for span in spans.values()}) == 3
    assert trace.traceparent == f"00-{TRACE}-{predict.span_id.hex()}-01"
    assert {span.trace_state for span in spans.values()} == {"vendor=a,other=b"}

    assert (predict.kind, queue.kind, compute.kind) == (
        Span.SPAN_KIND_SERVER,
        Span.SPAN_KIND_INTERNAL,
        Span.SPAN_KIND_INTERNAL,
    )
    assert predict.status.code == Status.STATUS_CODE_UNSET
    assert before - 10_000_000 <= predict.start_time_unix_nano
    assert predict.end_time_unix_nano <= after
    starts = [span.start_time_unix_nano - predict.start_time_unix_nano for span in (predict, queue, compute)]
    ends = [span.end_time_unix_nano - predict.start_time_unix_nano for span in (predict, queue, compute)]
    assert starts == [0, 1_000_000, 4_000_000]
    assert ends == [10_000_000, 4_000_000, 6_000_000]

    attributes = {one.key: one.value.string_value or one.value.int_value for one in predict.attributes}
    assert attributes == {
        "http.request.method": "POST",
        "http.route": "/predict",
        "http.response.status_code": 200,
        "shipworthy.model": "digits",
        "shipworthy.version": "1",
        "shipworthy.request_id": "r1",
        "shipworthy.batch.rows": 8,
    }


def test_it_calls_itself_by_its_name(collector: Collector, monkeypatch: pytest.MonkeyPatch) -> None:
    def named() -> str:
        tracer = Tracer(collector.url + "/v1/traces")
        tracer.finish(tracer.begin(), VISIT)
        tracer.close()
        (resource,) = collector.received[-1].resource_spans
        assert resource.scope_spans[0].scope.name == "shipworthy"
        return next(one.value.string_value for one in resource.resource.attributes if one.key == "service.name")

    assert named() == "shipworthy"
    monkeypatch.setenv("OTEL_SERVICE_NAME", "harbour")
    assert named() == "harbour"


def test_the_endpoint_comes_from_the_standard_variable(collector: Collector, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", collector.url)
    tracer = Tracer()
    trace = tracer.begin()
    assert trace.parent is None and trace.own.sampled
    tracer.finish(trace, VISIT)
    tracer.close()
    predict = next(span for span in collector.spans() if span.name == "POST /predict")
    assert predict.parent_span_id == b""
    assert predict.trace_id.hex() == trace.trace_id


@pytest.mark.parametrize(("sampler", "root"), [(None, "03"), ("parentbased_always_off", "02")])
def test_the_parent_says_whether_it_is_recorded(
    sampler: str | None, root: str, collector: Collector, monkeypatch: pytest.MonkeyPatch
) -> None:
    if sampler is not None:
        monkeypatch.setenv("OTEL_TRACES_SAMPLER", sampler)
    tracer = Tracer(collector.url + "/v1/traces")
    for header, flags in ((None, root), (PARENT[:-2] + "00", "00"), (PARENT, "01")):
        trace = tracer.begin(header)
        assert trace.traceparent.endswith("-" + flags)
        tracer.finish(trace, VISIT)
    tracer.close()
    recorded = [span.trace_id.hex() for span in collector.spans()]
    assert recorded.count(TRACE) == 3
    assert len(recorded) == (6 if root == "03" else 3)


def test_a_request_that_came_to_no_batch_is_one_span(collector: Collector) -> None:
    tracer = Tracer(collector.url + "/v1/traces")
    tracer.finish(tracer.begin(), Visit(route="/predict", method="POST", status=503, total_s=0.001))
    tracer.close()
    (span,) = collector.spans()
    assert span.name == "POST /predict"
    assert span.status.code == Status.STATUS_CODE_ERROR


def test_without_the_place_of_the_queue_the_engine_ends_with_the_request(collector: Collector) -> None:
    tracer = Tracer(collector.url + "/v1/traces")
    visit = Visit(route="/p", method="POST", status=200, total_s=0.01, queue_s=0.02, compute_s=0.002)
    tracer.finish(tracer.begin(), visit)
    tracer.close()
    spans = {span.name: span for span in collector.spans()}
    predict = spans["POST /p"]
    for span in spans.values():
        assert predict.start_time_unix_nano <= span.start_time_unix_nano <= span.end_time_unix_nano
        assert span.end_time_unix_nano <= predict.end_time_unix_nano


def test_what_cannot_be_exported_is_counted() -> None:
    refusing = Collector(status=400)
    tracer = Tracer(refusing.url + "/v1/traces")
    tracer.finish(tracer.begin(), VISIT)
    assert tracer.flush()
    assert tracer.dropped == 1
    tracer.close()
    tracer.finish(tracer.begin(), VISIT)
    assert tracer.dropped == 2
    refusing.close()


def test_a_collector_that_is_away_holds_nobody_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tracing, "MAX_WAITING", 10)
    monkeypatch.setattr(tracing, "EXPORT_S", 60.0)
    tracer = Tracer("http://127.0.0.1:9/v1/traces")
    started = time.perf_counter()
    for _ in range(100):
        tracer.finish(tracer.begin(), VISIT)
    assert time.perf_counter() - started < 2.0
    assert tracer.dropped == 90
    tracer.close(timeout_s=0.1)
    assert time.perf_counter() - started < 5.0


def test_it_is_off_unless_asked_for(collector: Collector, monkeypatch: pytest.MonkeyPatch) -> None:
    assert open_tracer() is None
    by_option = open_tracer(collector.url + "/v1/traces")
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", collector.url)
    by_variable = open_tracer()
    assert by_option is not None and by_variable is not None
    for tracer in (by_option, by_variable):
        tracer.finish(tracer.begin(), VISIT)
        tracer.close()
    assert len(collector.spans()) == 6
    monkeypatch.setenv("OTEL_SDK_DISABLED", "true")
    assert open_tracer(collector.url) is None


WITHOUT = """
import sys
sys.modules["opentelemetry"] = None
from shipworthy.errors import MissingExtra
from shipworthy.server.observe import Tracer
try:
    Tracer()
except MissingExtra as error:
    print(error)
"""


def test_without_the_extra_it_is_said_at_use() -> None:
    done = subprocess.run([sys.executable, "-c", WITHOUT], capture_output=True, text=True, check=True)
    assert "shipworthy[otel]" in done.stdout


def test_the_library_is_not_imported_before_it_is_used() -> None:
    code = "import sys, shipworthy.server.observe; print([m for m in sys.modules if m.startswith(('opentel', 'prom'))])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


VALID = [
    (PARENT, (TRACE, SPAN, 1)),
    (f"00-{TRACE}-{SPAN}-00", (TRACE, SPAN, 0)),
    (f"00-{TRACE}-{SPAN}-03", (TRACE, SPAN, 3)),
    (f"00-{TRACE}-{SPAN}-ff", (TRACE, SPAN, 3)),
    (f" \t{PARENT} ", (TRACE, SPAN, 1)),
    (f"01-{TRACE}-{SPAN}-01", (TRACE, SPAN, 1)),
    (f"cc-{TRACE}-{SPAN}-01-what-the-future-will-be-like", (TRACE, SPAN, 1)),
    (f"cc-{TRACE}-{SPAN}-01-", (TRACE, SPAN, 1)),
    (f"00-{'0' * 31}1-{'0' * 15}1-01", ("0" * 31 + "1", "0" * 15 + "1", 1)),
]
INVALID = [
    "",
    "00",
    f"ff-{TRACE}-{SPAN}-01",
    f"00-{'0' * 32}-{SPAN}-01",
    f"00-{TRACE}-{'0' * 16}-01",
    f"00-{TRACE.upper()}-{SPAN}-01",
    f"00-{TRACE}-{SPAN.upper()}-01",
    f"00-{TRACE[:-1]}-{SPAN}-01",
    f"00-{TRACE}a-{SPAN}-01",
    f"00-{TRACE}-{SPAN[:-1]}-01",
    f"00-{TRACE}-{SPAN}-1",
    f"00-{TRACE}-{SPAN}-0x",
    f"00-{TRACE}-{SPAN}-01-extra",
    f"00-{TRACE}-{SPAN}-01-",
    f"00-{TRACE}-{SPAN}-01.",
    f"cc-{TRACE}-{SPAN}-01.what",
    f"0-{TRACE}-{SPAN}-01",
    f"0g-{TRACE}-{SPAN}-01",
    f"00_{TRACE}_{SPAN}_01",
    f"00-{TRACE[:-1]}٣-{SPAN}-01",
    f"{PARENT}\n",
    f"{PARENT},{PARENT}",
    f"cc-{TRACE}-{SPAN}-01-" + "x" * 600,
]


@pytest.mark.parametrize(("header", "expected"), VALID)
def test_a_valid_parent_is_read(header: str, expected: tuple[str, str, int]) -> None:
    found = parse(header)
    assert found is not None
    assert (found.trace_id, found.span_id, found.flags) == expected


@pytest.mark.parametrize("header", INVALID)
def test_an_invalid_parent_is_as_none(header: str) -> None:
    assert parse(header, ["a=b"]) is None


@given(
    st.one_of(
        st.from_regex(r"[0-9a-f]{2}-[0-9a-f]{32}-[0-9a-f]{16}-[0-9a-f]{2}(-.*)?", fullmatch=True),
        st.text("0123456789abcdefA- \t", max_size=60),
        st.sampled_from([one for one, _ in VALID] + INVALID),
    ),
)
def test_the_library_reads_parents_alike(header: str) -> None:
    if header != header.strip("\r\n"):
        return  # no header has a line break; the library's `$` would take one
    span = get_current_span(TraceContextTextMapPropagator().extract({"traceparent": header})).get_span_context()
    found = parse(header)
    assert (found is not None) == span.is_valid
    if found is not None:
        assert (int(found.trace_id, 16), int(found.span_id, 16)) == (span.trace_id, span.span_id)
        assert found.sampled == span.trace_flags.sampled


@pytest.mark.parametrize(
    ("headers", "expected"),
    [
        ([], ""),
        (["a=1"], "a=1"),
        (["a=1", "b=2"], "a=1,b=2"),
        (["a=1 ,\tb=2,,"], "a=1,b=2"),
        (["fw529a3039@dt=FfAAAA, rojo=00-x"], "fw529a3039@dt=FfAAAA,rojo=00-x"),
        (["a=1,a=2"], ""),
        (["A=1"], ""),
        (["a=1,b"], ""),
        (["a=é"], ""),
        (["a=1=2"], ""),
        (["a@B=1"], ""),
        ([",".join(f"k{number}=v" for number in range(33))], ""),
        ([",".join(f"k{number}=v" for number in range(32))], ",".join(f"k{number}=v" for number in range(32))),
        (["a=" + "x" * 9000], ""),
    ],
)
def test_the_state_is_passed_on_or_left_out(headers: list[str], expected: str) -> None:
    assert parse_state(headers) == expected
    found = parse(PARENT, headers)
    assert found is not None and found.state == expected


def test_ids_are_new_and_of_the_right_length() -> None:
    made = [begin(True) for _ in range(100)]
    assert len({one.trace_id for one in made}) == 100
    for one in made:
        assert parse(one.traceparent) == TraceContext(one.trace_id, one.span_id, 3)
        child = one.child()
        assert child.trace_id == one.trace_id and child.span_id != one.span_id and child.sampled
