"""How a rollout looks: a view that is drawn anew every second, a list, and JSON."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Collection, Sequence
from dataclasses import asdict
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import typer
from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.table import Table
from rich.text import Text

from .moments import show_moment
from .registry_show import WHEN, told
from .tables import print_table, table

if TYPE_CHECKING:
    from ..registry import Event
    from ..rollout import Rollout
    from ..rollout.evidence import Evidence, Figure, Judgement

LOOK_S = 1.0
BAR = 24
"""Characters of a full bar."""

_COLOURS = {"running": "cyan", "promote": "green", "rollback": "red", "hold": "yellow", "stopped": "yellow"}
_PROCESSES = {
    "promote": ("promote", "good enough", "green"),
    "rollback": ("rollback", "worse answers", "red"),
    "errors": ("rollback", "more errors", "red"),
    "latency": ("rollback", "more slow answers", "red"),
    "assigned": ("hold", "share of requests is off", "yellow"),
    "completed": ("hold", "share of answers is off", "yellow"),
    "labelled": ("hold", "share of labels is off", "yellow"),
}
"""Of each process: the verdict that it may give, of what it is evidence, and the colour of its bar."""
_GUARDED_BY = {"errors": "errors", "latency": "latency", "assigned": "ratio", "completed": "ratio", "labelled": "ratio"}


def rollout_data(rollout: Rollout) -> dict[str, Any]:
    """All that is known of it, with every figure."""
    judgement = rollout.judgement()
    names = ("id", "model", "mode", "champion", "challenger", "state", "verdict", "reason", "stage", "share")
    plain = {name: getattr(rollout, name) for name in (*names, "stage_seen", "who", "why", "revision")}
    moments = {name: getattr(rollout, name) for name in ("stage_began", "started", "ended")}
    return {
        **plain,
        **{name: None if moment is None else moment.isoformat() for name, moment in moments.items()},
        "spec": asdict(rollout.spec),
        "counts": asdict(rollout.tally),
        "judgement": {"verdict": judgement.verdict, "by": judgement.by, "reason": judgement.reason},
        "figures": [{**asdict(figure), "e": figure.e, "needed": figure.needed} for figure in judgement.figures],
    }


def show_rollout(rollout: Rollout, events: Sequence[Event]) -> None:
    Console().print(view(rollout, events))


def watch_rollout(look: Callable[[], Rollout], events: Callable[[], Sequence[Event]]) -> None:
    """Draw it every second until it has ended, or the user has seen enough."""
    rollout = look()
    with Live(view(rollout, events()), auto_refresh=False, vertical_overflow="crop") as live:
        while rollout.running:
            time.sleep(LOOK_S)
            rollout = look()
            live.update(view(rollout, events()), refresh=True)


def print_rollouts(rollouts: Sequence[Rollout], model: str | None) -> None:
    if not rollouts:
        typer.echo(f"{model} has had no rollout" if model else "there has been no rollout")
        return
    heads = ("id", "model", "mode", "champion", "challenger", "state", "began (UTC)", "took", "why")
    made = table("", *heads, right=("id", "champion", "challenger"), whole=("began (UTC)", "took", "state"))
    for one in rollouts:
        state = Text(one.state, style=_COLOURS[one.state])
        cells = (str(one.id), one.model, one.mode, str(one.champion), str(one.challenger))
        began = show_moment(one.started)[: -len(":00")]
        made.add_row(*map(Text, cells), state, Text(began), Text(_span(_age(one))), Text(one.why))
    print_table(made)


def view(rollout: Rollout, events: Sequence[Event], now: datetime | None = None) -> RenderableType:
    """Everything on one screen of 80 columns."""
    judgement = rollout.judgement()
    evidence = rollout.evidence
    counts = _pairs(rollout, evidence) if rollout.mode == "shadow" else _arms(rollout, evidence)
    parts: list[RenderableType] = [
        _head(rollout, now or datetime.now(UTC)),
        _progress(rollout),
        counts,
        _figures(rollout, judgement),
    ]
    if not rollout.running:
        parts.append(Text.assemble((f"{rollout.state}: ", _COLOURS[rollout.state]), rollout.reason))
    if rollout.running or rollout.state == "stopped":
        parts.append(Text(judgement.reason))
    parts.append(_events(events))
    apart: list[RenderableType] = [line for part in parts for line in (part, "")]
    return Group(*apart[:-1])


def _bare(*heads: str, right: Collection[str] = ()) -> Table:
    """Without a frame: the view is drawn on one screen."""
    made = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="dim")
    for head in heads:
        made.add_column(head, justify="right" if head in right else "left", no_wrap=True)
    return made


def _head(rollout: Rollout, now: datetime) -> Text:
    model = rollout.model
    who = f"{rollout.mode} of {model}:{rollout.challenger} beside {model}:{rollout.champion}"
    limit = f" of {_span(timedelta(seconds=rollout.spec.timeout_s))}" if rollout.running else ""
    acts = "acts on its verdict" if rollout.spec.auto else "tells its verdict, and leaves the acting to you"
    verdict = f", verdict {rollout.verdict}" if rollout.running and rollout.verdict else ""
    state = Text(f"{rollout.state}{verdict}", style=f"bold {_COLOURS[rollout.state]}")
    return Text.assemble(
        (f"rollout {rollout.id}: {who}", "bold"), "\n", state, f", {_span(_age(rollout, now))}{limit}; {acts}"
    )


def _progress(rollout: Rollout) -> Text:
    if rollout.mode == "shadow":
        tally = rollout.tally
        lost = f"\n{tally.lost:,} were dropped, as there was no time for them" if tally.lost else ""
        return Text(f"{tally.copies:,} copies were answered, and nobody got these answers{lost}")
    share = Text.assemble("share ", _bar(rollout.share, "cyan"), f" {_percent(rollout.share)}")
    if rollout.mode == "ab":
        return share
    spec = rollout.spec
    stages = Text(" → ").join(
        Text(_percent(one), style="bold cyan" if place == rollout.stage else "dim")
        for place, one in enumerate(spec.ramp)
    )
    last = rollout.stage + 1 == len(spec.ramp)
    seen = f"{rollout.stage_seen:,}" + ("" if last else f" of {spec.stage_requests:,}")
    return Text.assemble(share, "   stages ", stages, f"\n{seen} requests at this stage")


def _pairs(rollout: Rollout, evidence: Evidence) -> Table:
    heads = ("pairs", "agree", "differ", "better", "worse", "no label yet", "given way")
    made = _bare(*heads, right=heads)
    pairs = evidence.paired
    same = pairs.pairs - pairs.disagreeing
    numbers = (pairs.pairs, same, pairs.disagreeing, pairs.better, pairs.worse, pairs.open, rollout.tally.evicted)
    made.add_row(*(f"{number:,}" for number in numbers))
    return made


def _arms(rollout: Rollout, evidence: Evidence) -> Table:
    heads = ("requests", "ended", "failed", "slow", "labels", "mean loss")
    made = _bare("", *heads, right=heads)
    for arm, name in enumerate((f"champion {rollout.champion}", f"challenger {rollout.challenger}")):
        counts = [getattr(rollout.tally, field)[arm] for field in ("assigned", "completed", "failed", "slow")]
        labels = int(evidence.unpaired.counts[arm])
        loss = f"{evidence.unpaired.losses[arm] / labels:.4f}" if labels else "–"
        made.add_row(name, *(f"{number:,}" for number in counts), f"{labels:,}", loss)
    return made


def _figures(rollout: Rollout, judgement: Judgement) -> Table:
    """Each process as a bar on a logarithmic scale from e = 1: full is where it acts."""
    made = _bare("verdict", "evidence", "log e, full where it acts", "e", "acts at", right=("e", "acts at"))
    for figure in judgement.figures:
        verdict, name, colour = _PROCESSES[figure.process]
        guardrail = _GUARDED_BY.get(figure.process)
        if rollout.mode == "shadow" and guardrail == "ratio":
            continue
        if guardrail is not None and guardrail not in rollout.spec.guardrails:
            made.add_row(verdict, name, "off", "", "", style="dim")
            continue
        bar = _bar(figure.log_e / math.log(figure.needed), colour)
        style = f"bold {colour}" if figure.passed else ""
        made.add_row(verdict, name, bar, _large(figure), f"{figure.needed:,.0f}", style=style)
    if "drift" in rollout.spec.guardrails:
        made.add_row("rollback", "drift, it alone", "by the monitor's alarms", style="dim")
    return made


def _events(events: Sequence[Event]) -> Table:
    """One line each; `shipworthy history` has them whole."""
    made = _bare(WHEN, "what", "why")
    made.expand, made.columns[2].ratio = True, 1
    for event in events:
        cells = (show_moment(event.at), told(event, one_model=True), event.why)
        made.add_row(*(Text(cell, overflow="ellipsis") for cell in cells))
    return made


def _bar(part: float, colour: str) -> Text:
    full = round(BAR * min(1.0, max(0.0, part)))
    return Text.assemble(("━" * full, colour), ("─" * (BAR - full), "dim"))


def _percent(share: float) -> str:
    return f"{share * 100:g} %"


def _large(figure: Figure) -> str:
    if figure.log_e > 25:
        return f"10^{figure.log_e / math.log(10):.0f}"
    return f"{figure.e:.3g}" if figure.e < 1000 else f"{figure.e:,.0f}"


def _age(rollout: Rollout, now: datetime | None = None) -> timedelta:
    return max(timedelta(0), (rollout.ended or now or datetime.now(UTC)) - rollout.started)


def _span(span: timedelta) -> str:
    """`45 s`, `12 min 5 s`, `3 h 20 min`, `2 d 4 h`."""
    seconds = round(span.total_seconds())
    units = (("d", 86400), ("h", 3600), ("min", 60), ("s", 1))
    at = next((place for place, (_, size) in enumerate(units) if seconds >= size), 3)
    shown: list[str] = []
    for unit, size in units[at : at + 2]:
        number, seconds = divmod(seconds, size)
        if number or not shown:
            shown.append(f"{number} {unit}")
    return " ".join(shown)
