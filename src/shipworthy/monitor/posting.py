"""One POST, bounded in time and size, which follows no redirect: the address is the operator's, and nobody else's."""

from __future__ import annotations

import base64
import http.client
import socket
import ssl
import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from urllib.parse import unquote, urlsplit

MOST_READ = 65_536
"""Bytes of an answer that are read; what it says is of no interest."""
LONGEST_RETRY_S = 3600.0


@dataclass(frozen=True, slots=True)
class Answer:
    """What came of it."""

    delivered: bool
    reason: str = ""
    """Why not; holds nothing of the address, and nothing that the receiver said but its status."""
    retry_after_s: float = 0.0
    """The receiver wants no other attempt before."""


def post(url: str, body: bytes, headers: Mapping[str, str], seconds: float) -> Answer:
    """Delivered where the receiver answers 2xx within so many seconds in all."""
    parts = urlsplit(url)
    given = dict(headers)
    if parts.username is not None:
        pair = f"{unquote(parts.username)}:{unquote(parts.password or '')}"
        given["authorization"] = "Basic " + base64.b64encode(pair.encode()).decode()
    connection = _connection(parts.scheme, parts.hostname or "", parts.port, seconds)
    until = time.monotonic() + seconds
    opened: list[socket.socket] = []
    watch = threading.Timer(seconds, _cut, (opened,))  # a time-out of the socket begins anew with every byte
    watch.daemon = True
    watch.start()
    try:
        connection.connect()
        opened.append(connection.sock)  # an answer that ends its connection takes it along
        if time.monotonic() >= until:  # the watch may have found nothing to cut, while a name was looked up
            raise TimeoutError
        target = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
        connection.request("POST", target, body, given)
        response = connection.getresponse()
        response.read(MOST_READ)
        return _judged(response)
    except TimeoutError:
        return Answer(False, f"no answer within {seconds:g} s")
    except ssl.SSLError as error:
        return Answer(False, f"no safe connection: {error.reason or type(error).__name__}")
    except (OSError, http.client.HTTPException, ValueError) as error:
        if time.monotonic() >= until:
            return Answer(False, f"no answer within {seconds:g} s")
        return Answer(False, f"not reached: {getattr(error, 'strerror', None) or type(error).__name__}")
    finally:
        watch.cancel()
        connection.close()


def _connection(scheme: str, host: str, port: int | None, seconds: float) -> http.client.HTTPConnection:
    if scheme == "https":
        return http.client.HTTPSConnection(host, port, timeout=seconds, context=ssl.create_default_context())
    return http.client.HTTPConnection(host, port, timeout=seconds)


def _cut(opened: Sequence[socket.socket]) -> None:
    for one in opened:
        try:
            one.shutdown(socket.SHUT_RDWR)
        except OSError:
            return  # it has ended by itself


def _judged(response: http.client.HTTPResponse) -> Answer:
    if 200 <= response.status < 300:
        return Answer(True)
    if 300 <= response.status < 400:
        return Answer(False, f"answered {response.status}; redirects are not followed, give the address itself")
    after = response.getheader("retry-after", "")
    wait = min(float(after), LONGEST_RETRY_S) if after.isascii() and after.isdecimal() and len(after) < 8 else 0.0
    return Answer(False, f"answered {response.status}", wait)
