"""What every request passes through before its route."""

from __future__ import annotations

import hmac
import re
from uuid import uuid4

from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from .problems import UNAUTHORIZED, ProblemError, problem_response
from .service import Service

OPEN_PATHS = frozenset(("/livez", "/readyz"))
"""What a supervisor asks without a token."""

_REQUEST_ID = re.compile(r"[A-Za-z0-9._:-]{1,128}")


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
