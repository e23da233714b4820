"""The bare ASGI lane: the predict and infer routes, answered without anything between them and the event loop.

Everything else goes to the application behind it."""

from __future__ import annotations

import asyncio
import logging
import re
from collections.abc import Awaitable, Callable, Sequence
from typing import TypeAlias

from starlette.types import ASGIApp, Receive, Scope, Send

from ..errors import UnansweredError
from .access import Access
from .answering import predict
from .bodies import ClientGone
from .catalog import Catalog
from .dispatch import StoppedError, clock
from .express import WebExchange, take_on
from .head import ANSWER, HEAD, Head
from .lane import Lane
from .observe.protocol import Route
from .observe.spans import Trace
from .problems import INTERNAL, METHOD_NOT_ALLOWED, ProblemError
from .replies import CLOSE, Reply, Timed, send_lines, server_timing
from .reporting import LEFT, Reporter
from .routing import Experiment
from .v2 import infer
from .wording import worded

Handler: TypeAlias = Callable[[Lane, Head, Receive], Awaitable[Reply]]
Headers: TypeAlias = Sequence[tuple[bytes, bytes]]
Hot: TypeAlias = tuple[Lane, Handler, Route, Experiment | None]

_LOG = logging.getLogger("shipworthy.server")
_HOT = re.compile(
    r"(?:/models/(?P<model>[^/]+)(?:/versions/(?P<version>[^/]+))?)?/predict"
    r"|/v2/models/(?P<named>[^/]+)(?:/versions/(?P<numbered>[^/]+))?/infer"
)


