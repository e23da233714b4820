"""What a server has before it loads anything: its plan, and the sockets of its address."""

from __future__ import annotations

import importlib.util
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, TypedDict

from ..errors import MissingExtra, ServeError
from .plan import Logs, Monitoring, Plan
from .settings import Settings
from .sockets import SPREADS, Tls, address, bind_all, is_loopback, read_token, reserve, share, url

if TYPE_CHECKING:
    from socket import socket


class Options(TypedDict, total=False):
    """What may be said of a server besides its packages."""

    host: str
    """The address to bind; by default 127.0.0.1, which only this machine reaches. Another one needs `token_file`, or
    `no_auth`."""
    port: int
    """By default 8000; 0 takes a free one."""
    repository: str | Path | None
    """A folder whose entries are packages, which are served too, and among which `load` finds new ones."""
    names: Sequence[str]
    """Models of the registry, such as digits@champion, whose aliases are followed."""
    registry: str | None
    """Where the registry is."""
    allow_code: bool
    """Whether variants that carry executable code may be served."""
    token_file: str | Path | None
    """A file with the token that callers must send as `Authorization: Bearer <token>`."""
    no_auth: bool
    """Whether another address than loopback may be bound without a token."""
    tls: Tls | None
    """The certificate and its key, for HTTPS and gRPC."""
    grpc_port: int | None
    """The port of the Open Inference Protocol over gRPC; 0 takes a free one. By default there is none."""
    settings: Settings | None
    """Bounds of what the server takes on."""
    logs: Logs | None
    """What it says of its work."""
    monitoring: Monitoring | None
    """How its answers are watched; `compose` gives that."""


class Binding:
    """What a server has before it loads anything: its plan, the sockets of its address, and that of gRPC."""

    def __init__(self, packages: str | Path | Sequence[str | Path], workers: int, given: Options) -> None:
        """Raises ServeError where the address cannot be bound, may not be without a token, or a file is unusable."""
        host, port, tls = given.get("host", "127.0.0.1"), given.get("port", 8000), given.get("tls")
        file, repository = given.get("token_file"), given.get("repository")
        token = read_token(file) if file is not None else None
        if token is None and not given.get("no_auth", False) and not is_loopback(host):
            raise ServeError(
                f"host {host}",
                "can be reached by others, and no token is set",
                "give token_file, or no_auth to serve anybody",
            )
        if tls is not None:
            tls.check()
        logs = given.get("logs") or Logs()
        _check_extras(grpc=given.get("grpc_port") is not None, otel=logs.otel_endpoint is not None)
        named = [packages] if isinstance(packages, str | Path) else packages
        with ExitStack() as bound:
            self.sockets = [bound.enter_context(one) for one in bind_all(host, port, workers)]
            self.grpc = _grpc_socket(host, given.get("grpc_port"), workers)
            bound.pop_all()
        self.url = url(host, self.sockets[0], scheme="http" if tls is None else "https")
        self.grpc_address = address(host or "0.0.0.0", self.grpc) if self.grpc is not None else None
        if self.grpc is not None and not SPREADS:
            # Here an address has one socket only, which will be that of gRPC.
            self.grpc.close()
        self.plan = Plan(
            packages=tuple(map(str, named)),
            repository=str(repository) if repository is not None else None,
            names=tuple(given.get("names", ())),
            registry=given.get("registry"),
            allow_code=given.get("allow_code", False),
            token=token,
            loopback=is_loopback(host),
            tls=tls,
            grpc=self.grpc_address,
            settings=given.get("settings") or Settings(),
            logs=logs,
            monitoring=given.get("monitoring"),
        )

    def close(self) -> None:
        for one in (*self.sockets, *([self.grpc] if self.grpc is not None else [])):
            one.close()


def _grpc_socket(host: str, port: int | None, workers: int) -> socket | None:
    """Holds the port of gRPC for the servers that will bind it beside this socket."""
    if port is None:
        return None
    if workers > 1 and not SPREADS:
        raise ServeError("gRPC", "cannot be served by several workers on this system", "serve it with one worker")
    taken = reserve(host, port)
    share(taken)
    return taken


def _check_extras(*, grpc: bool, otel: bool) -> None:
    """Raises MissingExtra now, and not when every package is loaded."""
    needed = ((grpc, "gRPC", "grpc", "grpc"), (otel, "the export of traces", "opentelemetry", "otel"))
    for wanted, use, module, extra in needed:
        if wanted and importlib.util.find_spec(module) is None:
            raise MissingExtra(use, module, extra)
