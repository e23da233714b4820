"""Request bodies to instances: read within a limit, then parsed by their content type."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from email.message import Message
from typing import TYPE_CHECKING

from pydantic_core import from_json
from starlette.types import Receive

from ..encode import MAX_PIXELS
from ..errors import InputError, Problem
from ..predict.requests import MANY, read_request
from ..predict.requests import Request as Instances
from .problems import MALFORMED, TOO_LARGE, UNSUPPORTED, ProblemError

if TYPE_CHECKING:
    from python_multipart.multipart import Field, File

    from ..encode import Codec
    from ..predict import Predictor

JSON = "application/json"
IMAGES = ("image/png", "image/jpeg")
FORM = "multipart/form-data"
MAX_VALUES = 4_000_000
"""JSON with more values is refused before it is parsed."""
MAX_UNFOLDED = 256 * 2**20
"""So many bytes may the images of a request become: files of some hundred bytes unfold to any number of pixels."""
MAX_CLAIMED = 4 * MAX_PIXELS
"""So many pixels may the files of a request have, where it has several: a second's work for the decoder."""
_BEFORE_VALUES = (b",", b"[", b"{")


class ClientGone(Exception):
    """The client has left before its request was complete."""


async def read_body(receive: Receive, limit: int, count: Callable[[int], None] | None = None) -> bytes:
    """The whole body; refused as soon as it is seen to be longer than `limit` bytes. Raises ClientGone.

    `count` is told how many bytes have come, where they come in pieces."""
    pieces: list[bytes] = []
    size, more = 0, True
    while more:
        message = await receive()
        if message["type"] != "http.request":
            raise ClientGone
        pieces.append(message.get("body", b""))
        size += len(pieces[-1])
        if size > limit:
            raise too_long(limit)
        more = message.get("more_body", False)
        if more and count is not None:
            count(len(pieces[-1]))
    return pieces[0] if len(pieces) == 1 else b"".join(pieces)


def accepted(predictor: Predictor) -> tuple[str, ...]:
    """The content types that a model takes."""
    return (JSON, *IMAGES, FORM) if predictor.codec.accepts_image is not None else (JSON,)


def parse(body: bytes, content_type: str, predictor: Predictor, max_instances: int, value: object = None) -> Instances:
    """The instances of a body, not yet encoded; `value` is what it says as JSON, where that is known.

    ProblemError where it is malformed or of a type that the model does not take, InputError where it is no request for
    instances."""
    header = Message()
    header["content-type"] = content_type
    # The standard library takes what it cannot read for text/plain, which no model takes.
    media = header.get_content_type()
    if media not in accepted(predictor):
        got = ascii(content_type[:80]) if content_type else "none"
        raise ProblemError(UNSUPPORTED, f"expected {' or '.join(accepted(predictor))}, got {got}")
    if media == JSON:
        asked = _from_json(body, predictor, value)
    else:
        name = predictor.codec.accepts_image
        images = [body] if media in IMAGES else _files(body, content_type)
        asked = Instances([{name: image} for image in images], many=len(images) > 1)
    if not asked.instances:
        raise InputError([Problem(0, MANY, "there is none")])
    if len(asked.instances) > max_instances:
        raise ProblemError(TOO_LARGE, f"a request may have {max_instances} instances, got {len(asked.instances)}")
    check_images(asked.instances, predictor.codec)
    return asked


def check_images(instances: Sequence[object], codec: Codec) -> None:
    """ProblemError where images would take too much memory, or too long. They are not decoded for that."""
    size = codec.unfolded(instances)
    if size > MAX_UNFOLDED:
        raise ProblemError(
            TOO_LARGE, f"the images of a request may become {MAX_UNFOLDED} bytes, got {len(instances)} that make {size}"
        )
    if len(instances) > 1 and (pixels := codec.claimed(instances)) > MAX_CLAIMED:
        raise ProblemError(TOO_LARGE, f"the images of a request may have {MAX_CLAIMED} pixels, got {pixels}")


def too_long(limit: int) -> ProblemError:
    # The rest of the body is not read, so the connection is of no further use.
    return ProblemError(TOO_LARGE, f"a body may have {limit} bytes", headers={"connection": "close"})


def read_json(body: bytes) -> object:
    """Strict JSON in UTF-8: no NaN, no endless nesting, no number that is longer than any dtype can hold.

    ValueError where it is none, ProblemError where it has more values than a request needs: each takes many times the
    memory of its text."""
    if len(body) > MAX_VALUES and sum(map(body.count, _BEFORE_VALUES)) > MAX_VALUES:
        raise ProblemError(TOO_LARGE, f"JSON may have {MAX_VALUES} values; send large tensors as bytes")
    value: object = from_json(body, allow_inf_nan=False)
    return value


def _from_json(body: bytes, predictor: Predictor, value: object) -> Instances:
    try:
        value = read_json(body) if value is None else value
    except ValueError as error:
        raise ProblemError(MALFORMED, f"the body is no JSON: {error}") from error
    if not isinstance(value, dict):
        raise InputError([Problem(0, "body", f'expected an object: one instance, or {{"{MANY}": [...]}}')])
    return read_request(value, predictor.contract, predictor.codec.fields)


def _files(body: bytes, content_type: str) -> list[bytes]:
    """The files of a form, in order, whatever their fields are called."""
    from python_multipart.multipart import FormParser, parse_options_header

    files: list[bytes] = []
    fields: list[str] = []

    def on_file(file: File) -> None:
        file.file_object.seek(0)
        files.append(file.file_object.read())

    def on_field(field: Field) -> None:
        fields.append(repr(field.field_name)[:80])

    try:
        # RFC 7578 forbids the extended parameters (`boundary*=`), so only the plain one counts.
        boundary = parse_options_header(content_type)[1].get(b"boundary")
        parser = FormParser(FORM, on_field, on_file, boundary=boundary, config={"MAX_MEMORY_FILE_SIZE": len(body)})
        parser.write(body)
        parser.finalize()
    # The parser has errors of its own, and raises others (AssertionError, KeyError, ...) for some malformed bodies.
    except Exception as error:
        raise ProblemError(MALFORMED, "the body is no form with a boundary as its content type says") from error
    if fields:
        raise InputError([Problem(0, name, "expected a file") for name in fields])
    if not files:
        raise ProblemError(MALFORMED, "the form has no complete file")
    return files