class Front:
    """Answers the hot routes itself, and hands everything else to `app`."""

    def __init__(self, app: ASGIApp, catalog: Catalog, access: Access, reporter: Reporter | None = None) -> None:
        self.app = app
        self._catalog, self._access, self._reporter = catalog, access, reporter
        self._routes: dict[str, Hot] = {}
        catalog.changed = self._routes.clear

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        path: str = scope.get("path", "")
        route = self._routes.get(path)
        if route is None and (scope["type"] != "http" or not is_hot(path)):
            await self.app(scope, receive, send)
            return
        started = clock()
        hot = route
        head = scope.pop(HEAD, None) or Head(scope)
        trace = None if self._reporter is None else self._reporter.begin(head)
        try:
            if (problem := self.problem(scope)) is not None:
                raise problem
            if scope["method"] != "POST":
                raise ProblemError(METHOD_NOT_ALLOWED, "this route takes POST", headers={"allow": "POST"})
            hot = route or self._found(path)
            lane, handler, name, experiment = hot
            if experiment is None:
                # It may have ended since the short way asked it.
                head.assigned = None
            else:
                assigned = head.assigned or experiment.assign(head.headers, named=name == "predict")
                head.assigned, lane = assigned, assigned.lane
                hot = (lane, handler, name, experiment)
            reply = await handler(lane, head, receive)
            head.stay()
        except ClientGone:
            self._left(head, hot, trace, started)
            return
        except asyncio.CancelledError:
            # A server that stops cancels the requests that it does not wait for any longer.
            if head.left or self._catalog.state != "draining":
                self._left(head, hot, trace, started)
                raise
            await self.refuse(StoppedError(), head, hot, trace, send, started)
            return
        except Exception as error:  # noqa: BLE001 - whatever it is, the caller gets an answer, and the log the rest
            await self.refuse(error, head, hot, trace, send, started)
            return
        if head.left:
            self._left(head, hot, trace, started)
            return
        await self._send(send, 200, reply.content_type, reply.body, head, trace, reply.headers, reply.spent)
        total_s = clock() - started
        lane.metrics.answered(name, total_s)
        if head.assigned is not None:
            head.assigned.answered(total_s)
        if self._reporter is not None:
            self._reporter.answered(head, trace, 200, total_s, route=name, lane=lane, spent=reply.spent)

    def express(self, scope: Scope, exchange: WebExchange) -> bool:
        """Called by the web server before it makes a task for a request. True where this answers without one."""
        hot = self._routes.get(scope["path"])
        if hot is None or hot[1] is not predict or not hot[0].express or self._reporter is not None:
            return False
        return scope["method"] == "POST" and take_on(self, hot, scope, exchange)

    def problem(self, scope: Scope) -> ProblemError | None:
        """Why a caller is not answered; None for others."""
        return self._access.check(scope["headers"], scope["path"], scope["method"], scope.get("client"))

    def lines(
        self, media: bytes, body: bytes, head: Head, trace: Trace | None, further: Headers, spent: Timed | None = None
    ) -> tuple[bytes, bool]:
        """The header lines of an answer, and whether the connection ends with it."""
        lines = b"content-type: %b\r\ncontent-length: %d\r\nx-request-id: %b\r\n" % (media, len(body), head.id.encode())
        if spent is not None:
            lines += b"server-timing: %b\r\n" % server_timing(spent)
        close = self._catalog.parting
        if further:
            # Whoever frames the answer says this, and does it.
            close = close or CLOSE in further
            lines += b"".join([b"%b: %b\r\n" % header for header in further if header != CLOSE])
        if trace is not None:
            lines += b"traceparent: %b\r\n" % trace.traceparent.encode()
        return lines, close

    async def _send(
        self,
        send: Send,
        status: int,
        media: bytes,
        body: bytes,
        head: Head,
        trace: Trace | None,
        further: Headers,
        spent: Timed | None = None,
    ) -> None:
        lines, close = self.lines(media, body, head, trace, further, spent)
        whole = head.extensions.get(ANSWER)
        if whole is None or not whole(status, lines, body, close=close):
            await send_lines(send, status, lines, body, close=close)

    def _found(self, path: str) -> Hot:
        """The lane and the handler of a path; ProblemError where there is no such model."""
        asked = _HOT.fullmatch(path)
        assert asked is not None, "only hot paths come here"
        version = asked["version"] or asked["numbered"]
        lane = self._catalog.lane(asked["model"] or asked["named"], version)
        experiment = self._catalog.experiment(lane.model) if version is None else None
        route: Hot = (lane, infer, "v2", experiment) if asked["named"] else (lane, predict, "predict", experiment)
        self._routes[path] = route
        return route

    def _left(self, head: Head, hot: Hot | None, trace: Trace | None, started: float) -> None:
        """The client has left; there is nobody to answer."""
        if head.assigned is not None:
            head.assigned.unserved(LEFT, clock() - started)
        if self._reporter is not None:
            lane, _, route, _ = hot or (None, None, None, None)
            self._reporter.answered(head, trace, LEFT, clock() - started, route=route, lane=lane)

    async def refuse(
        self, error: Exception, head: Head, hot: Hot | None, trace: Trace | None, send: Send, started: float
    ) -> None:
        """Answer what is wrong; `hot` is None where no model was found."""
        path: str = head.scope["path"]
        words = worded(error, path, head.id)
        if words.status == INTERNAL.status:
            _LOG.error("request %s failed: POST %a", head.id, path, exc_info=error)
        further = [(name.encode(), value.encode("latin-1")) for name, value in words.headers.items()]
        await self._send(send, words.status, words.media, words.body, head, trace, further)
        total_s = clock() - started
        lane, _, route, _ = hot or (None, None, None, None)
        if lane is None or route is None:
            self._catalog.metrics.unrouted(words.status)
        else:
            lane.metrics.failed(words.status, route, total_s)
        if head.assigned is not None:
            # What the end of a server cuts off is no error of a version, and the slower one has more of it.
            status = LEFT if isinstance(error, StoppedError) else words.status
            head.assigned.unserved(status, total_s, unanswered=isinstance(error, UnansweredError))
        if self._reporter is not None:
            self._reporter.answered(head, trace, words.status, total_s, route=route, lane=lane)
        # The frames of the request would hold it, and it them, until the next collection of garbage.
        error.__traceback__ = None


def is_hot(path: str) -> bool:
    """Whether the lane answers this path, or refuses it."""
    return _HOT.fullmatch(path) is not None
