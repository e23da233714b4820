"""Who may ask: by token, by the name that is asked for, and by where a request comes from.

Nothing here reads a body or waits. A request is judged from its headers alone, by the bare lane, by the layers and by
gRPC in the same way:

    access = Access(token, loopback=True)
    problem = access.check(scope["headers"], scope["path"], scope["method"], scope["client"])
    if problem is not None: answer it

There are three kinds of server:

* With a token, every route but `OPEN_PATHS` needs it, from wherever. A page in a browser does not know it.
* Without a token on a loopback address, whoever asks is on this machine, but may be a browser that a page from
  elsewhere makes ask. So it must be asked for by a name of the loopback: a page could make its own name resolve to
  127.0.0.1, and then read the answers (DNS rebinding). And what is no mere reading must not come from a page of
  another origin: a form, or a fetch that does not read its answer, needs nobody's leave to send a POST.
* Without a token on another address (`no_auth`), anybody may ask models. What changes the server is left to this
  machine.

What changes the server (`is_management`: load, unload, and every other POST that is no question to a model), and what
tells how it is used (`is_monitor`), needs the token or, where there is none, a connection from a loopback address under
a local name, without a trace of a proxy or of another origin. A proxy on the same machine that leaves no trace makes
all its clients look local: a server behind a proxy needs a token.
"""

from __future__ import annotations

import hmac
import ipaddress
import re
from collections.abc import Iterable, Sequence
from functools import lru_cache
from typing import TypeAlias
from urllib.parse import unquote

from ..predict.ids import new_id
from .problems import FORBIDDEN, MISDIRECTED, UNAUTHORIZED, ProblemError

RawHeaders: TypeAlias = Sequence[tuple[bytes, bytes]]
"""As ASGI has them: names in lower case."""

OPEN_PATHS = frozenset(("/livez", "/readyz", "/v2/health/live", "/v2/health/ready"))
"""What a supervisor asks without a token."""
READING = frozenset(("GET", "HEAD", "OPTIONS"))
"""Methods that change nothing, whatever the route."""
QUESTIONS = frozenset(("predict", "infer", "feedback", "index"))
"""The last parts of the paths that are posted to without changing what is served."""

_OWN_PAGES = frozenset((b"same-origin", b"none"))
_PROXIES = frozenset((b"forwarded", b"via", b"x-forwarded-for", b"x-forwarded-host", b"x-real-ip"))
_HOST = re.compile(rb"(\[[0-9a-f:.]+\]|[a-z0-9._-]+)(?::[0-9]*)?", re.IGNORECASE)
_MONITOR = re.compile(r"/models/[^/]+/monitor")
_REQUEST_ID = re.compile(rb"[A-Za-z0-9._:-]{1,128}")
_LONGEST_HOST = 260


class Access:
    """The judgement of one server. It holds the token, and shows it to nobody."""

    def __init__(self, token: str | None, *, loopback: bool) -> None:
        """`loopback`: the server is bound to an address that only this machine reaches."""
        self._token = token.encode() if token is not None else None
        self._loopback = loopback

    @property
    def secured(self) -> bool:
        """Whether there is a token."""
        return self._token is not None

    def check(
        self, headers: RawHeaders, path: str, method: str, client: tuple[str, int] | None = None
    ) -> ProblemError | None:
        """What is to be answered instead, or None where the request may go on.

        `client` is the address of the other end of the connection, which only management looks at; one that is not
        known is not local. 401 without the token, 403 for what this caller may not do, 421 for a name that is not
        local."""
        if self._token is not None:
            return None if path in OPEN_PATHS or _bears(headers, self._token) else _unauthorized()
        management = is_monitor(path) if method in READING else is_management(path)
        if management and not is_local_address(client[0] if client is not None else ""):
            return _unmanageable()
        if not (self._loopback or management):
            return None
        return _foreign(headers, method, proxies=management)

    def grpc(
        self, metadata: Iterable[tuple[str, str | bytes]], *, management: bool, peer: str = ""
    ) -> ProblemError | None:
        """The same for a gRPC call: `metadata` with keys in lower case, `peer` as `context.peer()` gives it.

        Browsers cannot make such calls, so there is neither a host nor an origin to look at."""
        headers = [(key.encode(), value.encode() if isinstance(value, str) else value) for key, value in metadata]
        if self._token is not None:
            return None if _bears(headers, self._token) else _unauthorized()
        if management and (not is_local_address(_peer_address(peer)) or _proxied(headers)):
            return _unmanageable()
        return None


