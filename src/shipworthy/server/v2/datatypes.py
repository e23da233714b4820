"""The protocol's datatypes, and their bytes on the wire: little-endian, row-major, without padding.

BYTES is a sequence of elements, each four bytes of length (unsigned, little-endian) and then so many bytes. Its
arrays hold objects: `bytes`, or `str` where the element came in JSON. BF16 has no type in NumPy and is refused."""

from __future__ import annotations

import struct
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

from ...contract import Array
from ...encode.faults import FieldError, brief
from ...encode.tensors import at, to_array
from ..problems import MALFORMED, ProblemError

BYTES = "BYTES"
DTYPES: dict[str, np.dtype[Any]] = {
    "BOOL": np.dtype(np.bool_),
    "INT8": np.dtype("<i1"),
    "INT16": np.dtype("<i2"),
    "INT32": np.dtype("<i4"),
    "INT64": np.dtype("<i8"),
    "UINT8": np.dtype("<u1"),
    "UINT16": np.dtype("<u2"),
    "UINT32": np.dtype("<u4"),
    "UINT64": np.dtype("<u8"),
    "FP16": np.dtype("<f2"),
    "FP32": np.dtype("<f4"),
    "FP64": np.dtype("<f8"),
    BYTES: np.dtype(object),
}
"""By name, every datatype that is taken."""
NAMES: dict[np.dtype[Any], str] = {dtype: name for name, dtype in DTYPES.items()}
"""The other way round."""

_LENGTH = struct.Struct("<I")


def dtype_of(name: str, datatype: object) -> np.dtype[Any]:
    """The dtype of a tensor `name`; ProblemError where there is no such datatype."""
    dtype = DTYPES.get(datatype) if isinstance(datatype, str) else None
    if dtype is not None:
        return dtype
    if datatype == "BF16":
        raise malformed(f"{name}: BF16 is not taken; send FP32, or FP16 where the model takes it")
    got = brief(datatype) if isinstance(datatype, str) else "none"
    raise malformed(f"{name}: expected a datatype of {', '.join(DTYPES)}, got {got}")


def malformed(detail: str) -> ProblemError:
    """A request that is not as the protocol says."""
    return ProblemError(MALFORMED, detail)


def from_raw(name: str, dtype: np.dtype[Any], shape: Sequence[int], count: int, data: bytes | memoryview) -> Array:
    """An array over the bytes of a tensor, which are not copied where they are aligned for its dtype.

    `count` is the product of `shape`. ProblemError where the bytes do not make so many elements."""
    if dtype.hasobject:
        return objects(bytes_elements(name, count, data), shape)
    if len(data) != count * dtype.itemsize:
        raise malformed(f"{name}: expected {count * dtype.itemsize} bytes for shape {list(shape)}, got {len(data)}")
    if dtype.kind == "b" and count and np.frombuffer(data, np.uint8).max() > 1:
        raise malformed(f"{name}: a BOOL is a byte of 0 or 1")
    array: Array = np.frombuffer(data, dtype).reshape(shape)
    # Engines read whole words; a header of any length may stand before the numbers.
    return array if array.flags.aligned else array.copy()


def bytes_elements(name: str, count: int, data: bytes | memoryview) -> list[bytes]:
    """The elements of a BYTES tensor. ProblemError where there are not exactly `count`."""
    elements: list[bytes] = []
    view, place, end = memoryview(data), 0, len(data)
    while place < end and len(elements) < count:
        start = place + _LENGTH.size
        if start > end:
            break
        place = start + _LENGTH.unpack_from(view, place)[0]
        if place > end:
            break
        elements.append(bytes(view[start:place]))
    if place != end or len(elements) != count:
        raise malformed(f"{name}: the bytes are not {count} elements, each with its length in four bytes before it")
    return elements


def objects(elements: Sequence[object], shape: Sequence[int]) -> Array:
    """An array of objects, whatever these are: NumPy would take the lengths of equal strings for a dimension."""
    array: Array = np.empty(len(elements), dtype=object)
    array[:] = elements
    return array.reshape(shape)


def from_list(name: str, dtype: np.dtype[Any], shape: Sequence[int], flat: Sequence[Any]) -> Array:
    """An array of the numbers, or strings, of a JSON list. ProblemError where one does not fit the datatype."""
    if dtype.hasobject:
        if not set(map(type, flat)) <= {str}:
            raise malformed(f"{name}: expected strings; bytes that are no text are sent in the binary form")
        return objects(flat, shape)
    try:
        return (_unsigned64(flat, shape) if dtype == np.uint64 else to_array(flat, dtype, tuple(shape))).reshape(shape)
    except FieldError as error:
        raise malformed(f"{name}: {error.faults[0][1]}") from error


def _unsigned64(flat: Sequence[Any], shape: Sequence[int]) -> Array:
    """The only datatype with numbers that no int64 holds."""
    wrong = [place for place, item in enumerate(flat) if type(item) is not int or not 0 <= item < 2**64]
    if wrong:
        raise FieldError("expected a whole number of 0..18446744073709551615" + at(wrong[0], tuple(shape)))
    return np.array(flat, dtype=np.uint64)


def to_raw(array: Array) -> bytes | memoryview:
    """The bytes of a tensor; a view of its memory where that is contiguous."""
    if array.dtype.hasobject:
        return b"".join(_with_lengths(array.ravel().tolist()))
    return array.data if array.flags.c_contiguous and array.size else array.tobytes()


def to_list(array: Array) -> list[Any]:
    """The elements of a tensor as JSON has them, row-major; null where a number is not finite."""
    flat = array.ravel()
    if array.dtype.kind == "f" and not (finite := np.isfinite(flat)).all():
        flat = flat.astype(object)
        flat[~finite] = None
    elements: list[Any] = flat.tolist()
    return [one.decode() if isinstance(one, bytes) else one for one in elements] if array.dtype.hasobject else elements


def _with_lengths(elements: Iterable[str | bytes]) -> Iterable[bytes]:
    for element in elements:
        data = element.encode() if isinstance(element, str) else element
        yield _LENGTH.pack(len(data))
        yield data
