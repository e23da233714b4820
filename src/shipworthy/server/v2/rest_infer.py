"""The infer routes: body → tensors → the lane → tensors, as JSON or bytes."""

from __future__ import annotations

from starlette.types import Receive

from ..head import Head
from ..lane import Lane
from ..place import Place
from ..replies import JSON_TYPE, Reply, Timed
from .codings import MIN_BYTES, deflate, inflate, most_bytes, wanted
from .datatypes import malformed
from .feeds import whole_body
from .inference import run, within
from .request import InferRequest
from .rest_tensors import read_request, write_answer

HEADER_LENGTH = b"inference-header-content-length"
BINARY_TYPE = b"application/octet-stream"
INLINE_JSON = 16_384
"""More JSON than this is read, and more numbers than a quarter of it are written, beside the event loop."""


async def infer(lane: Lane, head: Head, receive: Receive) -> Reply:
    """Answer a request for an inference within the time that its headers and its parameters give.

    Raises ProblemError, InputError, TimeoutError, and what the lane raises; `as_error` words them."""
    timeout_s, limit = head.timeout_s, lane.settings.max_body_bytes
    async with within(timeout_s):
        size, coding = head.size(limit), head.headers.get(b"content-encoding", b"").decode("latin-1")
        with lane.admit(most_bytes(size, coding, limit), timeout_s) as place:
            body = head.whole(limit, place.count)
            if body is None:
                body = await place.body(head, receive)
            if not lane.inline:
                head.leave_with_client()
            if coding:
                packed = body
                body = await lane.beside(lambda: inflate(packed, coding, limit))
            if coding or len(body) != size:
                place.weigh(len(body))
            return await _answer(lane, head, place, body)


async def _answer(lane: Lane, head: Head, place: Place, body: bytes) -> Reply:
    request = await _read(lane, head, body)
    inferred = await run(lane, place, request)
    version, outputs = lane.version, inferred.outputs
    heavy = sum(output.array.size for output in outputs if not output.binary) > INLINE_JSON // 4

    def write() -> tuple[bytes, int | None]:
        return write_answer(lane.model, version, request.id, outputs)

    content, header_length = await lane.beside(write) if heavy else write()
    return await _packed(lane, head, content, header_length, inferred)


async def _read(lane: Lane, head: Head, body: bytes) -> InferRequest:
    text = head.headers.get(HEADER_LENGTH)
    most = lane.settings.max_instances
    if text is None:
        if len(body) > INLINE_JSON:
            return await lane.beside(lambda: read_request(body, None, most))
        return read_request(body, None, most)
    if not text.isdigit() or len(text) > 18:
        raise malformed("Inference-Header-Content-Length: expected a number of bytes")
    length = int(text)
    if length == 0:
        tensor = whole_body(body, lane.predictor.contract, most)
        return InferRequest("", [tensor], None, binary=True)
    if length > INLINE_JSON:
        return await lane.beside(lambda: read_request(body, length, most))
    return read_request(body, length, most)


async def _packed(lane: Lane, head: Head, content: bytes, header_length: int | None, spent: Timed) -> Reply:
    headers: tuple[tuple[bytes, bytes], ...] = ()
    media = JSON_TYPE
    if header_length is not None:
        headers, media = ((HEADER_LENGTH, b"%d" % header_length),), BINARY_TYPE
    accept = head.headers.get(b"accept-encoding")
    coding = wanted(accept.decode("latin-1")) if accept is not None and len(content) >= MIN_BYTES else None
    if coding is not None:
        plain, name = content, coding
        content = await lane.beside(lambda: deflate(plain, name))
        headers = (*headers, (b"content-encoding", name.encode()), (b"vary", b"accept-encoding"))
    return Reply(content, spent, media, headers)
