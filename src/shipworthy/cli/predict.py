"""`shipworthy predict`: one answer without a server."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Annotated

import typer

from ..errors import InputError, Problem
from .registry_option import PackageName, RegistryUrl

NAME = "predict"


def command(
    package: PackageName,
    source: Annotated[str, typer.Argument(help="JSON, a .json file, an image file, or - for JSON on standard input.")],
    allow_code: Annotated[
        bool, typer.Option("--allow-code", help="Also load variants that carry executable code.")
    ] = False,
    digits: Annotated[int | None, typer.Option("--round", help="Round the numbers to so many digits.", min=0)] = None,
    registry: RegistryUrl = None,
) -> None:
    """Answer one instance or many ({"instances": [...]}) from the command line."""
    from ..predict import load
    from ..registry import locate

    with load(locate(package, registry), allow_code=allow_code) as predictor:
        image = None if source == "-" or source.lstrip()[:1] in "{[" else Path(source)
        if image is not None and image.suffix != ".json":
            answer = predictor.predict_image(_read(image), round=digits)
        else:
            answer = predictor.predict(_json(source, image), round=digits)
    typer.echo(json.dumps(answer, indent=2))


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise InputError([Problem(0, str(path), f"cannot be read: {error.strerror}")]) from None


def _json(source: str, path: Path | None) -> object:
    text = (
        sys.stdin.buffer.read().decode("utf-8", "replace")
        if source == "-"
        else source
        if path is None
        else _read(path).decode("utf-8", "replace")
    )
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        raise InputError([Problem(0, str(path or "input"), f"is no JSON: {error}")]) from None
