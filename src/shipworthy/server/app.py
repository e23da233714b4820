"""The application: routes and layers, put together."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from functools import partial
from typing import TYPE_CHECKING

from fastapi import FastAPI
from starlette.middleware import Middleware
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response

from .. import __version__
from .docs import docs_routes
from .layers import Failures, LocalHosts, Parting, RequestIds, Tokens
from .openapi import document
from .problems import HANDLED, on_error
from .service import Service
from .settings import Settings
from .status import model_routes, status_routes

if TYPE_CHECKING:
    from ..predict import Predictor


def create_app(
    predictors: Mapping[str, Predictor], *, settings: Settings | None = None, token: str | None = None
) -> FastAPI:
    """An ASGI application that serves these predictors by name, and leaves them open when it ends.

    With `token`, every route but /livez and /readyz needs it. ServeError where there is no predictor."""
    service = Service(settings or Settings())
    service.open(predictors.items())
    return assemble(service, token)


def assemble(service: Service, token: str | None, *, local_only: bool = False) -> FastAPI:
    """All that stands between a connection and a model, in the order in which a request meets it.

    With `local_only`, it must be asked for by a name of the loopback."""
    app = FastAPI(
        title="Shipworthy",
        version=__version__,
        description="Models that were let sail on evidence.",
        docs_url=None,
        redoc_url=None,
        lifespan=_lifespan(service),
        middleware=[
            Middleware(RequestIds),
            Middleware(Failures, service=service),
            Middleware(Parting, service=service),
            *([Middleware(LocalHosts)] if local_only else []),
            *([Middleware(Tokens, token=token)] if token is not None else []),
        ],
        exception_handlers={**dict.fromkeys(HANDLED, on_error), ClientDisconnect: _gone},
        redirect_slashes=False,
    )
    app.include_router(status_routes(service))
    app.include_router(model_routes(service))
    app.include_router(docs_routes(app.title))
    app.add_route("/predict", _predict(service), methods=["POST"])
    app.add_route("/models/{model}/predict", _predict(service), methods=["POST"])
    app.openapi = partial(document, app, service, secured=token is not None)  # type: ignore[method-assign]
    return app


def _predict(service: Service) -> Callable[[Request], Awaitable[Response]]:
    async def predict(request: Request) -> Response:
        return await service.lane(request.path_params.get("model")).predict(request)

    return predict


async def _gone(request: Request, error: Exception) -> Response:
    """The client has left before its body was complete; nobody reads this."""
    return Response(status_code=499)


def _lifespan(service: Service) -> Callable[[FastAPI], AbstractAsyncContextManager[None]]:
    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        yield
        await asyncio.to_thread(service.close)

    return lifespan
