"""`shipworthy serve`: packages over HTTP and gRPC."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ..errors import ServeError
from ..monitor.options import RATE
from .monitor_options import (
    Baseline,
    Keep,
    Nodes,
    OneIn,
    Rate,
    RunLength,
    SecretFile,
    StatesPlace,
    WebhookUrls,
    WindowRate,
    watched,
)
from .registry_option import RegistryUrl

if TYPE_CHECKING:
    from ..server.hosting import Serving
    from ..server.sockets import Tls

NAME = "serve"


class LogFormat(StrEnum):
    text = "text"
    json = "json"


Packages = Annotated[
    list[str] | None,
    typer.Argument(
        metavar="[PACKAGE]...",
        help="Folders, .ship files, or names in the registry: digits@champion follows that alias, digits:3 stays.",
    ),
]
Repository = Annotated[
    Path | None, typer.Option(help="A folder of packages: all are served, and later ones can be loaded by name.")
]
GrpcPort = Annotated[
    int | None,
    typer.Option(help="Port of gRPC (Open Inference Protocol); off by default, 0 takes a free one.", min=0, max=65535),
]
TargetMs = Annotated[
    int | None,
    typer.Option(help="Milliseconds in which to answer; default: the contract's limits.p99_ms, or 50.", min=1),
]


MaxWaiting = Annotated[
    int, typer.Option(help="Requests of one model that may be under way; more are refused with 503.", min=1)
]
NoAuth = Annotated[bool, typer.Option("--no-auth", help="Bind another address than loopback without a token.")]
OtelEndpoint = Annotated[
    str | None, typer.Option(help="Send traces there by OTLP, such as http://localhost:4318/v1/traces.")
]
AllowCode = Annotated[
    bool, typer.Option("--allow-code", help="Serve variants that carry executable code (TorchScript, AOTInductor).")
]


def command(
    packages: Packages = None,
    registry: RegistryUrl = None,
    repository: Repository = None,
    host: Annotated[str, typer.Option(help="Address to bind.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(help="Port to bind; 0 takes a free one.", min=0, max=65535)] = 8000,
    grpc_port: GrpcPort = None,
    workers: Annotated[int, typer.Option(help="Processes that answer; one that dies is replaced.", min=1)] = 1,
    target_ms: TargetMs = None,
    max_body_mb: Annotated[int, typer.Option(help="Largest body of a request, in MiB.", min=1)] = 32,
    max_waiting: MaxWaiting = 1024,
    token_file: Annotated[Path | None, typer.Option(help="File with the token that callers must send.")] = None,
    no_auth: NoAuth = False,
    tls_cert: Annotated[Path | None, typer.Option(help="Certificate with its chain (PEM): serve HTTPS.")] = None,
    tls_key: Annotated[Path | None, typer.Option(help="Key of the certificate (PEM).")] = None,
    log_format: Annotated[LogFormat, typer.Option(help="Of the log, on standard error.")] = LogFormat.text,
    access_log: Annotated[bool, typer.Option("--access-log", help="Log every request.")] = False,
    otel_endpoint: OtelEndpoint = None,
    allow_code: AllowCode = False,
    no_monitor: Annotated[bool, typer.Option("--no-monitor", help="Watch nothing of what is answered.")] = False,
    monitor_rate: Rate = RATE,
    monitor_one_in: OneIn = 1,
    monitor_keep: Keep = 200,
    monitor_baseline: Baseline = 0,
    monitor_place: StatesPlace = None,
    monitor_nodes: Nodes = 1,
    monitor_run_length: RunLength = 1e6,
    monitor_window_rate: WindowRate = 0.001,
    monitor_webhook: WebhookUrls = None,
    monitor_webhook_secret_file: SecretFile = None,
) -> None:
    """Serve packages over HTTP; loopback unless told otherwise. SIGTERM drains, SIGHUP loads packages anew."""
    from ..compose import serve
    from ..registry.names import is_path
    from ..server import Settings
    from ..server.plan import Logs

    named = packages or []
    _check_named(named, repository)
    promise = monitor_nodes, monitor_run_length, monitor_window_rate
    hooks = monitor_webhook, monitor_webhook_secret_file
    chosen = watched(monitor_rate, monitor_one_in, promise, hooks, monitor_place)
    serve(
        [one for one in named if is_path(one)],
        names=[one for one in named if not is_path(one)],
        registry=registry,
        repository=repository,
        host=host,
        port=port,
        grpc_port=grpc_port,
        workers=workers,
        settings=Settings(target_ms=target_ms, max_body_bytes=max_body_mb * 2**20, max_waiting=max_waiting),
        token_file=token_file,
        no_auth=no_auth,
        tls=_tls(tls_cert, tls_key),
        logs=Logs(log_format.value, access_log, otel_endpoint),
        allow_code=allow_code,
        on_ready=_tell,
        monitor=None if no_monitor else replace(chosen, baseline=monitor_baseline, keep=monitor_keep),
    )


def _check_named(named: Sequence[str], repository: Path | None) -> None:
    if not named and repository is None:
        raise ServeError("server", "has no model", "name at least one package, or a --repository")


def _tls(cert: Path | None, key: Path | None) -> Tls | None:
    from ..server.sockets import Tls

    if cert is None and key is None:
        return None
    if cert is None or key is None:
        given, missing = ("--tls-key", "--tls-cert") if cert is None else ("--tls-cert", "--tls-key")
        raise ServeError(given, f"was given without {missing}", "give both")
    return Tls(str(cert), str(key))


def _tell(server: Serving) -> None:
    """What is served, by which variant and why not by a preferred one, and where to look."""
    for served in server.served:
        for variant, reason in served.passed_over:
            typer.echo(f"{served.model}: {variant} is passed over: {reason}")
        for note in served.notes:
            typer.echo(f"{served.model}: {note}")
        typer.echo(f"{served.model}: served by {served.variant}, version {served.version}")
    if server.grpc_address is not None:
        typer.echo(f"gRPC: {server.grpc_address}")
    typer.echo(f"ready: {server.url} (try {server.url}/docs)")
