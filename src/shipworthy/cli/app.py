"""The typer application: the table of verbs, and how an error is shown."""

from __future__ import annotations

from typing import Annotated

import typer
from rich.console import Console
from rich.text import Text

from .. import __version__
from ..errors import InputError, ShipworthyError
from . import (
    build,
    check,
    delete,
    demo,
    details,
    diff,
    doctor,
    feedback,
    gc,
    history,
    init,
    inspect,
    listing,
    mlflow,
    monitor,
    predict,
    profile,
    promote,
    pull,
    push,
    rollback,
    rollout,
    serve,
    verify,
)
from .tables import visible

app = typer.Typer(
    name="shipworthy",
    help="From a trained PyTorch model to a served, proven package.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)

for verb in (init, check, profile, build, inspect, verify, serve, predict, demo, doctor):
    app.command(verb.NAME)(verb.command)
for verb in (push, pull, listing, details, diff, promote, rollback, history, delete, gc):
    app.command(verb.NAME, rich_help_panel="Registry")(verb.command)
app.add_typer(mlflow.verbs, name=mlflow.NAME, rich_help_panel="Registry")
app.add_typer(rollout.verbs, name=rollout.NAME, rich_help_panel="Rollouts")
app.command(feedback.NAME, rich_help_panel="Rollouts")(feedback.command)
app.add_typer(monitor.verbs, name=monitor.NAME, rich_help_panel="Monitoring")


def _version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"shipworthy {__version__}")
        raise typer.Exit


@app.callback()
def root(
    version: Annotated[bool, typer.Option("--version", callback=_version, is_eager=True, help="Show it.")] = False,
) -> None:
    """From a trained PyTorch model to a served, proven package."""


def complain(error: ShipworthyError) -> None:
    """Show an error as culprit and reason, then the remedy; several problems one by one."""
    console = Console(stderr=True, soft_wrap=True)
    if isinstance(error, InputError):
        for problem in error.problems:
            console.print(
                Text.assemble(
                    ("error: ", "bold red"),
                    visible(f"sample {problem.sample_index}, {problem.field}: {problem.reason}"),
                )
            )
        return
    reason = "\n".join(map(visible, error.reason.splitlines()))  # some have several lines, such as those of a parser
    console.print(Text.assemble(("error: ", "bold red"), (visible(error.culprit), "bold"), f": {reason}"))
    if error.remedy:
        console.print(Text.assemble(("remedy: ", "bold green"), visible(error.remedy)))
