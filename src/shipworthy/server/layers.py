"""What every request passes through before its route."""

from __future__ import annotations

import asyncio
import hmac
import ipaddress
import logging
import re
from uuid import uuid4

from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from .executor import StoppedError
from .problems import MISDIRECTED, UNAUTHORIZED, ProblemError, as_problem, problem_response
from .service import Service

OPEN_PATHS = frozenset(("/livez", "/readyz"))
"""What a supervisor asks without a token."""

_REQUEST_ID = re.compile(r"[A-Za-z0-9._:-]{1,128}")
_HOST = re.compile(r"(\[[0-9a-f:.]+\]|[a-z0-9._-]+)(?::[0-9]*)?", re.ASCII | re.IGNORECASE)
_LOG = logging.getLogger("shipworthy.server")


class RequestIds:
    """Gives every request an id, the caller's own where it is sane, and every response that id."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        given = Headers(scope=scope).get("x-request-id", "")
        request_id = given if _REQUEST_ID.fullmatch(given) else uuid4().hex
        scope.setdefault("state", {})["request_id"] = request_id

        async def send_with_id(message: Message) -> None:
            if message["type"] == "http.response.start":
                MutableHeaders(scope=message)["x-request-id"] = request_id
            await send(message)

        await self._app(scope, receive, send_with_id)


class Failures:
    """Answers what nobody foresaw, and logs it under the request's id."""

    def __init__(self, app: ASGIApp, service: Service) -> None:
        self._app, self._service = app, service

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
        request_id = scope["state"]["request_id"]
        try:
            await self._app(scope, receive, send_and_note)
            return
        except asyncio.CancelledError:
            # A server that stops cancels the requests that it does not wait for any longer.
            if started or self._service.state != "draining":
                raise
            failure = StoppedError()
        # What is raised again is logged again, by the web server and without the id.
        except Exception as error:
            _LOG.error("request %s failed: %s %a", request_id, scope["method"], scope["path"], exc_info=error)
            if started:
                raise
            failure = error
        await problem_response(as_problem(failure), request_id)(scope, receive, send)


class LocalHosts:
    """Lets through who asks for this machine by a name of its loopback.

    A page of another site can make its own name resolve to 127.0.0.1, and a browser then takes the answers for that
    site's own (DNS rebinding); what the browser cannot hide is the name, which it sends as the host."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or _is_local(Headers(scope=scope).getlist("host")):
            await self._app(scope, receive, send)
            return
        error = ProblemError(
            MISDIRECTED, "ask for localhost, 127.0.0.1 or [::1]; other names need a server with a token"
        )
        await problem_response(error, scope["state"]["request_id"])(scope, receive, send)


class Tokens:
    """Lets through who sends `Authorization: Bearer <token>`."""

    def __init__(self, app: ASGIApp, token: str) -> None:
        self._app = app
        self._token = token.encode()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or scope["path"] in OPEN_PATHS or self._holds(Headers(scope=scope)):
            await self._app(scope, receive, send)
            return
        error = ProblemError(
            UNAUTHORIZED, "send it as Authorization: Bearer <token>", headers={"www-authenticate": "Bearer"}
        )
        await problem_response(error, scope["state"]["request_id"])(scope, receive, send)

    def _holds(self, headers: Headers) -> bool:
        scheme, _, token = headers.get("authorization", "").partition(" ")
        # The comparison takes the same time wherever the first difference is.
        return hmac.compare_digest(token.strip().encode("latin-1"), self._token) and scheme.lower() == "bearer"


class Parting:
    """When the server has stopped listening, asks every client to leave its connection."""

    def __init__(self, app: ASGIApp, service: Service) -> None:
        self._app, self._service = app, service

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async def send_and_close(message: Message) -> None:
            if message["type"] == "http.response.start" and self._service.parting:
                MutableHeaders(scope=message)["connection"] = "close"
            await send(message)

        await self._app(scope, receive, send_and_close)


def _is_local(hosts: list[str]) -> bool:
    found = _HOST.fullmatch(hosts[0]) if len(hosts) == 1 else None
    if found is None:
        return False
    name = found[1].lower()
    if name == "localhost" or name.endswith(".localhost"):
        return True
    try:
        return ipaddress.ip_address(name.strip("[]")).is_loopback
    except ValueError:
        return False
