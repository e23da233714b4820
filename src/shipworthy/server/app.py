"""The application: routes and layers, put together."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from functools import partial
from typing import TYPE_CHECKING

from fastapi import FastAPI
from starlette.middleware import Middleware
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response

from .. import __version__
from .access import Access
from .catalog import Catalog
from .docs import docs_routes
from .feedback import feedback_routes
from .front import Front
from .layers import Failures, Gate, Parting, Reports, RequestIds
from .monitoring import monitor_routes
from .openapi import document
from .problems import HANDLED
from .reporting import LEFT, Reporter
from .settings import Settings
from .status import metrics_routes, model_routes, status_routes
from .v2 import v2_routes
from .wording import on_error

if TYPE_CHECKING:
    from ..predict import Predictor


def create_app(
    predictors: Mapping[str, Predictor], *, settings: Settings | None = None, token: str | None = None
) -> Front:
    """An ASGI application that serves these predictors by name, and leaves them open when it ends.

    With `token`, every route but those of liveness and readiness needs it. ServeError where there is no predictor."""
    catalog = Catalog(settings or Settings())
    catalog.open(predictors.items())
    return assemble(catalog, Access(token, loopback=False))


def assemble(catalog: Catalog, access: Access, reporter: Reporter | None = None) -> Front:
    """All that stands between a connection and a model: the hot routes in front, and behind them everything else, in
    the order in which a request meets it."""
    app = FastAPI(
        title="Shipworthy",
        version=__version__,
        description="Models that were let sail on evidence.",
        docs_url=None,
        redoc_url=None,
        lifespan=_lifespan(catalog),
        middleware=[
            Middleware(RequestIds),
            *([Middleware(Reports, reporter=reporter)] if reporter is not None else []),
            Middleware(Failures, catalog=catalog),
            Middleware(Parting, catalog=catalog),
            Middleware(Gate, access=access),
        ],
        exception_handlers={**dict.fromkeys(HANDLED, on_error), ClientDisconnect: _gone},
        redirect_slashes=False,
    )
    app.include_router(status_routes(catalog))
    app.include_router(model_routes(catalog))
    app.include_router(feedback_routes(catalog))
    app.include_router(monitor_routes(catalog))
    app.include_router(v2_routes(catalog))
    app.include_router(metrics_routes(catalog))
    app.include_router(docs_routes(app.title))
    app.openapi = partial(document, app, catalog, secured=access.secured)  # type: ignore[method-assign]
    return Front(app, catalog, access, reporter)


async def _gone(request: Request, error: Exception) -> Response:
    """The client has left before its body was complete; nobody reads this."""
    return Response(status_code=LEFT)


def _lifespan(catalog: Catalog) -> Callable[[FastAPI], AbstractAsyncContextManager[None]]:
    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        yield
        await catalog.close()

    return lifespan
