"""The bare ASGI lane: the predict and infer routes, answered without anything between them and the event loop.

Everything else goes to the application behind it."""

from __future__ import annotations

import asyncio
import logging
import re
from collections.abc import Awaitable, Callable, Iterable, Mapping
from typing import TypeAlias

from starlette.types import ASGIApp, Receive, Scope, Send

from .access import Access
from .answering import predict
from .bodies import ClientGone
from .catalog import Catalog
from .dispatch import StoppedError, clock
from .head import Head
from .lane import Lane
from .observe.protocol import Route
from .problems import INTERNAL, MEDIA_TYPE, METHOD_NOT_ALLOWED, ProblemError, as_problem, problem_body
from .replies import JSON_TYPE, Reply
from .v2 import as_error, error_content, infer

Handler: TypeAlias = Callable[[Lane, Head, Receive], Awaitable[Reply]]
Headers: TypeAlias = Iterable[tuple[bytes, bytes]]
Hot: TypeAlias = tuple[Lane, Handler, Route]

_LOG = logging.getLogger("shipworthy.server")
_HOT = re.compile(
    r"(?:/models/(?P<model>[^/]+)(?:/versions/(?P<version>[^/]+))?)?/predict"
    r"|/v2/models/(?P<named>[^/]+)(?:/versions/(?P<numbered>[^/]+))?/infer"
)
_PROBLEM_TYPE = MEDIA_TYPE.encode()


class Front:
    """Answers the hot routes itself, and hands everything else to `app`."""

    def __init__(self, app: ASGIApp, catalog: Catalog, access: Access) -> None:
        self.app = app
        self._catalog, self._access = catalog, access
        self._routes: dict[str, Hot] = {}
        catalog.changed = self._routes.clear

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        path: str = scope.get("path", "")
        route = self._routes.get(path)
        if route is None and (scope["type"] != "http" or not is_hot(path)):
            await self.app(scope, receive, send)
            return
        started = clock()
        head = Head(scope)
        try:
            problem = self._access.check(scope["headers"], path, scope["method"], scope.get("client"))
            if problem is not None:
                raise problem
            if scope["method"] != "POST":
                raise ProblemError(METHOD_NOT_ALLOWED, "this route takes POST", headers={"allow": "POST"})
            lane, handler, name = route or self._found(path)
            reply = await handler(lane, head, receive)
        except ClientGone:
            return
        except asyncio.CancelledError:
            # A server that stops cancels the requests that it does not wait for any longer.
            if self._catalog.state != "draining":
                raise
            await self._refuse(StoppedError(), head, send, path, started)
            return
        except Exception as error:  # noqa: BLE001 - whatever it is, the caller gets an answer, and the log the rest
            await self._refuse(error, head, send, path, started)
            return
        await self._send(send, 200, reply.content_type, reply.body, head, reply.headers, reply.server_timing)
        lane.metrics.answered(name, clock() - started)

    async def _send(
        self, send: Send, status: int, media: bytes, body: bytes, head: Head, further: Headers, timing: bytes = b""
    ) -> None:
        headers = [
            (b"content-type", media),
            (b"content-length", b"%d" % len(body)),
            (b"x-request-id", head.id.encode()),
        ]
        if timing:
            headers.append((b"server-timing", timing))
        if further:
            headers += further
        if self._catalog.parting:
            headers.append((b"connection", b"close"))
        await send({"type": "http.response.start", "status": status, "headers": headers})
        await send({"type": "http.response.body", "body": body})

    def _found(self, path: str) -> Hot:
        """The lane and the handler of a path; ProblemError where there is no such model."""
        asked = _HOT.fullmatch(path)
        assert asked is not None, "only hot paths come here"
        lane = self._catalog.lane(asked["model"] or asked["named"], asked["version"] or asked["numbered"])
        route: Hot = (lane, infer, "v2") if asked["named"] else (lane, predict, "predict")
        self._routes[path] = route
        return route

    async def _refuse(self, error: Exception, head: Head, send: Send, path: str, started: float) -> None:
        status, media, body, further = _worded(error, head.id, path)
        if status == INTERNAL.status:
            _LOG.error("request %s failed: POST %a", head.id, path, exc_info=error)
        named = [(name.encode(), value.encode("latin-1")) for name, value in further.items()]
        await self._send(send, status, media, body, head, named)
        route = self._routes.get(path)
        if route is None:
            self._catalog.metrics.unrouted(status)
        else:
            route[0].metrics.failed(status, route[2], clock() - started)


def _worded(error: Exception, request_id: str, path: str) -> tuple[int, bytes, bytes, Mapping[str, str]]:
    """Status, content type, body and further headers, as the protocol of the path has them."""
    if path.startswith("/v2/"):
        status, words, headers = as_error(error)
        return status, JSON_TYPE, error_content(words), headers
    problem = as_problem(error)
    return problem.type.status, _PROBLEM_TYPE, problem_body(problem, request_id), problem.headers


def is_hot(path: str) -> bool:
    """Whether the lane answers this path, or refuses it."""
    return _HOT.fullmatch(path) is not None
