"""`shipworthy demo`: the whole way on real data."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

NAME = "demo"


def command(
    directory: Annotated[Path, typer.Option(help="Folder for the project that the demo makes.")] = Path(
        "shipworthy-demo"
    ),
    port: Annotated[
        int | None,
        typer.Option(
            help="Port to serve on; 0 takes a free one. [default: 8000, with --once a free one]", min=0, max=65535
        ),
    ] = None,
    once: Annotated[
        bool, typer.Option("--once", help="Stop after the questions, and print one line of JSON last.")
    ] = False,
) -> None:
    """Train a small net on real digits, check, build, pack, serve, and ask it over HTTP."""
    from ..demo import run_demo

    result = run_demo(directory, once=once, port=port if port is not None else 0 if once else 8000)
    if once:
        typer.echo(result.json_line())
