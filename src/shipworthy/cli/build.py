"""`shipworthy build`: export to every engine, measure, choose, pack."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

NAME = "build"

NOTHING_CHOSEN = 3


def command(
    contract: Annotated[Path, typer.Argument(help="The contract.")] = Path("shipworthy.toml"),
    out: Annotated[
        Path | None,
        typer.Option(help="Package to write: a folder, or one file that ends in .ship. Default: NAME.ship."),
    ] = None,
    engine: Annotated[list[str] | None, typer.Option(help="Only this engine (may be given again).")] = None,
    budget: Annotated[
        str | None, typer.Option(help="Time for the whole build, such as 90s, 10min or 1h, instead of the contract's.")
    ] = None,
    work: Annotated[Path | None, typer.Option(help="Where results are kept, so that a killed build resumes.")] = None,
    report: Annotated[Path | None, typer.Option(help="Also write the HTML report here.")] = None,
    mend: Annotated[bool, typer.Option("--mend", help="Take known prefixes off the keys of the weights.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print the whole record as JSON.")] = False,
    quiet: Annotated[bool, typer.Option("--quiet", help="No progress bars.")] = False,
) -> None:
    """Export to every engine, measure each, choose the best, and pack it with its proof."""
    from rich.console import Console

    from ..contract import read_contract
    from ..select import build
    from .places import check_file, check_place

    spec = read_contract(contract)
    out = out or contract.parent / f"{spec.name}.ship"
    check_place(out)
    if report is not None:
        check_file(report)
    built = build(spec, work=work, engines=engine or None, mend=mend, budget=budget, progress=not quiet)
    path = None if built.best is None else built.best.save(out)
    if report is not None:
        report.write_text(built.html(), encoding="utf-8")
    if as_json:
        typer.echo(built.json())
    else:
        Console().print(built.table())
        typer.echo(built.record.why)
    if path is None:
        raise typer.Exit(NOTHING_CHOSEN)
    typer.echo(f"wrote {path}; next: shipworthy serve {path}", err=as_json)
