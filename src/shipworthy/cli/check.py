"""`shipworthy check`: what goes wrong between notebook and production."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

NAME = "check"

_EXIT = {None: 0, "note": 0, "warning": 1, "error": 2}


def command(
    contract: Annotated[Path, typer.Argument(help="The contract.")] = Path("shipworthy.toml"),
    mend: Annotated[bool, typer.Option("--mend", help="Take known prefixes off the keys of the weights.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print the findings as JSON.")] = False,
) -> None:
    """Check a model before anything is exported. Exit code: 0 clean, 1 warnings, 2 errors."""
    from ..contract import read_contract
    from ..preflight import check_contract
    from .show import print_findings

    report = check_contract(read_contract(contract), mend=mend)
    if as_json:
        typer.echo(report.json())
    else:
        print_findings(report)
    raise typer.Exit(_EXIT[report.worst])
