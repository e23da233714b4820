"""`shipworthy inspect`: what a graph or a package says of itself."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from .registry_option import RegistryUrl

NAME = "inspect"

_GRAPHS = (".onnx", ".xml", ".pt", ".pt2")


def command(
    source: Annotated[
        str, typer.Argument(help="A package, a name in the registry, or a .onnx, .xml, .pt or .pt2 file.")
    ],
    graph: Annotated[bool, typer.Option("--graph", help="Also print the graph as text.")] = False,
    registry: RegistryUrl = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print as JSON.")] = False,
) -> None:
    """List inputs and outputs (name, dtype, shape), variants and evidence of a file or package."""
    from ..registry import locate
    from .show import print_description, print_package

    path = Path(source) if Path(source).suffix in _GRAPHS else locate(source, registry)
    if path.is_dir() or path.suffix == ".ship":
        from ..package import read_package

        with read_package(path) as package:
            print_package(package, graph=graph, as_json=as_json)
        return
    from ..runtime import describe

    print_description(describe(path), graph=graph, as_json=as_json)
