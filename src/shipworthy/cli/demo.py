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
    port: Annotated[int, typer.Option(help="Port to serve on; 0 takes a free one.", min=0, max=65535)] = 8000,
    once: Annotated[
        bool, typer.Option("--once", help="Stop after the questions, and print one line of JSON last.")
    ] = False,
) -> None:
    """Train a small net on real digits, check, build, pack, serve, and ask it over HTTP."""
    from ..demo import run_demo

    result = run_demo(directory, once=once, port=port)
    if once:
        typer.echo(result.json_line())
