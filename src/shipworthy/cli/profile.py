"""`shipworthy profile`: where one run of a model spends its time and memory."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

NAME = "profile"

_NARROW = 80
_WIDE = 120


def command(
    subject: Annotated[
        Path, typer.Argument(metavar="[CONTRACT|PACKAGE]", help="The contract, or a package: a folder or .ship file.")
    ] = Path("shipworthy.toml"),
    batch: Annotated[int | None, typer.Option(help="Samples of a run. Default: 8 where that fits.")] = None,
    steps: Annotated[int, typer.Option(help="Runs under the profiler.", min=1)] = 10,
    device: Annotated[str | None, typer.Option(help="cpu or cuda. Default: the contract's target.")] = None,
    engines: Annotated[
        str | None, typer.Option(help="Engines to time, such as openvino,onnxruntime, or none. Default: all that tell.")
    ] = None,
    trace: Annotated[Path | None, typer.Option(help="Write a Chrome trace here.")] = None,
    html: Annotated[Path | None, typer.Option(help="Write a page with a flame picture here.")] = None,
    as_json: Annotated[Path | None, typer.Option("--json", help="Write everything as JSON here.")] = None,
    top: Annotated[int, typer.Option(help="Rows of each table.", min=1)] = 10,
    mend: Annotated[bool, typer.Option("--mend", help="Take known prefixes off the keys of the weights.")] = False,
) -> None:
    """Show the operators, modules and regions that take the time in PyTorch, and what the engines spend theirs on."""
    from rich.console import Console

    from ..profiling import profile
    from .places import check_file

    for place in filter(None, (trace, html, as_json)):
        check_file(place)
    report = profile(
        subject,
        batch=batch,
        steps=steps,
        device=device,
        engines=_listed(engines),
        trace=trace,
        mend=mend,
    )
    console = Console()
    console.width = min(max(console.width, _NARROW), _WIDE)
    console.print(report.table(top))
    if html is not None:
        html.write_text(report.html(), encoding="utf-8")
    if as_json is not None:
        as_json.write_text(report.json(), encoding="utf-8")
    for place in filter(None, (trace, html, as_json)):
        typer.echo(f"wrote {place}")


def _listed(engines: str | None) -> list[str] | None:
    if engines is None:
        return None
    named = [name.strip() for name in engines.split(",") if name.strip()]
    return [] if named == ["none"] else named
