"""What workers and the monitor process say to each other: frames, each a head of fixed size, a header in JSON and raw
arrays.

    4 bytes  magic, with the number of the format
    4 bytes  length of the header, little endian
    8 bytes  length of the body, little endian

What comes over the socket is as untrusted as any: nothing is executed, and every length is checked before memory is
taken for it."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from struct import Struct
from typing import Annotated, Any, Literal, TypeAlias

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError

from ..contract import Array, Arrays
from ..errors import MonitorError
from .options import FEWEST_BASELINE, MOST_BASELINE

MAGIC = b"swm\x01"
MOST_HEADER = 4 * 2**20
"""Bytes. A contract with thousands of labels has some hundred thousand."""
MOST_BODY = 256 * 2**20
"""Bytes. The largest is a reference; rows come some megabytes at a time."""
MOST_ROWS = 1_000_000
MOST_ARRAYS = 10_000
_HEAD = Struct("<4sIQ")
_KINDS = "biuf"
"""Kinds of NumPy's dtypes that arrays may have: numbers and truth values."""


class _Said(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)


class Begin(_Said):
    """A version is watched from now on. The body is its reference, as the package has it; none where it is empty."""

    is_a: Literal["begin"] = "begin"
    number: int = Field(ge=0)
    """Names the version on this connection."""
    model: str = Field(min_length=1)
    version: str = Field(min_length=1)
    variant: str
    contract: str
    """As JSON."""


class Layout(_Said):
    """One array of the body: n rows of one input or output."""

    name: str
    output: bool
    dtype: str
    """NumPy's, with its byte order: `<f4`."""
    shape: list[int]
    """Of one row."""


class Part(_Said):
    """Rows of equal shapes, in their order."""

    rows: int = Field(ge=1, le=MOST_ROWS)
    places: list[int] | None = None
    """Which of all rows they are, rising; None where they are all."""
    arrays: list[Layout] = Field(max_length=MOST_ARRAYS)


class Rows(_Said):
    """Rows that were chosen, in their order, and how many there were to choose from since the last telling. The body
    has the seconds that each waited and ran (float64 [n]), and then the arrays of each part."""

    is_a: Literal["rows"] = "rows"
    number: int = Field(ge=0)
    at: float
    """When the last of them came, seconds since 1970."""
    seen: int = Field(ge=0)
    """Rows that were answered."""
    lost: int = Field(ge=0)
    """Rows that were chosen, and had no place to wait in."""
    parts: list[Part]


class End(_Said):
    """A version is watched no more by this worker."""

    is_a: Literal["end"] = "end"
    number: int = Field(ge=0)


class Acknowledge(_Said):
    """Somebody has seen to an alarm. Answered by `Acknowledged`."""

    is_a: Literal["acknowledge"] = "acknowledge"
    model: str
    alarm: str
    who: str
    why: str
    new_baseline: Literal[0] | Annotated[int, Field(ge=FEWEST_BASELINE, le=MOST_BASELINE)] = 0
    """So many of the rows that come next are the reference from then on; 0 keeps the one there is."""


class Acknowledged(_Said):
    """What became of it."""

    is_a: Literal["acknowledged"] = "acknowledged"
    found: bool


Message: TypeAlias = Begin | Rows | End | Acknowledge | Acknowledged
_MESSAGE: TypeAdapter[Message] = TypeAdapter(Annotated[Message, Field(discriminator="is_a")])


@dataclass(slots=True)
class Frame:
    """A message, and the bytes that come with it."""

    message: Message
    body: bytes | bytearray | memoryview = b""


def packed(message: Message, body: Sequence[bytes | memoryview] = ()) -> list[bytes | memoryview]:
    """What is to be sent, one piece after another."""
    header = message.model_dump_json().encode()
    return [_HEAD.pack(MAGIC, len(header), sum(map(len, body))) + header, *body]


