"""The routes of the protocol that are not hot: health, descriptions, statistics, and the repository."""

from __future__ import annotations

import logging
from collections.abc import Callable, Coroutine
from typing import TYPE_CHECKING, Any, Literal

from fastapi import APIRouter, Response
from fastapi.exceptions import RequestValidationError
from fastapi.routing import APIRoute
from pydantic import BaseModel
from starlette.requests import ClientDisconnect, Request
from starlette.types import Message

from ...errors import ShipworthyError
from ..bodies import ClientGone, read_body
from ..problems import HANDLED, ProblemError, ProblemType
from .datatypes import malformed
from .descriptions import (
    ModelConfig,
    ModelIndex,
    ModelMetadata,
    ServerMetadata,
    StatisticsOfModels,
    model_config,
    model_metadata,
    repository_index,
    server_metadata,
    statistics_of,
)
from .errors import error_response

if TYPE_CHECKING:
    from ..catalog import Catalog

NOT_LOADED = ProblemType("not-loaded", 409, "The model cannot be loaded")
MAX_BODY_BYTES = 65_536
"""Of a request that is no inference."""

_LOG = logging.getLogger("shipworthy.server")


class Live(BaseModel):
    live: bool


class Ready(BaseModel):
    ready: bool


class ModelReady(BaseModel):
    name: str
    ready: bool


class Refused(BaseModel):
    error: str


class IndexRequest(BaseModel):
    ready: bool = False
    """Only the models that are served."""


class LoadRequest(BaseModel):
    parameters: dict[str, Any] | None = None
    """For loading, none is taken: configurations and files come from the operator alone."""


class Changed(BaseModel):
    name: str
    state: Literal["READY", "UNAVAILABLE"]


_REFUSALS: dict[int | str, dict[str, Any]] = {
    400: {"model": Refused, "description": "The request cannot be read"},
    401: {"model": Refused, "description": "A token is needed"},
    404: {"model": Refused, "description": "There is no such model"},
    413: {"model": Refused, "description": "The request is too large"},
    503: {"model": Refused, "description": "The server is starting or stopping"},
}
_CHANGES: dict[int | str, dict[str, Any]] = {
    **_REFUSALS,
    403: {"model": Refused, "description": "This caller may not change what is served"},
    409: {"model": Refused, "description": NOT_LOADED.title},
}


class _Route(APIRoute):
    """A route whose errors are the protocol's own."""

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        handler = super().get_route_handler()

        async def handle(request: Request) -> Response:
            try:
                return await handler(await _bounded(request))
            except ClientGone as gone:
                raise ClientDisconnect from gone
            except RequestValidationError as error:
                return error_response(malformed(_fault(error)))
            except HANDLED as error:
                return error_response(error)

        return handle


def _fault(error: RequestValidationError) -> str:
    if isinstance(error.body, bytes):
        return "expected JSON, with application/json as its content-type"
    first = error.errors()[0]
    where = ".".join(str(step) for step in first["loc"][1:]) or "body"
    return f"{where}: {first['msg']}"


async def _bounded(request: Request) -> Request:
    """The same request with its body at hand, which the framework would read however long it is."""
    if request.method != "POST":
        return request
    body = await read_body(request.receive, MAX_BODY_BYTES)

    async def receive() -> Message:
        return {"type": "http.request", "body": body, "more_body": False}

    return Request(request.scope, receive)


def v2_routes(catalog: Catalog) -> APIRouter:
    """Every route under /v2 but infer. Whether a caller may load and unload is decided before a request comes here."""
    # Clients of the protocol send their JSON without a content type.
    router = APIRouter(prefix="/v2", tags=["open inference protocol"], route_class=_Route, strict_content_type=False)
    _add_server(router, catalog)
    _add_model(router, catalog)
    _add_repository(router, catalog)
    return router


