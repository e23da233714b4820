"""The address of a server, its listening sockets, and what guards it: a token, a certificate."""

from __future__ import annotations

import ctypes
import errno
import ipaddress
import resource
import socket
import struct
import sys
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from ..errors import ServeError

if TYPE_CHECKING:
    import ssl

BACKLOG = 2048

SPREADS = sys.platform.startswith("linux")
"""Whether several sockets of one address share its connections evenly (SO_REUSEPORT does so on Linux only)."""

_ATTACH_FILTER = 26
"""SO_ATTACH_FILTER of linux/asm-generic/socket.h."""
_NO_NEW_CONNECTIONS = (
    (0x30, 0, 0, 13),  # load the byte with the flags of the TCP header
    (0x45, 0, 1, 0x02),  # SYN?
    (0x06, 0, 0, 0),  # drop it
    (0x06, 0, 0, 0xFFFF),  # else let it pass
)
"""A program of the classic Berkeley packet filter (linux/filter.h): code, jump if true, jump if false, value."""


@dataclass(frozen=True, slots=True)
class Tls:
    """The PEM files of a certificate, with the chain behind it, and of its key."""

    cert: str
    key: str

    def check(self) -> None:
        """Raises ServeError where the two cannot be used."""
        import ssl

        for file in (self.cert, self.key):
            try:
                Path(file).read_bytes()
            except OSError as error:
                remedy = "name the PEM files of the certificate and of its key"
                raise ServeError(f"TLS file {file}", f"cannot be read: {error.strerror}", remedy) from None
        try:
            self.context()
        except (ssl.SSLError, ValueError) as error:
            remedy = "give a certificate and the key that belongs to it, as PEM and without a password"
            raise ServeError(f"TLS files {self.cert} and {self.key}", f"do not fit: {error}", remedy) from None

    def context(self) -> ssl.SSLContext:
        """For TLS 1.2 and later."""
        import ssl

        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        # A key with a password would make the server wait at a terminal that nobody watches.
        context.load_cert_chain(self.cert, self.key, password=lambda: "")
        return context


def bind(host: str, port: int) -> socket.socket:
    """A listening socket; ServeError where the address cannot be had."""
    return bind_all(host, port, 1)[0]


def bind_all(host: str, port: int, count: int) -> list[socket.socket]:
    """Listening sockets of one address, of which the kernel gives each its share of the connections.

    Where it cannot, they are one socket, `count` times. ServeError where the address cannot be had."""
    first = reserve(host, port)
    try:
        if count == 1:
            first.listen(BACKLOG)
            return [first]
        if not SPREADS:
            first.listen(BACKLOG)
            return [first, *(first.dup() for _ in range(count - 1))]
        # Only now, so that the address is not shared with another server that is there already.
        share(first)
        sockets = [first, *(beside(first) for _ in range(count - 1))]
        for one in sockets:
            one.listen(BACKLOG)
    except OSError as error:
        first.close()
        reason, remedy = _refusal(error)
        raise ServeError(f"address {host}:{port}", reason, remedy) from error
    return sockets


def reserve(host: str, port: int) -> socket.socket:
    """A socket that has the address and does not listen; ServeError where the address cannot be had."""
    taken = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET, socket.SOCK_STREAM)
    try:
        taken.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if taken.family == socket.AF_INET6:
            taken.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        taken.bind((host, port))
    except (OSError, OverflowError) as error:
        taken.close()
        reason, remedy = _refusal(error)
        raise ServeError(f"address {host}:{port}", reason, remedy) from error
    return taken


def share(taken: socket.socket) -> None:
    """Let other sockets of this user bind the same address from now on."""
    taken.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)


def beside(bound: socket.socket) -> socket.socket:
    """Another socket of the same, shared address, which does not listen yet."""
    another = socket.socket(bound.family, socket.SOCK_STREAM)
    try:
        another.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if another.family == socket.AF_INET6:
            another.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        share(another)
        another.bind(bound.getsockname()[:2])
    except OSError:
        another.close()
        raise
    return another


def let_no_more_in(listening: socket.socket) -> bool:
    """Drop what would begin another connection, and go on with those that have begun. False where it cannot be.

    A socket that is closed resets the connections that nobody has taken from it yet; behind this filter there are none
    left after a moment. Who comes later tries again, by TCP's own rules, and is then refused."""
    if not SPREADS:
        return False
    program = ctypes.create_string_buffer(b"".join(struct.pack("HBBI", *line) for line in _NO_NEW_CONNECTIONS))
    described = struct.pack("HL", len(_NO_NEW_CONNECTIONS), ctypes.addressof(program))
    try:
        listening.setsockopt(socket.SOL_SOCKET, _ATTACH_FILTER, described)
    # A container's own rules, or a kernel that is none (gVisor), may not have it.
    except OSError:
        return False
    return True


def url(host: str, listening: socket.socket, *, scheme: str = "http") -> str:
    return f"{scheme}://{address(host, listening)}"


def address(host: str, bound: socket.socket) -> str:
    """Host and port, as a URL has them."""
    port = bound.getsockname()[1]
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


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


def allow_many_files() -> None:
    """Raise this process's limit of open files, of which each connection is one, to the most that it may have."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    # macOS names no limit, and then refuses that very number.
    with suppress(ValueError, OSError):
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


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