def is_management(path: str) -> bool:
    """Whether a POST to this path could change what is served. What is not known to be a question counts as one."""
    return path.rpartition("/")[2] not in QUESTIONS


def is_monitor(path: str) -> bool:
    """Whether this is where a model's monitor is read, which tells what is asked of it."""
    return _MONITOR.fullmatch(path) is not None


@lru_cache(maxsize=256)
def is_local_address(address: str) -> bool:
    """True for a loopback address, of IPv4 as IPv6 shows it too (::ffff:127.0.0.1)."""
    try:
        found = ipaddress.ip_address(address)
    except ValueError:
        return False
    mapped = found.ipv4_mapped if isinstance(found, ipaddress.IPv6Address) else None
    return (mapped or found).is_loopback


@lru_cache(maxsize=256)
def is_local_name(host: bytes) -> bool:
    """True where a `Host` header asks for this machine by a name of its loopback, with whatever port."""
    found = _HOST.fullmatch(host) if len(host) < _LONGEST_HOST else None
    if found is None:
        return False
    name = found[1].decode().lower()
    return name == "localhost" or name.endswith(".localhost") or is_local_address(name.strip("[]"))


def request_id(headers: RawHeaders) -> str:
    """The caller's own id where it is sane, else a new one. Never raises, and needs no `state`."""
    return next((sane_id(value) for name, value in headers if name == b"x-request-id"), "") or new_id()


def sane_id(given: bytes) -> str:
    """An id that a caller gave, where it may stand in headers and logs; else a new one."""
    return given.decode() if _REQUEST_ID.fullmatch(given) else new_id()


def _bears(headers: RawHeaders, token: bytes) -> bool:
    """Whether there is one `Authorization: Bearer <token>`."""
    given = b""
    for name, value in headers:
        if name == b"authorization":
            if given:
                return False
            given = value
    # The comparison takes the same time wherever the first difference is.
    return given[:7].lower() == b"bearer " and hmac.compare_digest(given[7:].strip(), token)


def _foreign(headers: RawHeaders, method: str, *, proxies: bool) -> ProblemError | None:
    """A refusal of who asks from another site, through another name or, where `proxies` matter, through one of them."""
    host = origin = site = None
    for name, value in headers:
        if name == b"host":
            if host is not None:
                return _misdirected()
            host = value
        elif name == b"origin":
            origin = value
        elif name == b"sec-fetch-site":
            site = value
        elif proxies and name in _PROXIES:
            return _unmanageable()
    if host is None or not is_local_name(host):
        return _misdirected()
    if method in READING or (origin is None and site is None):
        return None
    # Where both are there, both must agree: a page cannot forge either.
    same = (site is None or site in _OWN_PAGES) and (origin is None or _authority(origin) == host.lower())
    return None if same else _cross_site()


def _authority(origin: bytes) -> bytes:
    """`localhost:8000` of `http://localhost:8000`; nothing of `null`."""
    scheme, _, authority = origin.lower().partition(b"://")
    return authority if scheme in (b"http", b"https") else b""


def _proxied(headers: RawHeaders) -> bool:
    return any(name in _PROXIES for name, _ in headers)


def _peer_address(peer: str) -> str:
    """`127.0.0.1` of `ipv4:127.0.0.1:5000`, `::1` of `ipv6:%5B::1%5D:5000`; nothing of other kinds."""
    kind, _, rest = unquote(peer).partition(":")
    return rest.rpartition(":")[0].strip("[]") if kind in ("ipv4", "ipv6") else ""


def _unauthorized() -> ProblemError:
    return ProblemError(
        UNAUTHORIZED, "send it as Authorization: Bearer <token>", headers={"www-authenticate": "Bearer"}
    )


def _misdirected() -> ProblemError:
    return ProblemError(MISDIRECTED, "ask for localhost, 127.0.0.1 or [::1]; other names need a server with a token")


def _cross_site() -> ProblemError:
    return ProblemError(FORBIDDEN, "a page of another origin may not ask this server; let its own server ask")


def _unmanageable() -> ProblemError:
    return ProblemError(
        FORBIDDEN, "what manages this server needs a token, or a caller on this machine without a proxy"
    )
