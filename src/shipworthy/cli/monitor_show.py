"""How views look in a terminal: one line for each version, and all there is to see of one model."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

import typer
from rich.text import Text

from ..monitor.telling import moment, number
from .registry_show import say
from .tables import print_table, table

if TYPE_CHECKING:
    from ..monitor import Alarm, View
    from ..monitor.view import SignalView

BAR = 12
"""Characters of a full bar."""
_MOST = 1e6
"""More evidence is only said to be more."""
_FLOOR = -3.0
"""The least evidence that a bar shows, as a power of ten."""
_SEVERITIES = {"slight": "yellow", "moderate": "dark_orange", "large": "bold red"}
_NUMBERS = ("scored", "alarms")


def print_overview(views: Sequence[View]) -> None:
    if not views:
        typer.echo("nothing is watched yet; serve a model: shipworthy serve digits@champion")
        return
    _print_versions(views)
    say(_counted())


def print_model(views: Sequence[View]) -> None:
    """The versions, then alarms, signals, and what is promised, of each."""
    _print_versions(views)
    for view in views:
        title = f"{view.model}:{view.version}" if view.version else view.model
        for alarm in view.alarms:
            if alarm.acknowledged is None:
                _print_alarm(view, alarm)
        if view.signals:
            _print_signals(view, title)
        _print_quality(view)
        for note in view.notes:
            say(Text(f"note: {note}", style="dim"))
        if view.promise is not None:
            say(Text(view.promise.words, style="dim"))


def _print_versions(views: Sequence[View]) -> None:
    heads = ("model", "version", "scored", "evidence of drift", "alarms", "quality, by labels", "estimate")
    made = table("", *heads, right=_NUMBERS, whole=("model", "version", "evidence of drift"))
    for view in views:
        standing = [alarm for alarm in view.alarms if alarm.acknowledged is None]
        alarms = Text(str(len(standing)), style="bold red" if standing else "dim")
        scored = Text(f"{view.scored:,}")
        made.add_row(
            Text(view.model), Text(view.version), scored, _evidence(view), alarms, _quality(view), _estimate(view)
        )
    print_table(made)


def _evidence(view: View) -> Text:
    if view.collecting is not None:
        return Text(f"collecting {view.collecting[0]:,} of {view.collecting[1]:,}", style="cyan")
    if not view.signals:
        return Text("–")
    return _bar(max(signal.evidence for signal in view.signals))


def _bar(evidence: float) -> Text:
    """On a logarithmic scale from a thousandth of the threshold: full is where an alarm is raised."""
    power = math.log10(evidence) if evidence > 0 else -math.inf
    full = round(BAR * min(1.0, max(0.0, 1 - power / _FLOOR)))
    colour = "red" if evidence >= 1 else "yellow" if evidence >= 0.1 else "green"
    said = number(evidence) if evidence < _MOST else f"> {_MOST:,.0f}"
    return Text.assemble(("━" * full, colour), ("─" * (BAR - full), "dim"), f" {said}")


def _quality(view: View) -> Text:
    quality = view.quality
    if quality is None or quality.value is None:
        return Text("–", style="dim")
    words = f"{quality.metric} {quality.value:.3f} ({quality.lower:.3f} to {quality.upper:.3f})"
    return Text(words + (", too low" if quality.below else ""), style="bold red" if quality.below else "")


def _estimate(view: View) -> Text:
    return Text("–", style="dim") if view.estimate is None else Text(f"≈ {view.estimate.value:.3f}")


def _print_alarm(view: View, alarm: Alarm) -> None:
    began, raised = moment(alarm.began, view.clock), moment(alarm.raised, view.clock)
    say(Text.assemble(("ALARM ", "bold red"), (f"({alarm.severity}) ", _SEVERITIES[alarm.severity]), alarm.summary))
    say(Text(f"  began about {began}, raised {raised}, after {alarm.scored:,} scored requests"))
    for moved in alarm.moved[1:]:
        say(Text(f"  also: {moved.words}"))
    if alarm.classes:
        say(Text(f"  classes: {'; '.join(alarm.classes)}"))
    say(Text(f"  seen to? shipworthy monitor acknowledge {view.model} {alarm.id} --why …", style="dim"))
    typer.echo()


def _print_signals(view: View, title: str) -> None:
    heads = ("signal", "of", "evidence of drift", "window p", "distance", "mean, reference", "mean, live")
    numbers = heads[3:]
    made = table(title, *heads, right=numbers, whole=("evidence of drift", "of"))
    for signal in sorted(view.signals, key=lambda one: (-one.evidence, -one.distance)):
        p_value = "–" if signal.p_value is None else number(signal.p_value)
        cells = (p_value, f"{signal.distance:.3f}", *_means(signal))
        made.add_row(Text(signal.title), Text(signal.about), _bar_of(signal), *map(Text, cells))
    print_table(made)


def _bar_of(signal: SignalView) -> Text:
    """None for those that only the windowed test looks at."""
    return _bar(signal.evidence) if signal.evidence else Text("–", style="dim")


def _means(signal: SignalView) -> tuple[str, str]:
    if signal.kind == "class":
        return "", ""
    return number(signal.reference_mean), number(signal.live_mean)


def _print_quality(view: View) -> None:
    if view.estimate is not None:
        reference = f"on the reference {view.estimate.reference:.3f}"
        words = (
            f"accuracy without labels ≈ {view.estimate.value:.3f}: an estimate, by {view.estimate.method}; {reference}"
        )
        say(Text(words))
    for rule in view.rules:
        over = "above" if rule.fires else "below"
        words = f"rule of thumb (uncalibrated): {rule.name} {number(rule.value)}, {over} the usual {rule.threshold:g}"
        say(Text(words, style="dim"))


def _counted() -> Text:
    words = "Evidence is full where an alarm is raised. Promises and delays count scored requests."
    return Text(words, style="dim")
