"""The protocol's gRPC server, on the event loop of the HTTP server."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator
from typing import TYPE_CHECKING, Any

from ...errors import MissingExtra, ServeError
from ..access import Access
from ..problems import ProblemError
from .datatypes import malformed
from .errors import as_error
from .grpc_service import ANSWERS, MANAGEMENT, OPEN, infer
from .messages import message, methods

if TYPE_CHECKING:
    import grpc

    from ..catalog import Catalog

MAX_CALLS = 1024
"""So many calls may be under way, streams among them; further ones end as RESOURCE_EXHAUSTED."""
MAX_METADATA = 16 * 1024
STREAM_WINDOW = 64
"""So many requests of one stream may be under way; further ones are not read yet."""
_CODES = {
    400: "INVALID_ARGUMENT",
    401: "UNAUTHENTICATED",
    403: "PERMISSION_DENIED",
    404: "NOT_FOUND",
    409: "FAILED_PRECONDITION",
    413: "RESOURCE_EXHAUSTED",
    415: "UNIMPLEMENTED",
    503: "UNAVAILABLE",
    504: "DEADLINE_EXCEEDED",
}
"""Status codes of gRPC by those of HTTP; INTERNAL for all others."""

_LOG = logging.getLogger("shipworthy.server")


async def start(
    catalog: Catalog,
    address: str,
    *,
    access: Access,
    credentials: grpc.ServerCredentials | None = None,
    max_message_bytes: int | None = None,
    shared: bool = False,
) -> GrpcServer:
    """Serve the catalog's models on `address` (`host:port`; port 0 takes a free one), on the running event loop.

    Without `credentials` it speaks in the clear. A message may have `max_message_bytes`, by default as many as a body
    of HTTP. With `shared`, other processes may listen on the same address (SO_REUSEPORT). Raises MissingExtra without
    grpcio, and ServeError where the address cannot be had."""
    calls = _Calls(catalog, access)
    limit = max_message_bytes or catalog.settings.max_body_bytes
    aio = _grpc().aio
    server = aio.server(
        options=(
            ("grpc.max_receive_message_length", limit),
            ("grpc.max_send_message_length", -1),
            ("grpc.max_metadata_size", MAX_METADATA),
            ("grpc.so_reuseport", int(shared)),
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
    return _grpc().ssl_server_credentials(
        ((key, certificate),), client_authorities, require_client_auth=client_authorities is not None
    )


class GrpcServer:
    """A server that was started."""

    def __init__(self, server: Any, calls: _Calls, port: int) -> None:
        self._server, self._calls = server, calls
        self.port = port

    async def drain(self, grace_s: float) -> None:
        """Take no more calls, finish those under way, and cancel those that are not done after `grace_s`."""
        self._calls.part()
        await self._server.stop(grace_s)


class _Calls:
    """What stands between a call and its method: the judgement of who asks, and errors as status codes."""

    def __init__(self, catalog: Catalog, access: Access) -> None:
        self._catalog, self._access = catalog, access
        self._readers: set[asyncio.Task[None]] = set()
        self._parting = False

    def handlers(self) -> list[grpc.GenericRpcHandler]:
        """Messages come as bytes: who may not ask has nothing of his read."""
        grpc = _grpc()
        made = []
        for service, answers in ANSWERS.items():
            table: dict[str, Any] = {}
            for name, (request, response, streams) in methods(service).items():
                kind = grpc.stream_stream_rpc_method_handler if streams else grpc.unary_unary_rpc_method_handler
                method = self._stream() if streams else self._unary(name, request, answers.get(name))
                table[name] = kind(method, response_serializer=response.SerializeToString)
            made.append(grpc.method_handlers_generic_handler(service, table))
        return made

    def part(self) -> None:
        """Read no more from streams; what was read is answered."""
        self._parting = True
        for reader in self._readers:
            reader.cancel()

    def _unary(self, name: str, request: Any, answer: Any) -> Any:
        async def call(data: bytes, context: Any) -> Any:
            try:
                self._judge(name, context)
                asked = _parsed(request, data)
                if answer is None:
                    return await infer(self._catalog, asked, len(data), _remaining(context))
                return await answer(self._catalog, asked)
            except Exception as error:  # noqa: BLE001 - whatever it is, the caller gets a status, and the log the rest
                return await _abort(context, error, name)

        return call

    def _stream(self) -> Any:
        async def call(requests: AsyncIterator[bytes], context: Any) -> AsyncIterator[Any]:
            refusal = self._refusal("ModelStreamInfer", context)
            if refusal is not None:
                await _abort(context, refusal, "ModelStreamInfer")
            async for response in self._answers(requests, context):
                yield response
            if self._parting:
                await context.abort(_grpc().StatusCode.UNAVAILABLE, "the server is stopping")

        return call

    async def _answers(self, requests: AsyncIterator[bytes], context: Any) -> AsyncIterator[Any]:
        """The answers in the order of the requests, of which several are under way at once."""
        places = asyncio.Semaphore(STREAM_WINDOW)
        begun: asyncio.Queue[asyncio.Task[Any] | None] = asyncio.Queue()
        under_way: set[asyncio.Task[Any]] = set()

        async def read() -> None:
            async for data in requests:
                await places.acquire()
                task = asyncio.create_task(self._one(data, _remaining(context)))
                under_way.add(task)
                begun.put_nowait(task)

        reader = asyncio.create_task(read())
        reader.add_done_callback(lambda _: begun.put_nowait(None))
        self._readers.add(reader)
        if self._parting:
            reader.cancel()
        try:
            while (task := await begun.get()) is not None:
                yield await task
                under_way.discard(task)
                places.release()
        finally:
            self._readers.discard(reader)
            for left in (reader, *under_way):
                left.cancel()

    async def _one(self, data: bytes, timeout_s: float | None) -> Any:
        """The answer to a request of a stream. One that fails says so, and leaves the stream to the others."""
        response = message("inference.ModelStreamInferResponse")()
        asked = None
        try:
            asked = _parsed(message("inference.ModelInferRequest"), data)
            response.infer_response.CopyFrom(await infer(self._catalog, asked, len(data), timeout_s))
            # What clients ask for that cannot know that every request has one answer.
            response.infer_response.parameters["triton_final_response"].bool_param = True
        except Exception as error:  # noqa: BLE001 - as for a single call
            status, words, _ = as_error(error)
            _log(error, status, "ModelStreamInfer")
            response.error_message = words
            response.infer_response.id = asked.id if asked is not None else ""
        return response

    def _refusal(self, name: str, context: Any) -> ProblemError | None:
        if name in OPEN:
            return None
        metadata = context.invocation_metadata() or ()
        return self._access.grpc(metadata, management=name in MANAGEMENT, peer=context.peer())

    def _judge(self, name: str, context: Any) -> None:
        refusal = self._refusal(name, context)
        if refusal is not None:
            raise refusal


def _parsed(request: Any, data: bytes) -> Any:
    from google.protobuf.message import DecodeError

    try:
        return request.FromString(data)
    except DecodeError as error:
        raise malformed("the message cannot be read") from error


def _remaining(context: Any) -> float | None:
    """Seconds until the caller's deadline, None where there is none."""
    seconds: float | None = context.time_remaining()
    return None if seconds is None or seconds > 1e9 else max(seconds, 1e-3)


async def _abort(context: Any, error: Exception, method: str) -> None:
    status, words, headers = as_error(error)
    _log(error, status, method)
    code = getattr(_grpc().StatusCode, _CODES.get(status, "INTERNAL"))
    after = headers.get("retry-after")
    # The name under which gRPC's own retries look for it.
    trailing = (("grpc-retry-pushback-ms", str(int(after) * 1000)),) if after is not None else ()
    await context.abort(code, words, trailing)


def _log(error: Exception, status: int, method: str) -> None:
    if status == 500:
        _LOG.error("gRPC %s failed", method, exc_info=error)


def _grpc() -> Any:
    try:
        import grpc
        import grpc.aio
    except ImportError as error:
        raise MissingExtra("gRPC", "grpc", "grpc") from error
    return grpc
