"""`shipworthy doctor`: what this machine can do, and what is missing for what."""

from __future__ import annotations

import json
from typing import Annotated

import typer

NAME = "doctor"


def command(as_json: Annotated[bool, typer.Option("--json", help="Print as JSON.")] = False) -> None:
    """Say which engines, instruction sets, devices and extras this machine has, and what is missing for what."""
    from ..doctor import examine
    from .show import print_examination

    examination = examine()
    if as_json:
        typer.echo(json.dumps(examination.as_dict(), indent=2))
    else:
        print_examination(examination)
