"""Errors as the protocol has them: a status, and `{"error": "..."}`."""

from __future__ import annotations

import json

from starlette.responses import Response

from ...errors import InputError
from ..problems import INVALID_INPUT, MALFORMED, ProblemError, as_problem

MAX_FAULTS = 5
"""So many faults are named; the rest are counted."""


def as_error(error: Exception) -> tuple[int, str, dict[str, str]]:
    """Status, words and headers. What does not fit a model is 400 here, as everything that the caller must mend."""
    problem = as_problem(error)
    status = MALFORMED.status if problem.type is INVALID_INPUT else problem.type.status
    return status, _words(error, problem), problem.headers


def error_content(words: str) -> bytes:
    return json.dumps({"error": words}).encode()


def error_response(error: Exception) -> Response:
    status, words, headers = as_error(error)
    return Response(error_content(words), status, headers, "application/json")


def _words(error: Exception, problem: ProblemError) -> str:
    faults = error.problems if isinstance(error, InputError) else problem.errors
    if not faults:
        return problem.detail
    several = any(fault.sample_index for fault in faults)
    named = [
        (f"row {fault.sample_index}, " if several else "") + f"{fault.field}: {fault.reason}"
        for fault in faults[:MAX_FAULTS]
    ]
    more = [f"and {len(faults) - MAX_FAULTS} more"] if len(faults) > MAX_FAULTS else []
    return "; ".join([*named, *more])