def _add_server(router: APIRouter, catalog: Catalog) -> None:
    @router.get("", summary="Describe the server", responses={401: _REFUSALS[401]})
    async def v2_server() -> ServerMetadata:
        """The server, and the extensions of the protocol that it has."""
        return server_metadata()

    @router.get("/health/live", summary="Tell whether the process lives")
    async def v2_live() -> Live:
        """The process answers."""
        return Live(live=True)

    @router.get("/health/ready", summary="Tell whether every model is ready", responses={503: {"model": Ready}})
    async def v2_ready(response: Response) -> Ready:
        """Every model is loaded and proven; 503 where not."""
        response.status_code = 200 if catalog.ready else 503
        return Ready(ready=catalog.ready)

    # Before the routes of a model, one of which would take `stats` for its name.
    @router.get("/models/stats", summary="Read the statistics of all models", responses={401: _REFUSALS[401]})
    async def v2_stats_of_all() -> StatisticsOfModels:
        """What was counted of every model since the server started."""
        return statistics_of(catalog, None)


def _add_model(router: APIRouter, catalog: Catalog) -> None:
    def metadata(model: str, version: str | None) -> ModelMetadata:
        """What a model takes and gives."""
        lane = catalog.lane(model, version)
        return model_metadata(catalog.models[lane.model], lane)

    def ready(model: str, version: str | None) -> ModelReady:
        """The model is served; 404 where there is none of this name."""
        return ModelReady(name=catalog.lane(model, version).model, ready=True)

    def config(model: str, version: str | None) -> ModelConfig:
        """How a model is run."""
        return model_config(catalog.lane(model, version))

    def stats(model: str, version: str | None) -> StatisticsOfModels:
        """What was counted of a model since the server started; of all its versions where none is named."""
        return statistics_of(catalog, model, version)

    _add_both(router, "", "metadata", "Describe {}", metadata, ModelMetadata)
    _add_both(router, "/ready", "model_ready", "Tell whether {} is ready", ready, ModelReady)
    _add_both(router, "/config", "config", "Read the configuration of {}", config, ModelConfig)
    _add_both(router, "/stats", "stats", "Read the statistics of {}", stats, StatisticsOfModels)


def _add_both(
    router: APIRouter,
    path: str,
    name: str,
    summary: str,
    answer: Callable[[str, str | None], BaseModel],
    model: type[BaseModel],
) -> None:
    """A route for the current version, and one for a version that is named."""

    async def current(model: str) -> BaseModel:
        return answer(model, None)

    async def versioned(model: str, version: str) -> BaseModel:
        return answer(model, version)

    for prefix, route, suffix, whose in (
        ("", current, "", "a model"),
        ("/versions/{version}", versioned, "_of_version", "a version of a model"),
    ):
        router.add_api_route(
            f"/models/{{model}}{prefix}{path}",
            route,
            response_model=model,
            responses=_REFUSALS,
            name=f"v2_{name}{suffix}",
            operation_id=f"v2_{name}{suffix}",
            summary=summary.format(whose),
            description=answer.__doc__,
        )


def _add_repository(router: APIRouter, catalog: Catalog) -> None:
    @router.post(
        "/repository/index",
        summary="List the models that are known",
        responses={status: _REFUSALS[status] for status in (400, 401, 413)},
    )
    async def v2_index(asked: IndexRequest | None = None) -> list[ModelIndex]:
        """The models that the server knows of, each with its versions and its state."""
        return repository_index(catalog.index(), ready=asked is not None and asked.ready)

    @router.post("/repository/models/{model}/load", summary="Load a model", responses=_CHANGES)
    async def v2_load(model: str, asked: LoadRequest | None = None) -> Changed:
        """Read the packages of this name anew. They take over when they are proven; until then, and where they are
        refused, the old ones answer. Needs management rights."""
        if asked is not None and asked.parameters:
            raise malformed("parameters: configurations and files come from the operator alone")
        await load(catalog, model)
        return Changed(name=model, state="READY")

    @router.post("/repository/models/{model}/unload", summary="Unload a model", responses=_CHANGES)
    async def v2_unload(model: str, asked: LoadRequest | None = None) -> Changed:
        """Take a model out, when what it was asked is answered. Needs management rights."""
        await catalog.command("unload", model)
        return Changed(name=model, state="UNAVAILABLE")


async def load(catalog: Catalog, model: str) -> None:
    """ProblemError where there is no such model, or where its packages are refused; the log says why."""
    try:
        await catalog.command("load", model)
    except ShipworthyError as error:
        # The reason may name files of the host.
        _LOG.error("model %a could not be loaded: %s", model[:80], error)
        raise ProblemError(NOT_LOADED, "the package was refused; the reason is in the server's log") from error
