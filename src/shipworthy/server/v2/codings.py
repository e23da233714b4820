"""Bodies that are compressed: `gzip` and `deflate`, as RFC 9110 names them."""

from __future__ import annotations

import zlib
from typing import Final

from ..problems import TOO_LARGE, UNSUPPORTED, ProblemError
from .datatypes import malformed

_WBITS: Final = {"gzip": 16 + zlib.MAX_WBITS, "x-gzip": 16 + zlib.MAX_WBITS, "deflate": zlib.MAX_WBITS}
_PLAIN = ("", "identity")
CODINGS = ("gzip", "deflate")
MIN_BYTES = 1024
"""A smaller answer is not compressed."""
LEVEL = 1
"""Numbers hardly compress better with more effort."""
RATIO = 1032
"""No byte becomes more when it is unpacked: two bits of DEFLATE repeat at most 258 bytes."""


def most_bytes(size: int, coding: str, limit: int) -> int:
    """How large a body of `size` bytes can be when it is unpacked, at most `limit`: what it is to be counted as before
    it is read."""
    return size if coding.strip().lower() in _PLAIN else min(size * RATIO, limit)


def inflate(body: bytes, coding: str, limit: int) -> bytes:
    """The body that was compressed. ProblemError where it is damaged, of another coding, or above `limit` bytes.

    No more than `limit` bytes are ever unpacked, however well they are packed."""
    name = coding.strip().lower()
    if name in _PLAIN:
        return body
    if name not in _WBITS:
        raise ProblemError(UNSUPPORTED, f"expected Content-Encoding {' or '.join(CODINGS)}")
    unpacking = zlib.decompressobj(_WBITS[name])
    try:
        plain = unpacking.decompress(body, limit + 1)
    except zlib.error as error:
        raise malformed(f"the body is no {name}") from error
    if len(plain) > limit:
        raise ProblemError(TOO_LARGE, f"a body may have {limit} bytes when it is unpacked")
    if not unpacking.eof or unpacking.unused_data:
        raise malformed(f"the body is not one whole {name} stream")
    return plain


def wanted(accept: str) -> str | None:
    """The coding that a client asks for by naming it alone; None where it names none, or several.

    Libraries offer a list with every request by themselves. Compressing numbers takes longer than sending them, so
    only who asks for it pays."""
    name = accept.strip().lower()
    return name if name in CODINGS else None


def deflate(body: bytes, coding: str) -> bytes:
    packing = zlib.compressobj(LEVEL, zlib.DEFLATED, _WBITS[coding])
    return packing.compress(body) + packing.flush()
