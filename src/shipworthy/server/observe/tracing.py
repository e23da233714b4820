"""Traces for OpenTelemetry (the extra `otel`), exported over OTLP/HTTP.

A request costs its ids while it is under way; its spans are made afterwards, in a thread, from the times that were
measured anyway. A server that exports no traces has None where this tracer would be.

    tracer = open_tracer(endpoint)                                  once; None where no traces are wanted
    trace = tracer and tracer.begin(traceparent, tracestates)       at the headers
    response header `traceparent`: trace.traceparent
    tracer.finish(trace, Visit(...))                                after the answer
"""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Iterable
from typing import TYPE_CHECKING, TypeAlias

from ... import __version__
from ...errors import MissingExtra
from .spans import Spans, Trace, Visit, span_context
from .spool import Spool
from .tracecontext import TraceContext, begin, parse

if TYPE_CHECKING:
    from opentelemetry.sdk.trace.export import SpanExporter
    from opentelemetry.sdk.trace.sampling import Sampler

Finished: TypeAlias = tuple[Trace, Visit, int]
"""A request that was answered, and when, in nanoseconds since 1970."""

MAX_WAITING = 4096
"""So many requests may wait for their export; more are dropped and counted."""
BATCH = 256
EXPORT_S = 1.0
CLOSE_S = 5.0
_ENDPOINTS = ("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "OTEL_EXPORTER_OTLP_ENDPOINT")

_LOG = logging.getLogger("shipworthy.server.tracing")


class Tracer:
    """Gives requests their place in a trace, and exports the sampled ones."""

    def __init__(self, endpoint: str | None = None) -> None:
        """`endpoint` is the full URL for traces, such as http://127.0.0.1:4318/v1/traces; else the standard variables
        say it (OTEL_EXPORTER_OTLP_TRACES_ENDPOINT, OTEL_EXPORTER_OTLP_ENDPOINT), as they do for headers, time limits,
        the sampler of requests without a parent, and the name of the service. Raises MissingExtra."""
        try:
            from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
            from opentelemetry.sdk.resources import SERVICE_NAME, SERVICE_VERSION, Resource
            from opentelemetry.sdk.trace import TracerProvider
        except ModuleNotFoundError as error:
            raise MissingExtra("the export of traces", error.name or "opentelemetry", "otel") from error
        named = Resource.create({SERVICE_VERSION: __version__, "process.pid": os.getpid()})
        # The SDK calls a service whose operator named none `unknown_service`.
        if str(named.attributes.get(SERVICE_NAME, "")).startswith("unknown_service"):
            named = named.merge(Resource({SERVICE_NAME: "shipworthy"}))
        # The provider reads the sampler from its variables; the default goes by the parent, and takes all others.
        self._sampler: Sampler = TracerProvider(resource=named, shutdown_on_exit=False).sampler
        self._exporter: SpanExporter = OTLPSpanExporter(endpoint)
        self._spans = Spans(named)
        self._spool: Spool[Finished] = Spool("shipworthy-traces", self._export, batch=BATCH, linger_s=EXPORT_S)

    @property
    def dropped(self) -> int:
        """Sampled requests that were not exported."""
        return self._spool.dropped

    def begin(self, traceparent: str | None = None, tracestate: Iterable[str] = ()) -> Trace:
        """A new span: a child of the caller's, where the headers name one, or else the first of a new trace.

        `traceparent` is None where the header is missing, and where it is there more than once."""
        parent = parse(traceparent, tracestate)
        own = begin(True) if parent is None else parent.child()
        if self._samples(own, parent) != own.sampled:
            own = TraceContext(own.trace_id, own.span_id, own.flags ^ 1, own.state)
        return Trace(own, parent)

    def finish(self, trace: Trace, visit: Visit) -> None:
        """To be called when the answer was sent; the span ends now. Returns at once."""
        if not trace.own.sampled:
            return
        self._spool.put((trace, visit, time.time_ns()), MAX_WAITING)
        if self._spool.waiting >= BATCH:
            self._spool.wake()

    def flush(self, timeout_s: float = CLOSE_S) -> bool:
        """Export what was finished so far; False where the time is over before."""
        return self._spool.flush(timeout_s)

    def close(self, timeout_s: float = CLOSE_S) -> None:
        """Export what is left, as far as the time allows."""
        self._spool.close(timeout_s)
        # An export that is still waiting for its collector is ended by this.
        self._exporter.shutdown()

    def _samples(self, own: TraceContext, parent: TraceContext | None) -> bool:
        from opentelemetry.sdk.trace.sampling import DEFAULT_ON, Decision
        from opentelemetry.trace import NonRecordingSpan, set_span_in_context

        if self._sampler is DEFAULT_ON:
            return parent is None or parent.sampled  # What it would say, without the objects that it asks for.
        context = None if parent is None else set_span_in_context(NonRecordingSpan(span_context(parent, remote=True)))
        decision = self._sampler.should_sample(context, int(own.trace_id, 16), "predict").decision
        return decision is Decision.RECORD_AND_SAMPLE

    def _export(self, finished: list[Finished]) -> None:
        from opentelemetry.sdk.trace.export import SpanExportResult

        try:
            spans = [span for one in finished for span in self._spans.of(*one)]
            failed = self._exporter.export(spans) is not SpanExportResult.SUCCESS
        # The thread must outlive whatever a collector answers.
        except Exception:  # noqa: BLE001
            _LOG.exception("traces were not exported")
            failed = True
        if failed:
            self._spool.drop(len(finished))


def open_tracer(endpoint: str | None = None) -> Tracer | None:
    """The tracer that an operator asks for, by an endpoint or by the standard variables; None where by neither, and
    where OTEL_SDK_DISABLED is true. Raises MissingExtra."""
    if os.environ.get("OTEL_SDK_DISABLED", "").strip().lower() == "true":
        return None
    if endpoint is None and not any(os.environ.get(name) for name in _ENDPOINTS):
        return None
    return Tracer(endpoint)
