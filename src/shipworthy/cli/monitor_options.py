"""How `shipworthy serve` is told to watch what it answers."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, TypeAlias

import typer

from ..errors import MonitorError
from ..monitor.options import MonitorOptions

Rate: TypeAlias = Annotated[
    int, typer.Option(help="So many randomly chosen rows a second and model are scored, at most.", min=1, max=100_000)
]
OneIn: TypeAlias = Annotated[
    int,
    typer.Option(help="Score at most one in so many rows, where neighbours resemble each other.", min=1, max=1_000_000),
]
Keep: TypeAlias = Annotated[
    int,
    typer.Option(help="Samples of each version that are kept; 0 keeps nothing of what is asked.", min=0, max=100_000),
]
Baseline: TypeAlias = Annotated[
    int,
    typer.Option(
        help="Take so many of the first requests as the reference, at least 32; 0 takes the package's.",
        min=0,
        max=1_000_000,
    ),
]
StatesPlace: TypeAlias = Annotated[
    str | None,
    typer.Option(
        help="Folder or URL where the monitor remembers what it saw; default: beside the registry's files, and for "
        "packages a private folder that goes with the server."
    ),
]
Nodes: TypeAlias = Annotated[
    int, typer.Option(help="Servers that watch the same version, and share the promise.", min=1, max=10_000)
]
RunLength: TypeAlias = Annotated[
    float,
    typer.Option(
        help="Scored requests until a false alarm of the sequential detector, on average, at least.", min=1e2, max=1e12
    ),
]
WindowRate: TypeAlias = Annotated[
    float,
    typer.Option(help="Probability of a false alarm for each window of 500 scored requests.", min=1e-6, max=0.1),
]
WebhookUrls: TypeAlias = Annotated[
    list[str] | None, typer.Option(help="Where alarms are sent; may be given several times.", metavar="URL")
]
SecretFile: TypeAlias = Annotated[
    Path | None, typer.Option(help="File with the secret that signs what is sent to webhooks.")
]
LONGEST_SECRET = 4096
"""Bytes."""


def watched(
    rate: int,
    one_in: int,
    promise: tuple[int, float, float],
    hooks: tuple[Sequence[str] | None, Path | None],
    place: str | None,
) -> MonitorOptions:
    """`promise`: nodes, run length and rate of false windows; `hooks`: addresses, and the file with their secret. The
    other options are as usual. Raises MonitorError where
    these cannot be meant together."""
    webhooks, secret_file = hooks
    if secret_file is not None and not webhooks:
        raise MonitorError(
            "--monitor-webhook-secret-file", "was given without an address", "give --monitor-webhook too"
        )
    nodes, run_length, window_rate = promise
    return MonitorOptions(
        rate=rate,
        one_in=one_in,
        place=place,
        nodes=nodes,
        run_length=run_length,
        window_rate=window_rate,
        webhooks=tuple(webhooks or ()),
        webhook_secret=None if secret_file is None else _secret(secret_file),
    )


def _secret(path: Path) -> str:
    try:
        with path.open("rb") as file:
            secret = file.read(LONGEST_SECRET + 1).decode().strip()
    except (OSError, UnicodeDecodeError) as error:
        raise MonitorError(str(path), f"cannot be read: {error}", "give a text file that this user may read") from None
    if not secret or len(secret) > LONGEST_SECRET:
        remedy = "make one with: python -c 'import secrets; print(secrets.token_urlsafe(32))'"
        raise MonitorError(str(path), "holds no secret" if not secret else "is too long for a secret", remedy)
    return secret
