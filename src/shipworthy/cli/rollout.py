"""`shipworthy rollout`: try a version beside the champion, look how it goes, end it."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Annotated

import typer
from rich.text import Text

from ..errors import RolloutError
from .registry_option import AsJson, RegistryUrl, Why, opened

if TYPE_CHECKING:
    from ..registry import Registry
    from ..rollout import Rollout, Rollouts

NAME = "rollout"
EVENTS = 5

verbs = typer.Typer(help="Try a version beside the champion, and let evidence decide.", no_args_is_help=True)

Model = Annotated[str, typer.Argument(help="Name of the model, such as digits.")]


@verbs.command("start")
def start(
    model: Model,
    challenger: Annotated[
        str, typer.Option(help="The version to try: a number, digits:NUMBER or digits@ALIAS.", show_default=False)
    ],
    mode: Annotated[
        str,
        typer.Option(
            help="shadow: it gets copies of requests, and nobody its answers. canary: its share rises along a ramp. "
            "ab: its share is fixed."
        ),
    ] = "shadow",
    ramp: Annotated[str | None, typer.Option(help="Canary: shares in percent; default: 1,5,25,50.")] = None,
    stage_requests: Annotated[
        int | None, typer.Option(help="Canary: so many requests before the next stage; default: 1000.", min=1)
    ] = None,
    stage_time: Annotated[str | None, typer.Option(help="Canary: a stage lasts at least this; default: 30s.")] = None,
    share: Annotated[str | None, typer.Option(help="A/B: share of the challenger; default: 50%.")] = None,
    delta: Annotated[
        float | None,
        typer.Option(help="Mean loss may be higher by this; default: 0.01 for shadow, else 0.02."),
    ] = None,
    auto: Annotated[bool, typer.Option("--auto", help="Act on the verdict: promote, or take it back.")] = False,
    timeout: Annotated[str | None, typer.Option(help="Without a verdict the champion stays; default: 24h.")] = None,
    key_header: Annotated[
        str | None, typer.Option(help="Header that keeps a caller with one version; default: x-assignment-key.")
    ] = None,
    target_ms: Annotated[
        float | None, typer.Option(help="Answers above this are slow; default: the champion's 95th percentile.")
    ] = None,
    error_scale: Annotated[
        float | None, typer.Option(help="Regression: the absolute error that is a whole loss.")
    ] = None,
    shadow_rate: Annotated[str | None, typer.Option(help="Shadow: share that is copied; default: 100%.")] = None,
    shadow_budget: Annotated[
        str | None, typer.Option(help="Shadow: share of one core that copies may cost; default: 25%.")
    ] = None,
    max_pairs: Annotated[
        int | None, typer.Option(help="Shadow: so many pairs wait for a label; default: 20000.", min=1)
    ] = None,
    guardrails: Annotated[
        str | None, typer.Option(help="Those that are on: errors,latency,ratio by default; none for none.")
    ] = None,
    why: Why = "",
    registry: RegistryUrl = None,
    as_json: AsJson = False,
) -> None:
    """Try a version beside the one that the alias champion names.

    Servers that follow the champion take part within seconds. Look on with: shipworthy rollout status MODEL --watch."""
    from ..rollout import Rollouts, Spec
    from .registry_show import say
    from .rollout_show import rollout_data

    options = {
        "ramp": ramp,
        "stage_requests": stage_requests,
        "stage_seconds": stage_time,
        "share": share,
        "delta": delta,
        "auto": auto,
        "timeout_s": timeout,
        "key_header": key_header,
        "target_ms": target_ms,
        "error_scale": error_scale,
        "shadow_rate": shadow_rate,
        "shadow_budget": shadow_budget,
        "max_pairs": max_pairs,
        "guardrails": guardrails,
    }
    spec = Spec.from_options(mode, options)
    with opened(registry) as opened_registry:
        rollout = Rollouts(opened_registry).start(model, _named(model, challenger), spec, why=why)
    if as_json:
        typer.echo(json.dumps(rollout_data(rollout), indent=2))
        return
    say(Text(f"rollout {rollout.id}: {rollout.mode} of {model}:{rollout.challenger} beside {model}:{rollout.champion}"))
    say(Text(f"see how it goes: shipworthy rollout status {model} --watch", style="dim"))


@verbs.command("status")
def status(
    model: Model,
    watch: Annotated[bool, typer.Option("--watch", help="Look again every second until it has ended.")] = False,
    registry: RegistryUrl = None,
    as_json: AsJson = False,
) -> None:
    """How the running rollout stands, or how the last one ended."""
    from ..rollout import Rollouts
    from .rollout_show import rollout_data, show_rollout, watch_rollout

    if watch and as_json:
        raise RolloutError("--watch", "is for people, --json is for programs", "give one of both")
    with opened(registry) as opened_registry:
        rollouts = Rollouts(opened_registry)
        rollout = _latest(opened_registry, rollouts, model)
        if as_json:
            typer.echo(json.dumps(rollout_data(rollout), indent=2))
        elif watch:
            watch_rollout(lambda: rollouts.get(rollout.id), lambda: opened_registry.history(model, limit=EVENTS))
        else:
            show_rollout(rollout, opened_registry.history(model, limit=EVENTS))


@verbs.command("stop")
def stop(model: Model, why: Why = "", registry: RegistryUrl = None, as_json: AsJson = False) -> None:
    """End the running rollout; the champion stays."""
    from ..rollout import Rollouts
    from .registry_show import say
    from .rollout_show import rollout_data

    with opened(registry) as opened_registry:
        rollout = Rollouts(opened_registry).stop(model, why=why)
    if as_json:
        typer.echo(json.dumps(rollout_data(rollout), indent=2))
    else:
        say(Text(f"rollout {rollout.id} is stopped; {model}:{rollout.champion} serves everything"))


@verbs.command("list")
def list_rollouts(
    model: Annotated[str | None, typer.Argument(help="Only of this model.")] = None,
    limit: Annotated[int, typer.Option(help="So many at most.", min=1)] = 20,
    registry: RegistryUrl = None,
    as_json: AsJson = False,
) -> None:
    """Rollouts, newest first."""
    from ..rollout import Rollouts
    from .rollout_show import print_rollouts, rollout_data

    with opened(registry) as opened_registry:
        found = Rollouts(opened_registry).list(model, limit=limit)
    if as_json:
        typer.echo(json.dumps([rollout_data(rollout) for rollout in found], indent=2))
    else:
        print_rollouts(found, model)


def _named(model: str, challenger: str) -> str:
    """`4` and `@staging` are of the model that was named."""
    if challenger.isdecimal():
        return f"{model}:{challenger}"
    return f"{model}{challenger}" if challenger.startswith("@") else challenger


def _latest(registry: Registry, rollouts: Rollouts, model: str) -> Rollout:
    """The running one, else the last that has ended."""
    found = rollouts.list(model, limit=1)
    if not found:
        # An unknown name is said to be one.
        registry.list_versions(model, limit=1)
        raise RolloutError(model, "has had no rollout", f"begin: shipworthy rollout start {model} --challenger NUMBER")
    return found[0]
