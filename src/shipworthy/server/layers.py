"""What every request passes through before its route."""

from __future__ import annotations

import asyncio
import logging

from starlette.datastructures import MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from .access import Access, request_id
from .catalog import Catalog
from .dispatch import StoppedError, clock
from .head import Head
from .reporting import Reporter
from .wording import response_to

_LOG = logging.getLogger("shipworthy.server")


class RequestIds:
    """Gives every request an id, the caller's own where it is sane, and every response that id."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        made = request_id(scope["headers"])
        scope.setdefault("state", {})["request_id"] = made

        async def send_with_id(message: Message) -> None:
            if message["type"] == "http.response.start":
                MutableHeaders(scope=message)["x-request-id"] = made
            await send(message)

        await self._app(scope, receive, send_with_id)


class Reports:
    """Tells of every request that is not hot, when it was answered."""

    def __init__(self, app: ASGIApp, reporter: Reporter) -> None:
        self._app, self._reporter = app, reporter

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        started = clock()
        head = Head(scope)
        head.id = scope["state"]["request_id"]
        trace = self._reporter.begin(head)
        status = 0

        async def send_and_note(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                if trace is not None:
                    MutableHeaders(scope=message)["traceparent"] = trace.traceparent
            await send(message)

        await self._app(scope, receive, send_and_note)
        self._reporter.answered(head, trace, status, clock() - started)


class Failures:
    """Answers what nobody foresaw, and logs it under the request's id."""

    def __init__(self, app: ASGIApp, catalog: Catalog) -> None:
        self._app, self._catalog = app, catalog

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        started = False

        async def send_and_note(message: Message) -> None:
            nonlocal started
            started = True
            await send(message)

        failure: Exception
        made = scope["state"]["request_id"]
        try:
            await self._app(scope, receive, send_and_note)
            return
        except asyncio.CancelledError:
            # A server that stops cancels the requests that it does not wait for any longer.
            if started or self._catalog.state != "draining":
                raise
            failure = StoppedError()
        # What is raised again is logged again, by the web server and without the id.
        except Exception as error:
            _LOG.error("request %s failed: %s %a", made, scope["method"], scope["path"], exc_info=error)
            if started:
                raise
            failure = error
        await response_to(failure, scope)(scope, receive, send)


class Gate:
    """Lets through who may ask."""

    def __init__(self, app: ASGIApp, access: Access) -> None:
        self._app, self._access = app, access

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        error = None
        if scope["type"] == "http":
            error = self._access.check(scope["headers"], scope["path"], scope["method"], scope.get("client"))
        if error is None:
            await self._app(scope, receive, send)
        else:
            await response_to(error, scope)(scope, receive, send)


class Parting:
    """When the server has stopped listening, asks every client to leave its connection."""

    def __init__(self, app: ASGIApp, catalog: Catalog) -> None:
        self._app, self._catalog = app, catalog

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async def send_and_close(message: Message) -> None:
            if message["type"] == "http.response.start" and self._catalog.parting:
                MutableHeaders(scope=message)["connection"] = "close"
            await send(message)

        await self._app(scope, receive, send_and_close)
