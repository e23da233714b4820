"""`shipworthy serve`: a package over HTTP."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

NAME = "serve"


def command(
    packages: Annotated[list[Path], typer.Argument(help="Packages: folders or .ship files.")],
    host: Annotated[str, typer.Option(help="Address to bind.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(help="Port to bind; 0 takes a free one.", min=0, max=65535)] = 8000,
    allow_code: Annotated[
        bool, typer.Option("--allow-code", help="Serve variants that carry executable code (TorchScript, AOTInductor).")
    ] = False,
    token_file: Annotated[Path | None, typer.Option(help="File with the token that callers must send.")] = None,
    no_auth: Annotated[
        bool, typer.Option("--no-auth", help="Bind another address than loopback without a token.")
    ] = False,
) -> None:
    """Serve packages over HTTP; loopback unless told otherwise."""
    from ..server import serve
    from .show import print_served

    serve(
        packages,
        host=host,
        port=port,
        allow_code=allow_code,
        token_file=token_file,
        no_auth=no_auth,
        on_ready=print_served,
    )
