"""What an operator may ask to be told of each request: a line in the log, a span in a trace."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from .head import Head
from .observe.spans import Trace, Visit

if TYPE_CHECKING:
    from .lane import Lane
    from .observe import Log, Route, Tracer
    from .replies import Timed

LEFT = 499
"""Told of a request whose client left before its answer, as nginx does. Nothing was sent, and no client sees this."""


@dataclass(frozen=True, slots=True)
class Reporter:
    """Tells of requests, when they were answered, to whoever listens."""

    log: Log | None
    tracer: Tracer | None

    def begin(self, head: Head) -> Trace | None:
        """The request's place in a trace: in the caller's, where its headers name one."""
        if self.tracer is None:
            return None
        raw: Sequence[tuple[bytes, bytes]] = head.scope["headers"]
        parents = [value.decode("latin-1") for name, value in raw if name == b"traceparent"]
        states = [value.decode("latin-1") for name, value in raw if name == b"tracestate"]
        return self.tracer.begin(parents[0] if len(parents) == 1 else None, states)

    def answered(
        self,
        head: Head,
        trace: Trace | None,
        status: int,
        total_s: float,
        *,
        route: Route | None = None,
        lane: Lane | None = None,
        spent: Timed | None = None,
    ) -> None:
        """To be called when the answer was sent, `total_s` seconds after the headers came; with LEFT, when it is known
        that nobody waits for one."""
        named: dict[str, Any] = {} if lane is None else {"model": lane.model, "version": lane.version}
        if spent is not None:
            named |= {"queue_s": spent.queue_s, "compute_s": spent.compute_s}
        batch = None if spent is None else spent.batch
        method: str = head.scope["method"]
        if self.log is not None:
            self.log.request(
                request_id=head.id,
                method=method,
                path=head.scope["path"],
                status=status,
                total_s=total_s,
                route=route,
                batch=batch,
                trace_id=None if trace is None else trace.trace_id,
                **named,
            )
        if self.tracer is not None and trace is not None:
            visit = Visit(route or "", method, status, total_s, request_id=head.id, rows=batch, **named)
            self.tracer.finish(trace, visit)
