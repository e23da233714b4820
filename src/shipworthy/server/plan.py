"""What is to be served, and how: all that a process needs to know before it begins."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from ..errors import ServeError
from .settings import Settings
from .sockets import Tls

WORKER = "shipworthy.server.worker"
"""The module that is run as a worker process."""


@dataclass(frozen=True, slots=True)
class Logs:
    """What a server says of its work."""

    format: Literal["text", "json"] = "text"
    """Of the lines on standard error."""
    access: bool = False
    """Whether every request has a line."""
    otel_endpoint: str | None = None
    """Where traces are sent, such as http://localhost:4318/v1/traces."""

    def __post_init__(self) -> None:
        if self.format not in ("text", "json"):
            raise ServeError("log format", f"is {self.format!r}", "choose text or json")
        if self.otel_endpoint is not None and not self.otel_endpoint.startswith(("http://", "https://")):
            reason, remedy = f"is {self.otel_endpoint!r}", "give an address such as http://localhost:4318/v1/traces"
            raise ServeError("OpenTelemetry endpoint", reason, remedy)


@dataclass(frozen=True, slots=True)
class Share:
    """The part of a server that one of its worker processes is."""

    slot: int
    """Its number, from 0; the worker that replaces it has the same."""
    workers: int
    counters: str
    """The folder in which every worker keeps its counters."""
    models: tuple[str, ...] | None = None
    """The names that are served by now; None for those of all packages."""


@dataclass(frozen=True, slots=True)
class Monitoring:
    """How the processes of a server have their answers watched: another process does that."""

    folder: str
    """Where they meet it."""
    rate: int
    """Rows a second and model that they choose, all of them together."""
    one_in: int = 1
    """They choose at most one in so many."""
    baseline: bool = False
    """Whether a version without a reference is watched too, because its first rows become one."""


@dataclass(frozen=True, slots=True)
class Plan:
    """What a server process serves, to whom, and within which bounds."""

    packages: tuple[str, ...]
    """Folders or `.ship` files."""
    repository: str | None = None
    """A folder of packages."""
    names: tuple[str, ...] = ()
    """Models of the registry, such as digits@champion."""
    registry: str | None = None
    """Where the registry is; None where the server has none."""
    allow_code: bool = False
    token: str | None = field(default=None, repr=False)
    loopback: bool = True
    """Whether the address is one that only this machine reaches."""
    tls: Tls | None = None
    grpc: str | None = None
    """The address, host:port, of the gRPC server; None for none."""
    settings: Settings = field(default_factory=Settings)
    logs: Logs = field(default_factory=Logs)
    monitoring: Monitoring | None = None
    """None where nothing is watched."""
    share: Share | None = None
    """None where one process is the whole server."""


@dataclass(frozen=True, slots=True)
class Served:
    """A version of a model as it is served, in the words for its operator."""

    model: str
    version: str
    variant: str
    engine: str
    """What runs it."""
    passed_over: tuple[tuple[str, str], ...] = ()
    """Id and reason of each variant that was preferred, and could not or may not be used."""
    notes: tuple[str, ...] = ()
    """What callers cannot send, and why."""
