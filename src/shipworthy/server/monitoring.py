"""Routes that show what a monitor has found, and take that somebody has seen to an alarm."""

from __future__ import annotations

import logging
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Request
from fastapi.responses import Response
from pydantic import BaseModel, ConfigDict, Field, ValidationError
from pydantic_core import to_json
from starlette.requests import ClientDisconnect

from ..errors import InputError, MonitorError, Problem
from .asking import Asking
from .bodies import JSON, ClientGone, read_body, read_json
from .catalog import Catalog
from .problems import MALFORMED, MEDIA_TYPE, NOT_FOUND, RETRY_AFTER, UNREACHABLE, ProblemError
from .routing import Observer

LONGEST = 16_384
"""Bytes of a body."""
FAULTS = 10
"""So many faults of a body are named."""
_LOG = logging.getLogger("shipworthy.server")


class Watched(BaseModel):
    """What there is to see of each version of a model that is watched; merged over workers and nodes."""

    model: str
    versions: list[dict[str, Any]]
    """Signals, alarms, quality and the time they are of, for each version; see docs/monitoring.md."""


class Seen(BaseModel):
    """Somebody has seen to an alarm."""

    model_config = ConfigDict(extra="forbid", strict=True)

    alarm: str = Field(min_length=1, max_length=200)
    """Its id."""
    who: str = Field(default="", max_length=200)
    why: str = Field(default="", max_length=2000)
    new_baseline: Literal[0] | Annotated[int, Field(ge=32, le=1_000_000)] = 0
    """So many of the requests that come next are the reference from then on; 0 keeps the one there is."""


class Acknowledged(BaseModel):
    alarm: str


_REFUSALS: dict[int | str, dict[str, Any]] = {
    status: {"description": words, "content": {MEDIA_TYPE: {"schema": {"$ref": "#/components/schemas/Problem"}}}}
    for status, words in (
        (400, "The request cannot be read"),
        (403, "This caller may not manage the server"),
        (404, "There is no such model or alarm, or nothing is watched"),
        (413, "The request is too large"),
        (422, "The alarm is not named, or not as it should be"),
        (503, "The monitor is out of reach"),
    )
}
_BODY = {"requestBody": {"required": True, "content": {JSON: {"schema": Seen.model_json_schema()}}}}


def monitor_routes(catalog: Catalog) -> APIRouter:
    """Whether a caller may see and change that is decided before a request comes here."""
    router = APIRouter(tags=["monitor"])
    asking = Asking("shipworthy-monitor-routes")

    @router.get(
        "/models/{model}/monitor",
        responses={status: _REFUSALS[status] for status in (403, 404)},
        response_model=Watched,
    )
    async def monitor(model: str) -> Response:
        """What is seen of the model's answers, and the alarms that stand."""
        observer = _observer(catalog, model)
        versions = await asking.ask(lambda: observer.view(model))
        return Response(to_json({"model": model, "versions": versions}), media_type=JSON)

    @router.post(
        "/models/{model}/monitor/acknowledge",
        responses=_REFUSALS,
        openapi_extra=_BODY,
        response_model=Acknowledged,
    )
    async def acknowledge(model: str, request: Request) -> Response:
        """Say that somebody has seen to an alarm: its detector begins anew, or a new reference is taken."""
        observer = _observer(catalog, model)
        try:
            seen = _seen(await read_body(request.receive, LONGEST))
        except ClientGone as gone:
            raise ClientDisconnect from gone
        try:
            told = model, seen.alarm, seen.who, seen.why, seen.new_baseline
            found = await asking.ask(lambda: observer.acknowledge(*told))
        except MonitorError as error:
            _LOG.error("an alarm of model %r was not acknowledged: %s", model, error)
            raise ProblemError(UNREACHABLE, "the monitor does not answer; try again", headers=RETRY_AFTER) from error
        if not found:
            raise ProblemError(NOT_FOUND, f"no alarm {seen.alarm[:80]!a} of {model!r} stands")
        return Response(to_json({"alarm": seen.alarm}), media_type=JSON)

    return router


def _observer(catalog: Catalog, model: str) -> Observer:
    """ProblemError where no version of the model is watched."""
    catalog.lane(model)
    if catalog.observer is None:
        raise ProblemError(NOT_FOUND, "this server watches nothing")
    if all(lane.watch is None for lane in catalog.models[model].versions.values()):
        raise ProblemError(NOT_FOUND, f"{model!r} is not watched: its package has no reference to compare with")
    return catalog.observer


def _seen(body: bytes) -> Seen:
    """ProblemError for what is no JSON, InputError for what names no alarm."""
    try:
        value = read_json(body)
    except ValueError as error:
        raise ProblemError(MALFORMED, f"the body is no JSON: {error}") from error
    try:
        return Seen.model_validate(value)
    except ValidationError as error:
        faults = error.errors(include_url=False, include_input=False)[:FAULTS]
        named = [(".".join(map(str, one["loc"]))[:80] or "body", one["msg"]) for one in faults]
        raise InputError([Problem(0, where, reason) for where, reason in named]) from None
