"""The target of a request (RFC 9112, section 3.2) as path and query."""

from __future__ import annotations

from functools import lru_cache
from typing import NamedTuple
from urllib.parse import unquote

import httptools

_KEPT_BYTES = 256


class Target(NamedTuple):
    path: str
    """Decoded once."""
    raw_path: bytes
    query: bytes


def split_target(target: bytes) -> Target:
    """Path and query of `/path?query` or `http://host/path?query`. HttpParserError where it is neither."""
    # A server is asked for few different targets; long ones are not worth their memory.
    return _kept(target) if len(target) <= _KEPT_BYTES else _split(target)


def authority_fits(target: bytes, host: bytes | None) -> bool:
    """Whether a target that names a host names that of the Host header."""
    url = httptools.parse_url(target)
    if url.host is None or host is None:
        return url.host is None
    authority = url.host if url.port is None else b"%b:%d" % (url.host, url.port)
    return bool(authority.lower() == host.lower())


def _split(target: bytes) -> Target:
    url = httptools.parse_url(target)
    raw_path = url.path or b"/"
    return Target(unquote(raw_path.decode("ascii")), raw_path, url.query or b"")


_kept = lru_cache(maxsize=512)(_split)
