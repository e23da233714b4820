"""What may be asked of a rollout on the command line; defaults are those of `Spec`."""

from __future__ import annotations

from typing import Annotated, TypeAlias

import typer

Challenger: TypeAlias = Annotated[
    str, typer.Option(help="The version to try: a number, digits:NUMBER or digits@ALIAS.", show_default=False)
]
Mode: TypeAlias = Annotated[
    str,
    typer.Option(
        help="shadow: it gets copies of requests, and nobody its answers. canary: its share rises along a ramp. "
        "ab: its share is fixed."
    ),
]
Delta: TypeAlias = Annotated[
    float | None, typer.Option(help="Mean loss may be higher by this; default: 0.01 for shadow, else 0.02.")
]
Auto: TypeAlias = Annotated[bool, typer.Option("--auto", help="Act on the verdict: promote, or take it back.")]
Timeout: TypeAlias = Annotated[str | None, typer.Option(help="Without a verdict the champion stays; default: 24h.")]
KeyHeader: TypeAlias = Annotated[
    str | None, typer.Option(help="Header that keeps a caller with one version; default: x-assignment-key.")
]
TargetMs: TypeAlias = Annotated[
    float | None, typer.Option(help="Answers above this are slow; default: the champion's 95th percentile.")
]
Guardrails: TypeAlias = Annotated[
    str | None, typer.Option(help="Those that are on: errors,latency,ratio by default, and drift; none for none.")
]
ErrorScale: TypeAlias = Annotated[
    float | None, typer.Option(help="Regression: the absolute error that is a whole loss.")
]

Ramp: TypeAlias = Annotated[str | None, typer.Option(help="Canary: shares in percent; default: 1,5,25,50.")]
StageRequests: TypeAlias = Annotated[
    int | None, typer.Option(help="Canary: so many requests before the next stage; default: 1000.", min=1)
]
StageTime: TypeAlias = Annotated[str | None, typer.Option(help="Canary: a stage lasts at least this; default: 30s.")]
Share: TypeAlias = Annotated[str | None, typer.Option(help="A/B: share of the challenger; default: 50%.")]
ShadowRate: TypeAlias = Annotated[str | None, typer.Option(help="Shadow: share that is copied; default: 100%.")]
ShadowBudget: TypeAlias = Annotated[
    str | None, typer.Option(help="Shadow: share of one core that copies may cost; default: 25%.")
]
MaxPairs: TypeAlias = Annotated[
    int | None, typer.Option(help="Shadow: so many pairs wait for a label; default: 20000.", min=1)
]
