"""`shipworthy push`: a package becomes the next version of its model."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from ..errors import RegistryError
from .registry_option import AsJson, RegistryUrl, Why, opened

NAME = "push"


def command(
    package: Annotated[Path, typer.Argument(help="A package: a folder or a .ship file.")],
    alias: Annotated[
        list[str] | None,
        typer.Option(
            help="Let this alias, such as champion, name the new version, whatever it named before: "
            "where that matters, promote it afterwards (may be given again)."
        ),
    ] = None,
    tag: Annotated[list[str] | None, typer.Option(help="key=value to keep with it (may be given again).")] = None,
    why: Why = "",
    parent: Annotated[int | None, typer.Option(help="Number of the version that it was made from.", min=1)] = None,
    artifacts: Annotated[
        str | None,
        typer.Option(help="Where a new registry keeps files: a folder or s3://bucket/prefix. Later it is remembered."),
    ] = None,
    registry: RegistryUrl = None,
    as_json: AsJson = False,
) -> None:
    """Audit a package and register it as the next version of the model that its manifest names."""
    from ..package import read_package
    from ..registry.names import check_alias
    from ..registry.words import check_tags, check_text
    from .registry_show import print_pushed, version_data

    # What is wrong with the package or with the words must not leave a registry behind, with its place settled.
    tags = check_tags(_tags(tag or []))
    said = check_text("why", why)
    aliases = [check_alias(name) for name in alias or []]
    with (
        read_package(package) as audited,
        opened(registry, create=True, artifacts=artifacts) as opened_registry,
    ):
        version = opened_registry.register(audited, aliases=aliases, tags=tags, parent=parent, why=said)
    if as_json:
        typer.echo(json.dumps(version_data(version), indent=2))
    else:
        print_pushed(version)


def _tags(texts: list[str]) -> dict[str, str]:
    tags: dict[str, str] = {}
    for key, value in map(_pair, texts):
        if key in tags:
            raise RegistryError(f"--tag {key}", "is given twice", "leave one of them out")
        tags[key] = value
    return tags


def _pair(text: str) -> tuple[str, str]:
    key, equals, value = text.partition("=")
    if not (key and equals):
        raise RegistryError(f"--tag {text!r}", "is no key=value", "write it as --tag data=2026-11")
    return key, value