@dataclass(slots=True)
class Reader:
    """Takes bytes as they come, and gives the frames that are complete. Useless after an error."""

    _waiting: bytearray = field(default_factory=bytearray)

    def feed(self, data: bytes | memoryview) -> Iterator[Frame]:
        """Raises MonitorError for what is no frame, as soon as that shows."""
        self._waiting += data
        while (size := self._size()) is not None and len(self._waiting) >= size[0] + size[1]:
            start, length = size
            message = _message(bytes(self._waiting[_HEAD.size : start]))
            body = bytes(memoryview(self._waiting)[start : start + length])
            del self._waiting[: start + length]
            yield Frame(message, body)

    @property
    def waiting(self) -> int:
        """Bytes of a frame that is not complete."""
        return len(self._waiting)

    def _size(self) -> tuple[int, int] | None:
        """Where the body of the first frame begins, and its length; None where that has not come yet."""
        if not MAGIC.startswith(bytes(self._waiting[: len(MAGIC)])):
            raise _misunderstood("it does not begin as a frame of this version does")
        if len(self._waiting) < _HEAD.size:
            return None
        _, header, body = _HEAD.unpack_from(self._waiting)
        if header > MOST_HEADER or body > MOST_BODY:
            raise _misunderstood(f"a frame has {header} bytes of header and {body} of body")
        return _HEAD.size + header, body


def arrays_of(rows: Rows, body: bytes | bytearray | memoryview) -> tuple[Array, list[tuple[Array, Arrays, Arrays]]]:
    """Seconds [n] of the rows, and of each part its places among them [k], and inputs and outputs [k, ...] by name.
    They share the memory of `body`.

    Raises MonitorError where the layout is not that of the body, or the places are not those of all rows."""
    total = sum(part.rows for part in rows.parts)
    view = memoryview(body)
    if total > MOST_ROWS or len(view) < total * 8:
        raise _misunderstood(f"{total} rows do not fit {len(view)} bytes")
    seconds = np.frombuffer(view[: total * 8], "<f8")
    place = total * 8
    parts: list[tuple[Array, Arrays, Arrays]] = []
    for part, places in zip(rows.parts, _places(rows, total), strict=True):
        feeds: dict[str, Array] = {}
        outputs: dict[str, Array] = {}
        for layout in part.arrays:
            array = _array(layout, part.rows, view[place:])
            (outputs if layout.output else feeds)[layout.name] = array
            place += array.nbytes
        parts.append((places, feeds, outputs))
    if place != len(view):
        raise _misunderstood(f"{len(view) - place} bytes are left over")
    return seconds, parts


def _places(rows: Rows, total: int) -> list[Array]:
    """Those of each part; together they are those of all rows, each once."""
    try:
        found = [
            np.arange(part.rows) if part.places is None else np.array(part.places, np.int64) for part in rows.parts
        ]
    except OverflowError:
        raise _misunderstood("a place is beyond all rows") from None
    whole = np.concatenate(found) if found else np.zeros(0, np.int64)
    lengths = [len(places) for places in found] == [part.rows for part in rows.parts]
    rising = all((np.diff(places) > 0).all() for places in found)
    if not (lengths and rising and np.array_equal(np.sort(whole), np.arange(total))):
        raise _misunderstood("its rows have places that are not theirs")
    return found


def _array(layout: Layout, rows: int, view: memoryview) -> Array:
    """The array that begins here."""
    dtype, shape = _dtype(layout.dtype), (rows, *layout.shape)
    length = math.prod(shape) * dtype.itemsize
    if min(shape) < 0 or length > len(view):
        raise _misunderstood(f"an array of shape {shape} does not fit {len(view)} bytes")
    try:
        return np.frombuffer(view[:length], dtype).reshape(shape) if length else np.empty(shape, dtype)
    except ValueError:
        raise _misunderstood(f"an array has the shape {shape}") from None


def _dtype(name: str) -> np.dtype[Any]:
    try:
        dtype = np.dtype(name)
    except (TypeError, ValueError, SyntaxError) as error:
        raise _misunderstood(f"{name!r} is no dtype: {error}") from None
    if dtype.kind not in _KINDS or dtype.shape:
        raise _misunderstood(f"{name!r} is no dtype of numbers")
    return dtype


def _message(header: bytes) -> Message:
    try:
        return _MESSAGE.validate_json(header)
    except ValidationError as error:
        raise _misunderstood(f"a header has {error.error_count()} faults") from None


def _misunderstood(reason: str) -> MonitorError:
    return MonitorError("what is watched", f"cannot be read: {reason}", "restart the server")
