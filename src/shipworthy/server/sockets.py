"""The address of a server, and the token that guards it."""

from __future__ import annotations

import errno
import ipaddress
import socket
from pathlib import Path

from ..errors import ServeError

BACKLOG = 2048


def bind(host: str, port: int) -> socket.socket:
    """A listening socket; ServeError where the address cannot be had."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        return socket.create_server((host, port), family=family, backlog=BACKLOG)
    except (OSError, OverflowError) as error:
        reason, remedy = _refusal(error)
        raise ServeError(f"address {host}:{port}", reason, remedy) from error


def url(host: str, listening: socket.socket) -> str:
    port = listening.getsockname()[1]
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


def is_loopback(host: str) -> bool:
    """True for an address that only this machine reaches."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def read_token(file: str | Path) -> str:
    """The token in a file, without the white space around it."""
    try:
        token = Path(file).read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError) as error:
        raise ServeError(f"token file {file}", f"cannot be read: {error}", "write the token into it") from error
    if not token:
        raise ServeError(f"token file {file}", "is empty", "write the token into it")
    return token


def _refusal(error: OSError | OverflowError) -> tuple[str, str]:
    code = error.errno if isinstance(error, OSError) else None
    if code == errno.EADDRINUSE:
        return "is in use by another process", "choose another port; 0 takes a free one"
    if code == errno.EACCES:
        return "needs rights that this process does not have", "choose a port above 1023"
    # Names that do not resolve come with the resolver's own codes, which are negative on Linux.
    if code == errno.EADDRNOTAVAIL or isinstance(error, socket.gaierror) or (code is not None and code < 0):
        return "is no address of this machine", "give one, such as 127.0.0.1"
    return f"cannot be bound: {error}", "choose another"
