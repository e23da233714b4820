"""The web server of a process: Uvicorn, with connections that are bounded, and without a will of its own."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from .plan import Plan

if TYPE_CHECKING:
    import uvicorn
    from starlette.types import ASGIApp

    from .connections import Connection


def web_server(app: ASGIApp, plan: Plan, connections: type[Connection]) -> uvicorn.Server:
    """`connections` is the protocol class of this server alone."""
    import uvicorn

    # It warns of every malformed form, which is its sender's doing.
    logging.getLogger("python_multipart").setLevel(logging.ERROR)
    # What it says of its start and end is said by those who see all of it.
    logging.getLogger("uvicorn.error").setLevel(logging.WARNING)

    tls = plan.tls

    class WebServer(uvicorn.Server):
        """Leaves signals to those who know what is to be drained."""

        @contextmanager
        def capture_signals(self) -> Iterator[None]:
            yield

    return WebServer(
        uvicorn.Config(
            app,
            loop="none",
            http=connections,
            ws="none",
            # The catalog is closed by `_dismiss`, also when the web server is made to leave at once.
            lifespan="off",
            log_config=None,
            access_log=False,
            server_header=False,
            # No answer is a page, whatever its text looks like.
            headers=[("x-content-type-options", "nosniff")],
            # Who manages the server is told by the address of the connection, which no header may change.
            proxy_headers=False,
            timeout_graceful_shutdown=plan.settings.drain_s,
            ssl_context_factory=(lambda config, default: tls.context()) if tls is not None else None,
        )
    )
