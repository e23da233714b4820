"""`shipworthy rollout`: try a version beside the champion, look how it goes, end it."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Annotated

import typer
from rich.text import Text

from ..errors import RolloutError
from . import rollout_options as options
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
    challenger: options.Challenger,
    mode: options.Mode = "shadow",
    ramp: options.Ramp = None,
    stage_requests: options.StageRequests = None,
    stage_time: options.StageTime = None,
    share: options.Share = None,
    delta: options.Delta = None,
    auto: options.Auto = False,
    timeout: options.Timeout = None,
    key_header: options.KeyHeader = None,
    target_ms: options.TargetMs = None,
    error_scale: options.ErrorScale = None,
    shadow_rate: options.ShadowRate = None,
    shadow_budget: options.ShadowBudget = None,
    max_pairs: options.MaxPairs = None,
    guardrails: options.Guardrails = None,
    why: Why = "",
    registry: RegistryUrl = None,
    as_json: AsJson = False,
) -> None:
    """Try a version beside the one that the alias champion names.

    Servers that follow the champion take part within seconds. Look on with: shipworthy rollout status MODEL --watch."""
    from ..rollout import Rollouts, Spec
    from .registry_show import say
    from .rollout_show import rollout_data

    given = {
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
    spec = Spec.from_options(mode, given)
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
            watch_rollout(lambda: rollouts.look(rollout.id), lambda: opened_registry.history(model, limit=EVENTS))
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
    return rollouts.look(found[0].id)
