"""`shipworthy mlflow push|pull`: versions to and from an MLflow server."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Annotated

import typer

from .registry_option import AsJson, RegistryUrl, opened

if TYPE_CHECKING:
    from ..registry.mlflow_models import Pulled, Pushed

NAME = "mlflow"

verbs = typer.Typer(no_args_is_help=True, help="Exchange versions with an MLflow server.")

_VARIABLE = "MLFLOW_TRACKING_URI"


@verbs.command("push")
def push(
    name: Annotated[str, typer.Argument(help="digits (its champion), digits@ALIAS or digits:NUMBER.")],
    to: Annotated[str, typer.Option(envvar=_VARIABLE, help="Address of the MLflow server.")],
    model: Annotated[str | None, typer.Option("--as", help="Name of the model there. Default: the same.")] = None,
    experiment: Annotated[
        str | None, typer.Option(help="That the run with the evidence belongs to. Default: the model's name.")
    ] = None,
    aliases: Annotated[bool, typer.Option(help="Let the version's aliases name it there too.")] = True,
    registry: RegistryUrl = None,
    as_json: AsJson = False,
) -> None:
    """Register a version as an MLflow model version, with its evidence, its report and its aliases."""
    from ..registry.mlflow_models import push

    with opened(registry) as opened_registry:
        pushed = push(opened_registry, name, to=to, model=model, experiment=experiment, aliases=aliases)
    _print_pushed(pushed, as_json)


@verbs.command("pull")
def pull(
    uri: Annotated[str, typer.Argument(help="models:/digits/3, models:/digits@champion or runs:/RUN_ID/path.")],
    source: Annotated[str, typer.Option("--from", envvar=_VARIABLE, help="Address of the MLflow server.")],
    aliases: Annotated[bool, typer.Option(help="Let the aliases that name it there name it here too.")] = False,
    registry: RegistryUrl = None,
    as_json: AsJson = False,
) -> None:
    """Register a package that lies on an MLflow server. Pickles are refused, and never opened."""
    from ..registry.mlflow_models import enter, fetch

    # A registry that is not there is made for a package, and not for a mistyped name.
    with fetch(uri, source=source, aliases=aliases) as fetched, opened(registry, create=True) as opened_registry:
        pulled = enter(opened_registry, fetched)
    _print_pulled(pulled, as_json)


def _print_pushed(pushed: Pushed, as_json: bool) -> None:
    if pushed.skipped:
        skipped = " and ".join(pushed.skipped)
        typer.echo(f"left out, because MLflow cannot have such an alias: {skipped}", err=True)
    if as_json:
        out = {
            "name": pushed.version.name,
            "uri": pushed.uri,
            "run_id": pushed.run_id,
            "created": pushed.created,
            "aliases": pushed.aliases,
            "skipped": pushed.skipped,
        }
        typer.echo(json.dumps(out, indent=2))
        return
    done = "is now" if pushed.created else "was there already as"
    aliases = f"; now named by {' and '.join(pushed.aliases)}" if pushed.aliases else ""
    typer.echo(f"{pushed.version.name} {done} {pushed.uri}{aliases}")


def _print_pulled(pulled: Pulled, as_json: bool) -> None:
    moved = [event.alias for event in pulled.moved]
    if pulled.skipped:
        skipped = " and ".join(pulled.skipped)
        typer.echo(f"left out, because a registry cannot have such an alias: {skipped}", err=True)
    if as_json:
        out = {
            "name": pulled.version.name,
            "uri": pulled.source.uri,
            "run_id": pulled.source.run_id,
            "created": pulled.created,
            "aliases": moved,
            "skipped": pulled.skipped,
        }
        typer.echo(json.dumps(out, indent=2))
        return
    done = "is now" if pulled.created else "was here already as"
    aliases = f"; now named by {' and '.join(map(str, moved))}" if moved else ""
    typer.echo(f"{pulled.source.uri} {done} {pulled.version.name}{aliases}")
