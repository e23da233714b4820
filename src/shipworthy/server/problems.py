"""Errors as HTTP answers: problem+json (RFC 9457), each with a stable `type`."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from http import HTTPStatus
from typing import Any

from pydantic_core import to_json
from starlette.exceptions import HTTPException

from ..errors import InputError, MissingExtra, Problem
from .dispatch import RefusedError, StoppedError

MEDIA_TYPE = "application/problem+json"
RETRY_AFTER = {"retry-after": "1"}
MAX_FAULTS = 10_000
"""So many faults of a request are named; one for each instance that it may have."""


@dataclass(frozen=True, slots=True)
class ProblemType:
    """One kind of error: `urn:shipworthy:problem:<slug>` stays as it is, whatever the words say."""

    slug: str
    status: int
    title: str

    @property
    def uri(self) -> str:
        return f"urn:shipworthy:problem:{self.slug}"


MALFORMED = ProblemType("malformed", 400, "The request cannot be read")
UNAUTHORIZED = ProblemType("unauthorized", 401, "A token is needed")
FORBIDDEN = ProblemType("forbidden", 403, "This caller may not do that")
NOT_FOUND = ProblemType("not-found", 404, "There is no such resource")
METHOD_NOT_ALLOWED = ProblemType("method-not-allowed", 405, "The resource does not take this method")
TOO_SLOW = ProblemType("too-slow", 408, "The request did not arrive in time")
TOO_LARGE = ProblemType("too-large", 413, "The request is too large")
TARGET_TOO_LONG = ProblemType("target-too-long", 414, "The path and query are too long")
MISDIRECTED = ProblemType("misdirected", 421, "The server does not go by this name")
CONFLICT = ProblemType("conflict", 409, "The request contradicts what is known")
UNSUPPORTED = ProblemType("unsupported-media-type", 415, "The model does not take this content type")
INVALID_INPUT = ProblemType("invalid-input", 422, "The input does not fit the model")
HEADERS_TOO_LARGE = ProblemType("headers-too-large", 431, "The headers are too large")
INTERNAL = ProblemType("internal", 500, "The server failed")
OVERLOADED = ProblemType("overloaded", 503, "Too many requests are waiting")
NOT_READY = ProblemType("not-ready", 503, "The server is starting or stopping")
UNREACHABLE = ProblemType("unreachable", 503, "What is needed for this is out of reach")
DEADLINE = ProblemType("deadline-exceeded", 504, "The deadline of the request has passed")

PROBLEM_TYPES = (
    MALFORMED,
    UNAUTHORIZED,
    FORBIDDEN,
    NOT_FOUND,
    METHOD_NOT_ALLOWED,
    TOO_SLOW,
    TOO_LARGE,
    TARGET_TOO_LONG,
    CONFLICT,
    UNSUPPORTED,
    MISDIRECTED,
    INVALID_INPUT,
    HEADERS_TOO_LARGE,
    INTERNAL,
    OVERLOADED,
    NOT_READY,
    UNREACHABLE,
    DEADLINE,
)


class ProblemError(Exception):
    """Ends a request with a problem."""

    def __init__(
        self,
        type: ProblemType,  # noqa: A002 - the word of RFC 9457
        detail: str,
        *,
        errors: Sequence[Problem] = (),
        headers: Mapping[str, str] | None = None,
    ) -> None:
        self.type, self.detail, self.errors = type, detail, errors
        self.headers = dict(headers or {})
        super().__init__(detail)


def as_problem(error: Exception) -> ProblemError:
    """The problem that an exception is to the caller. What is not foreseen is `internal`, and says nothing."""
    if isinstance(error, ProblemError):
        return error
    if isinstance(error, InputError):
        count = len(error.problems)
        detail = "1 fault" if count == 1 else f"{count} faults"
        shown = "errors" if count <= MAX_FAULTS else f"the first {MAX_FAULTS} in errors"
        return ProblemError(INVALID_INPUT, f"{detail}, see {shown}", errors=error.problems[:MAX_FAULTS])
    if isinstance(error, MissingExtra):
        return ProblemError(UNSUPPORTED, f"this server was installed without the extra {error.extra!r}")
    if isinstance(error, RefusedError):
        after = str(max(1, math.ceil(error.refusal.retry_s)))
        return ProblemError(OVERLOADED, _SHED[error.refusal.reason], headers={"retry-after": after})
    if isinstance(error, StoppedError):
        return ProblemError(NOT_READY, "the server is stopping", headers=RETRY_AFTER)
    if isinstance(error, TimeoutError):
        return ProblemError(DEADLINE, "no answer was ready in time")
    if isinstance(error, HTTPException):
        return _of_status(error)
    return ProblemError(INTERNAL, "the failure is in the server's log, under the id of this request")


_SHED = {
    "deadline": "what waits already would keep this request past its time",
    "requests": "as many requests wait as may",
    "slow": "the body came too slowly, and others needed its place",
    "bytes": "the requests that wait hold as many bytes as they may",
}


def problem_body(error: ProblemError, request_id: str) -> bytes:
    kind = error.type
    body: dict[str, Any] = {
        "type": kind.uri,
        "title": kind.title,
        "status": kind.status,
        "detail": error.detail,
        "request_id": request_id,
    }
    if error.errors:
        body["errors"] = [asdict(problem) for problem in error.errors]
    return to_json(body)


HANDLED: tuple[type[Exception], ...] = (
    ProblemError,
    InputError,
    MissingExtra,
    RefusedError,
    StoppedError,
    TimeoutError,
    HTTPException,
)
"""What a route may raise. Anything else is a failure, which the layer `Failures` logs and answers."""


def _of_status(error: HTTPException) -> ProblemError:
    """What the router refuses."""
    known = {404: NOT_FOUND, 405: METHOD_NOT_ALLOWED}.get(error.status_code)
    if known is None:
        known = ProblemType("http", error.status_code, HTTPStatus(error.status_code).phrase)
    return ProblemError(known, known.title.lower(), headers=error.headers)
