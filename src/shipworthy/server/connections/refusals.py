"""Answers to what never becomes a request: problem+json, written straight to the connection, which then ends."""

from __future__ import annotations

import json
from dataclasses import dataclass
from http import HTTPStatus

from ..problems import (
    HEADERS_TOO_LARGE,
    INTERNAL,
    MALFORMED,
    MEDIA_TYPE,
    OVERLOADED,
    TARGET_TOO_LONG,
    TOO_SLOW,
    ProblemType,
)


@dataclass(frozen=True, slots=True)
class Refusal:
    """Why a connection is ended."""

    kind: ProblemType
    detail: str

    def render(self, request_id: str) -> bytes:
        """The whole answer, head and body."""
        kind = self.kind
        body = json.dumps(
            {
                "type": kind.uri,
                "title": kind.title,
                "status": kind.status,
                "detail": self.detail,
                "request_id": request_id,
            }
        )
        retry = "retry-after: 1\r\n" if kind.status == HTTPStatus.SERVICE_UNAVAILABLE else ""
        return (
            f"HTTP/1.1 {kind.status} {HTTPStatus(kind.status).phrase}\r\ncontent-type: {MEDIA_TYPE}\r\n"
            f"content-length: {len(body)}\r\nx-request-id: {request_id}\r\n{retry}connection: close\r\n\r\n{body}"
        ).encode()


UNREADABLE = Refusal(MALFORMED, "this is no HTTP/1.1 request")
VERSION = Refusal(MALFORMED, "this server speaks HTTP/1.1 and HTTP/1.0")
HOSTS = Refusal(MALFORMED, "a request has one Host header, which agrees with its target")
CODING = Refusal(MALFORMED, "the only transfer coding is chunked, of HTTP/1.1, once")
WASTEFUL = Refusal(MALFORMED, "the chunks of the body carry less than they weigh")
LONG_TARGET = Refusal(TARGET_TOO_LONG, "ask for less in one request")
LARGE_HEADERS = Refusal(HEADERS_TOO_LARGE, "send fewer or shorter headers")
SLOW_HEADERS = Refusal(TOO_SLOW, "the headers took too long")
SLOW_BODY = Refusal(TOO_SLOW, "the body came too slowly")
IMPATIENT = Refusal(OVERLOADED, "too many requests wait on this connection")
CROWDED = Refusal(OVERLOADED, "too many connections are open")
FAILED = Refusal(INTERNAL, "the failure is in the server's log, under the id of this request")
