"""Calls of gRPC and what is due to each: its id, the judgement of who asks, and errors as status codes."""

from __future__ import annotations

import asyncio
import logging
import os
from collections.abc import AsyncIterator
from typing import TYPE_CHECKING, Any, NoReturn

from ...errors import MissingExtra
from ..access import Access
from ..dispatch import clock
from ..head import Head
from ..problems import ProblemError
from ..reporting import LEFT
from .datatypes import malformed
from .errors import as_error
from .grpc_service import ANSWERS, MANAGEMENT, OPEN, Call, infer
from .messages import message, methods

if TYPE_CHECKING:
    import grpc

    from ..catalog import Catalog
    from ..reporting import Reporter

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
_ID = "x-request-id"

_LOG = logging.getLogger("shipworthy.server")


class Calls:
    """What stands between a call and its method: its id, the judgement of who asks, and errors as status codes."""

    def __init__(self, catalog: Catalog, access: Access, reporter: Reporter | None) -> None:
        self._catalog, self._access, self._reporter = catalog, access, reporter
        self._readers: set[asyncio.Task[None]] = set()
        self._parting = False

    def handlers(self) -> list[grpc.GenericRpcHandler]:
        """Messages come as bytes: who may not ask has nothing of his read."""
        grpc = library()
        made = []
        for service, answers in ANSWERS.items():
            table: dict[str, Any] = {}
            for name, (request, response, streams) in methods(service).items():
                kind = grpc.stream_stream_rpc_method_handler if streams else grpc.unary_unary_rpc_method_handler
                path = f"/{service}/{name}"
                method = self._stream(path, name) if streams else self._unary(path, name, request, answers.get(name))
                table[name] = kind(method, response_serializer=response.SerializeToString)
            made.append(grpc.method_handlers_generic_handler(service, table))
        return made

    def part(self) -> None:
        """Read no more from streams; what was read is answered."""
        self._parting = True
        for reader in self._readers:
            reader.cancel()

    def _unary(self, path: str, name: str, request: Any, answer: Any) -> Any:
        async def call(data: bytes, context: Any) -> Any:
            told = self._call(_head(path, context), infers=answer is None)
            context.set_trailing_metadata(_trailing(told))
            try:
                self._judge(name, context)
                asked = _parsed(request, data)
                if answer is None:
                    response = await infer(self._catalog, asked, len(data), _remaining(context), told)
                else:
                    response = await answer(self._catalog, asked)
            except asyncio.CancelledError:
                self._left(told)
                raise
            except Exception as error:  # noqa: BLE001 - whatever it is, the caller gets a status, and the log the rest
                await self._abort(context, error, told)
            self._ended(told, 200)
            return response

        return call

    def _stream(self, path: str, name: str) -> Any:
        async def call(requests: AsyncIterator[bytes], context: Any) -> AsyncIterator[Any]:
            head = _head(path, context)
            context.set_trailing_metadata(((_ID, head.id),))
            refusal = self._refusal(name, context)
            if refusal is not None:
                await self._abort(context, refusal, self._call(head, infers=True))
            async for response in self._answers(requests, context, head):
                yield response
            if self._parting:
                await context.abort(library().StatusCode.UNAVAILABLE, "the server is stopping", ((_ID, head.id),))

        return call

    async def _answers(self, requests: AsyncIterator[bytes], context: Any, head: Head) -> AsyncIterator[Any]:
        """The answers in the order of the requests, of which several are under way at once."""
        places = asyncio.Semaphore(STREAM_WINDOW)
        begun: asyncio.Queue[asyncio.Task[Any] | None] = asyncio.Queue()
        under_way: set[asyncio.Task[Any]] = set()

        async def read() -> None:
            async for data in requests:
                await places.acquire()
                task = asyncio.create_task(self._one(data, _remaining(context), self._call(head, infers=True)))
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

    async def _one(self, data: bytes, timeout_s: float | None, told: Call) -> Any:
        """The answer to a request of a stream. One that fails says so, and leaves the stream to the others."""
        response = message("inference.ModelStreamInferResponse")()
        asked = None
        try:
            asked = _parsed(message("inference.ModelInferRequest"), data)
            response.infer_response.CopyFrom(await infer(self._catalog, asked, len(data), timeout_s, told))
            # What clients ask for that cannot know that every request has one answer.
            response.infer_response.parameters["triton_final_response"].bool_param = True
            self._ended(told, 200)
        except asyncio.CancelledError:
            self._left(told)
            raise
        except Exception as error:  # noqa: BLE001 - as for a single call
            status, words, _ = as_error(error)
            self._ended(told, status, error)
            response.error_message = words
            response.infer_response.id = asked.id if asked is not None else ""
        return response

    def _call(self, head: Head, *, infers: bool) -> Call:
        trace = None if self._reporter is None else self._reporter.begin(head)
        return Call(head, trace, "grpc" if infers else None, clock())

    def _ended(self, told: Call, status: int, error: Exception | None = None) -> None:
        """A call has its answer, or none: told to who counts, logs and traces."""
        head, lane = told.head, told.lane
        if status == 500:
            _LOG.error("request %s failed: gRPC %s", head.id, head.scope["path"], exc_info=error)
        if told.route is not None and lane is None:
            self._catalog.metrics.unrouted(status)
        self._report(told, status)

    def _left(self, told: Call) -> None:
        """The caller has cancelled, or its deadline has passed there; or the server waits no longer for its answer."""
        self._report(told, LEFT)

    def _report(self, told: Call, status: int) -> None:
        if self._reporter is not None:
            total_s = clock() - told.started
            self._reporter.answered(
                told.head, told.trace, status, total_s, route=told.route, lane=told.lane, spent=told.spent
            )

    async def _abort(self, context: Any, error: Exception, told: Call) -> NoReturn:
        status, words, headers = as_error(error)
        self._ended(told, status, error)
        code = getattr(library().StatusCode, _CODES.get(status, "INTERNAL"))
        after = headers.get("retry-after")
        # The name under which gRPC's own retries look for it.
        pushback = (("grpc-retry-pushback-ms", str(int(after) * 1000)),) if after is not None else ()
        await context.abort(code, words, (*_trailing(told), *pushback))
        raise AssertionError("an abort raises")

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


def _head(path: str, context: Any) -> Head:
    """The call's metadata, as HTTP's headers are read."""
    given = [
        (key.encode(), value.encode() if isinstance(value, str) else value)
        for key, value in context.invocation_metadata() or ()
    ]
    return Head({"method": "POST", "path": path, "headers": given})


def _trailing(told: Call) -> tuple[tuple[str, str], ...]:
    """What goes back with the status: the call's id, and its place in a trace."""
    made = (_ID, told.head.id)
    return (made,) if told.trace is None else (made, ("traceparent", told.trace.traceparent))


def library() -> Any:
    """The module `grpc`. Raises MissingExtra."""
    # Else it writes a line to standard error whenever its process starts another one.
    os.environ.setdefault("GRPC_ENABLE_FORK_SUPPORT", "false")
    try:
        import grpc
        import grpc.aio
    except ImportError as error:
        raise MissingExtra("gRPC", "grpc", "grpc") from error
    return grpc
