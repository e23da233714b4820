"""`shipworthy init`: write a first contract by running the model."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from ..errors import ContractError

NAME = "init"


def command(
    model: Annotated[str, typer.Argument(help="module:callable that returns the model, or a .pt2, .pt or .onnx file.")],
    example: Annotated[str, typer.Option(help="module:callable that returns an example input, or an .npz file.")],
    name: Annotated[str | None, typer.Option(help="Name of the model; default: the module's or file's.")] = None,
    out: Annotated[Path, typer.Option(help="The contract to write.")] = Path("shipworthy.toml"),
    force: Annotated[bool, typer.Option("--force", help="Overwrite an existing contract.")] = False,
) -> None:
    """Write a first contract by running the model on an example."""
    from ..model.draft import draft_contract
    from .places import check_place

    if out.exists() and not force:
        raise ContractError(str(out), "exists already", "give another --out, or --force to overwrite it")
    check_place(out)
    draft = draft_contract(model, example, out.parent.resolve(), name)
    out.write_text(draft.toml, encoding="utf-8")
    for note in draft.notes:
        typer.echo(f"note: {note}")
    typer.echo(f"wrote {out}; next: shipworthy check {out}")
