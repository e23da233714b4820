"""`shipworthy monitor`: what is seen of served models, and what was done about it."""

from __future__ import annotations

import json
from contextlib import ExitStack
from pathlib import Path
from typing import Annotated

import typer
from rich.text import Text

from ..errors import MonitorError
from . import monitor_source as source
from .registry_option import AsJson, PackageName, RegistryUrl, Why

NAME = "monitor"
DRIFT = 3
"""The exit code where a file has drifted."""

verbs = typer.Typer(help="See drift and live quality of models that are served.", no_args_is_help=True)

Model = Annotated[str, typer.Argument(help="Name of the model, such as digits.")]


@verbs.command("status")
def status(
    model: Annotated[str | None, typer.Argument(help="Only of this model, with each signal and alarm.")] = None,
    server: source.Server = None,
    token_file: source.TokenFile = None,
    place: source.Place = None,
    registry: RegistryUrl = None,
    as_json: AsJson = False,
) -> None:
    """How the models that are watched are: evidence of drift, alarms, and quality.

    Asks a server that runs (--server), or reads what monitors have written beside the registry."""
    from ..monitor.record import record_of
    from .monitor_show import print_model, print_overview

    asked = source.opened(server, token_file, place, registry)
    views = source.all_views(asked) if model is None else source.views_of(asked, model)
    if as_json:
        typer.echo(json.dumps([record_of(view) for view in views], indent=2))
    elif model is None:
        print_overview(views)
    else:
        print_model(views)


@verbs.command("report")
def report(
    model: Model,
    out: Annotated[Path, typer.Option(help="The HTML file to write.", dir_okay=False)],
    server: source.Server = None,
    token_file: source.TokenFile = None,
    place: source.Place = None,
    registry: RegistryUrl = None,
) -> None:
    """Write what is seen of a model as one page that works offline.

    A server hands out no requests that were kept: those are shown only where the page is made from the place."""
    from ..monitor.report import render_html
    from .places import check_file

    check_file(out)
    asked = source.opened(server, token_file, place, registry)
    _write(out, render_html(source.views_of(asked, model), asked.samples(model)))


@verbs.command("score")
def score(
    package: PackageName,
    data: Annotated[Path, typer.Argument(help="What was asked: .parquet, .csv, .npz or .safetensors.")],
    out: Annotated[Path | None, typer.Option(help="Also write a page: report.html.", dir_okay=False)] = None,
    label: Annotated[str | None, typer.Option(help="The column with the truth; default: label or target.")] = None,
    variant: Annotated[str | None, typer.Option(help="Answer with this variant, not the first that runs here.")] = None,
    allow_code: Annotated[
        bool, typer.Option("--allow-code", help="Also load variants that carry executable code.")
    ] = False,
    registry: RegistryUrl = None,
    as_json: AsJson = False,
) -> None:
    """Answer the rows of a file, and compare them with the reference of a package, in their order, as a server would.

    Exit code 3 where an alarm is raised, or labels prove that the accuracy is below what was accepted."""
    from ..monitor import batch
    from ..monitor.record import record_of
    from ..registry import locate
    from .monitor_show import print_model
    from .places import check_file

    if out is not None:
        check_file(out)
    view = batch.score(locate(package, registry), data, label=label, variant=variant, allow_code=allow_code)
    if as_json:
        typer.echo(json.dumps(record_of(view), indent=2))
    else:
        print_model([view])
    if out is not None:
        from ..monitor.report import render_html

        _write(out, render_html([view]), quiet=as_json)
    if batch.drifted(view):
        raise typer.Exit(DRIFT)


@verbs.command("acknowledge")
def acknowledge(
    model: Model,
    alarm: Annotated[str, typer.Argument(help="Its id, as status shows it.")],
    why: Why = "",
    new_baseline: Annotated[
        int, typer.Option(help="Take so many of the requests that come next as the reference, better 1000 or more.")
    ] = 0,
    server: source.Server = None,
    token_file: source.TokenFile = None,
    place: source.Place = None,
    registry: RegistryUrl = None,
) -> None:
    """Say that an alarm was seen to: it stands no more, and its detector begins anew.

    Where the data will stay as they are now, --new-baseline takes them as what is right: until so many requests have
    come no alarm of drift is raised."""
    from ..registry.origin import who_am_i
    from .registry_show import say

    asked = source.opened(server, token_file, place, registry)
    found = asked.acknowledge(model, alarm, who_am_i(), why, new_baseline)
    say(Text(f"acknowledged: {found.summary}"))
    if new_baseline:
        say(Text(f"the next {new_baseline:,} requests become the reference"))


@verbs.command("export")
def export(
    model: Model,
    out: Annotated[Path, typer.Option(help="The folder to write; a new or an empty one.", file_okay=False)],
    version: Annotated[str | None, typer.Option(help="Only of this version.")] = None,
    package: Annotated[
        str | None, typer.Option(help="The model's package, where its contract names files of a tokenizer.")
    ] = None,
    place: source.Place = None,
    registry: RegistryUrl = None,
) -> None:
    """Write the requests that were kept as a data set for the next training, with the draft of a contract."""
    from ..monitor import exporting
    from ..package import read_package
    from ..registry import locate
    from .registry_show import say

    with ExitStack() as kept:
        assets = None
        if package is not None:
            assets = kept.enter_context(read_package(locate(package, registry))).root
        states = source.states(place, registry)
        say(Text(str(exporting.export(states, model, out, version=version, assets=assets))))


@verbs.command("dashboards")
def dashboards(
    out: Annotated[Path, typer.Option(help="The folder to write.", file_okay=False)],
) -> None:
    """Write a dashboard for Grafana (grafana.json) and alert rules for Prometheus (alerts.yaml)."""
    from ..monitor.dashboards import write

    for path in write(out):
        typer.echo(str(path))


def _write(out: Path, page: str, *, quiet: bool = False) -> None:
    try:
        out.write_text(page, encoding="utf-8")
    except OSError as error:
        raise MonitorError(str(out), f"cannot be written: {error.strerror}", "give another file") from None
    if not quiet:
        typer.echo(str(out))
