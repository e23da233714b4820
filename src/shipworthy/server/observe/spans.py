"""The spans of a request, made after it was answered."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

from ... import __version__
from .tracecontext import TraceContext

if TYPE_CHECKING:
    from opentelemetry.sdk.resources import Resource
    from opentelemetry.sdk.trace import ReadableSpan
    from opentelemetry.trace import SpanContext, SpanKind
    from opentelemetry.trace.status import Status


@dataclass(frozen=True, slots=True)
class Trace:
    """One request: its own span, and the caller's where it named one."""

    own: TraceContext
    parent: TraceContext | None

    @property
    def traceparent(self) -> str:
        """For the answer, and for whatever is asked on its behalf."""
        return self.own.traceparent

    @property
    def trace_id(self) -> str:
        return self.own.trace_id


@dataclass(frozen=True, slots=True)
class Visit:
    """What is known of a request when it was answered; durations in seconds."""

    route: str
    method: str
    status: int
    total_s: float
    """From the headers of the request to its answer."""
    model: str = ""
    version: str = ""
    request_id: str = ""
    queue_s: float | None = None
    """Waiting for its batch; None where it came to none."""
    compute_s: float | None = None
    rows: int | None = None
    queued_after_s: float | None = None
    """From the headers to the queue: the body's way here, and its decoding. None takes the engine's end for the
    request's."""


class Spans:
    """Makes the spans of a request: `predict`, and in it `queue` and `compute`."""

    def __init__(self, resource: Resource) -> None:
        from opentelemetry.sdk.util.instrumentation import InstrumentationScope

        self._resource = resource
        self._scope = InstrumentationScope("shipworthy", __version__)

    def of(self, trace: Trace, visit: Visit, ended_ns: int) -> Iterator[ReadableSpan]:
        from opentelemetry.trace import SpanKind
        from opentelemetry.trace.status import Status, StatusCode

        started_ns = ended_ns - _ns(visit.total_s)
        parent = None if trace.parent is None else span_context(trace.parent, remote=True)
        own = span_context(trace.own, remote=False)
        status = Status(StatusCode.ERROR if visit.status >= 500 else StatusCode.UNSET)
        name = f"{visit.method} {visit.route}".rstrip()
        yield self._span(name, own, parent, (started_ns, ended_ns), _attributes(visit), SpanKind.SERVER, status)
        at_ns = _queued_ns(visit, started_ns, ended_ns)
        for name, seconds in (("queue", visit.queue_s), ("compute", visit.compute_s)):
            if seconds is not None:
                until_ns = min(at_ns + _ns(seconds), ended_ns)
                child = span_context(trace.own.child(), remote=False)
                yield self._span(name, child, own, (at_ns, until_ns), {}, SpanKind.INTERNAL, Status())
                at_ns = until_ns

    def _span(
        self,
        name: str,
        context: SpanContext,
        parent: SpanContext | None,
        times: tuple[int, int],
        attributes: dict[str, str | int],
        kind: SpanKind,
        status: Status,
    ) -> ReadableSpan:
        from opentelemetry.sdk.trace import ReadableSpan

        return ReadableSpan(
            name,
            context,
            parent,
            self._resource,
            attributes,
            kind=kind,
            status=status,
            start_time=times[0],
            end_time=times[1],
            instrumentation_scope=self._scope,
        )


def _attributes(visit: Visit) -> dict[str, str | int]:
    """Names of OpenTelemetry's semantic conventions for HTTP, where it has one."""
    known: dict[str, str | int | None] = {
        "http.request.method": visit.method,
        "http.route": visit.route,
        "http.response.status_code": visit.status,
        "shipworthy.model": visit.model,
        "shipworthy.version": visit.version,
        "shipworthy.request_id": visit.request_id,
        "shipworthy.batch.rows": visit.rows,
    }
    return {key: value for key, value in known.items() if value is not None and value != ""}


def _queued_ns(visit: Visit, started_ns: int, ended_ns: int) -> int:
    """When the request came to its queue."""
    inside = _ns((visit.queue_s or 0.0) + (visit.compute_s or 0.0))
    at_ns = ended_ns - inside if visit.queued_after_s is None else started_ns + _ns(visit.queued_after_s)
    return min(max(at_ns, started_ns), ended_ns)


def span_context(context: TraceContext, *, remote: bool) -> SpanContext:
    """The same as OpenTelemetry's own."""
    from opentelemetry.trace import SpanContext, TraceFlags, TraceState

    state = TraceState.from_header([context.state]) if context.state else None
    return SpanContext(int(context.trace_id, 16), int(context.span_id, 16), remote, TraceFlags(context.flags), state)


def _ns(seconds: float) -> int:
    return round(seconds * 1e9)
