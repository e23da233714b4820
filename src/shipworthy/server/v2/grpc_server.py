"""The protocol's gRPC server, on the event loop of the HTTP server."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ...errors import ServeError
from ..access import Access
from .grpc_calls import Calls, library

if TYPE_CHECKING:
    import grpc

    from ..catalog import Catalog
    from ..reporting import Reporter

IDLE_MS = 300_000
"""A connection without a call is closed after so many milliseconds; clients connect anew when they have one."""
PING_MS = 10_000
"""A client that pings more often while it has no call is told to calm down, and then cut off."""
MAX_CALLS = 1024
"""So many calls may be under way, streams among them; further ones end as RESOURCE_EXHAUSTED."""
MAX_METADATA = 16 * 1024


async def start(
    catalog: Catalog,
    address: str,
    *,
    access: Access,
    credentials: grpc.ServerCredentials | None = None,
    max_message_bytes: int | None = None,
    shared: bool = False,
    reporter: Reporter | None = None,
) -> GrpcServer:
    """Serve the catalog's models on `address` (`host:port`; port 0 takes a free one), on the running event loop.

    Without `credentials` it speaks in the clear. A message may have `max_message_bytes`, by default as many as a body
    of HTTP. With `shared`, other processes may listen on the same address (SO_REUSEPORT). `reporter` is told of every
    call. Raises MissingExtra without grpcio, and ServeError where the address cannot be had."""
    calls = Calls(catalog, access, reporter)
    limit = max_message_bytes or catalog.settings.max_body_bytes
    aio = library().aio
    server = aio.server(
        options=(
            ("grpc.max_receive_message_length", limit),
            ("grpc.max_send_message_length", -1),
            ("grpc.max_metadata_size", MAX_METADATA),
            ("grpc.so_reuseport", int(shared)),
            ("grpc.max_connection_idle_ms", IDLE_MS),
            ("grpc.http2.min_ping_interval_without_data_ms", PING_MS),
        ),
        maximum_concurrent_rpcs=MAX_CALLS,
    )
    server.add_generic_rpc_handlers(tuple(calls.handlers()))
    try:
        if credentials is None:
            port = server.add_insecure_port(address)
        else:
            port = server.add_secure_port(address, credentials)
    except RuntimeError as error:
        await server.stop(None)
        raise ServeError(
            f"gRPC address {address}", "cannot be bound", "choose another port; 0 takes a free one"
        ) from error
    await server.start()
    return GrpcServer(server, calls, port)


def server_credentials(certificate: bytes, key: bytes, client_authorities: bytes | None = None) -> Any:
    """Credentials for `start` of PEM files' contents; with `client_authorities`, clients need a certificate of theirs.

    MissingExtra without grpcio."""
    return library().ssl_server_credentials(
        ((key, certificate),), client_authorities, require_client_auth=client_authorities is not None
    )


class GrpcServer:
    """A server that was started."""

    def __init__(self, server: Any, calls: Calls, port: int) -> None:
        self._server, self._calls = server, calls
        self.port = port

    async def drain(self, grace_s: float) -> None:
        """Take no more calls, finish those under way, and cancel those that are not done after `grace_s`."""
        self._calls.part()
        await self._server.stop(grace_s)
