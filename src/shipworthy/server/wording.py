"""A refusal in the words of the protocol that was spoken: problem+json, or the Open Inference Protocol's errors."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from starlette.requests import Request
from starlette.responses import Response
from starlette.types import Scope

from .problems import MEDIA_TYPE, as_problem, problem_body
from .replies import JSON_TYPE
from .v2.errors import as_error, error_content

_PROBLEM_TYPE = MEDIA_TYPE.encode()


@dataclass(frozen=True, slots=True)
class Words:
    """What is answered to a request that is refused or has failed."""

    status: int
    media: bytes
    body: bytes
    headers: Mapping[str, str]
    """Further ones."""


def worded(error: Exception, path: str, request_id: str) -> Words:
    """The answer as clients of this path read it. What is not foreseen is 500, and says nothing."""
    if path == "/v2" or path.startswith("/v2/"):
        status, words, headers = as_error(error)
        return Words(status, JSON_TYPE, error_content(words), headers)
    problem = as_problem(error)
    return Words(problem.type.status, _PROBLEM_TYPE, problem_body(problem, request_id), problem.headers)


def response_to(error: Exception, scope: Scope) -> Response:
    """The same as a response; the request has its id."""
    request_id: str = scope["state"]["request_id"]
    words = worded(error, scope["path"], request_id)
    headers = {**words.headers, "x-request-id": request_id}
    return Response(words.body, words.status, headers, words.media.decode())


async def on_error(request: Request, error: Exception) -> Response:
    """The handler of every foreseen exception that leaves a route."""
    return response_to(error, request.scope)
