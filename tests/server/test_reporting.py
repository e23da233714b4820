"""What whoever listens is told of a request."""

from __future__ import annotations

from typing import Any, cast

from shipworthy.server.head import Head
from shipworthy.server.observe import Log, Trace, Tracer, Visit
from shipworthy.server.observe.tracecontext import begin
from shipworthy.server.replies import Spent
from shipworthy.server.reporting import LEFT, Reporter


class Heard:
    """A log and a tracer that keep what they are told."""

    def __init__(self) -> None:
        self.lines: list[dict[str, Any]] = []
        self.visits: list[Visit] = []
        self.parents: list[tuple[str | None, list[str]]] = []

    def request(self, **fields: Any) -> None:
        self.lines.append(fields)

    def begin(self, parent: str | None, states: list[str]) -> Trace:
        self.parents.append((parent, states))
        return Trace(begin(True), None)

    def finish(self, trace: Trace, visit: Visit) -> None:
        self.visits.append(visit)


def head(*headers: tuple[bytes, bytes]) -> Head:
    return Head({"method": "POST", "path": "/predict", "headers": [(b"x-request-id", b"mine"), *headers]})


def reporter(heard: Heard) -> Reporter:
    return Reporter(cast(Log, heard), cast(Tracer, heard))


def test_the_log_and_the_trace_are_told_the_same() -> None:
    heard = Heard()
    told = reporter(heard)
    trace = told.begin(head())
    told.answered(head(), trace, 200, 0.5, route="predict", spent=Spent(0.1, 0.2, 8))
    (line,), (visit,) = heard.lines, heard.visits
    assert trace is not None
    assert line == {
        "request_id": "mine",
        "method": "POST",
        "path": "/predict",
        "status": 200,
        "total_s": 0.5,
        "queue_s": 0.1,
        "compute_s": 0.2,
        "batch": 8,
        "route": "predict",
        "trace_id": trace.trace_id,
    }
    assert visit == Visit("predict", "POST", 200, 0.5, request_id="mine", queue_s=0.1, compute_s=0.2, rows=8)


def test_a_client_that_left_is_told_as_nginx_does() -> None:
    heard = Heard()
    told = reporter(heard)
    told.answered(head(), told.begin(head()), LEFT, 0.5, route="v2")
    (line,), (visit,) = heard.lines, heard.visits
    assert (line["status"], line["route"], line["batch"]) == (499, "v2", None)
    assert (visit.status, visit.route, visit.queue_s) == (499, "v2", None)


def test_a_parent_that_is_named_twice_is_none() -> None:
    heard = Heard()
    told = reporter(heard)
    for parents in ((), (b"a",), (b"a", b"b")):
        told.begin(head(*((b"traceparent", one) for one in parents), (b"tracestate", b"k=1"), (b"tracestate", b"l=2")))
    assert heard.parents == [(None, ["k=1", "l=2"]), ("a", ["k=1", "l=2"]), (None, ["k=1", "l=2"])]


def test_who_does_not_listen_is_not_told() -> None:
    heard = Heard()
    Reporter(None, None).answered(head(), None, 200, 0.5)
    assert Reporter(None, None).begin(head()) is None
    # A request that began before there was a place for it in a trace has none.
    reporter(heard).answered(head(), None, 200, 0.5)
    assert (len(heard.lines), heard.visits) == (1, [])
    assert heard.lines[0]["trace_id"] is None
