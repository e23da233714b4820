"""The page of a model: one HTML file with everything inside, which asks no other host for anything."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ...pages import chart_spec, script_json, templates, vega
from ..samples import Sample
from ..view import SignalView, View
from . import charts, words
from .pictures import Shown, chosen

MOST_SIGNALS = 6
"""Signals that have pictures; the table has all."""


@dataclass(frozen=True, slots=True)
class Picture:
    """A signal with the ids of its charts."""

    signal: SignalView
    says: str
    spread: str
    over_time: str | None


@dataclass(frozen=True, slots=True)
class Part:
    """One version on the page."""

    id: str
    view: View
    headline: words.Headline
    evidence: str | None
    windows: str | None
    quality: str | None
    pictures: list[Picture]
    ranked: list[SignalView]
    samples: list[Shown]


def render_html(views: Sequence[View], samples: Mapping[str, Iterable[Sample]] | None = None) -> str:
    """The versions of one model, each merged over its nodes, as one HTML document of about 1 MB: the chart library is
    inside, once. `samples` are those that were kept, by version.

    Every text is escaped, and the page's own policy forbids it any network. Raises MissingExtra where the build extra
    is not installed, ValueError without any view."""
    if not views:
        raise ValueError("a report needs a view")
    template = templates("shipworthy.monitor.report").get_template("monitor.html.j2")
    specs: dict[str, Any] = {}
    kept = samples or {}
    ordered = sorted(views, key=lambda view: (not words.alarms_that_stand(view), -view.updated))
    parts = [_part(f"v{place}", view, kept.get(view.version, ()), specs) for place, view in enumerate(ordered)]
    return template.render(
        model=ordered[0].model,
        parts=parts,
        specs=script_json(specs),
        library=vega() if specs else "",
        words=words,
        colours={"live": charts.LIVE, "reference": charts.REFERENCE, "alarm": charts.ALARM},
    )


def _part(name: str, view: View, samples: Iterable[Sample], specs: dict[str, Any]) -> Part:
    def drawn(what: str, chart: Any) -> str | None:
        if chart is None:
            return None
        specs[f"{name}-{what}"] = chart_spec(chart)
        return f"{name}-{what}"

    ranked = sorted(view.signals, key=lambda signal: (-signal.evidence, -signal.distance))
    told = {
        moved.signal: moved.words.removeprefix(f"{moved.title}: ")
        for alarm in reversed(words.alarms_that_stand(view))
        for moved in alarm.moved
    }
    found = []
    for place, signal in enumerate(_pictured(ranked)):
        chart = charts.histogram(signal) if signal.kind == "number" else charts.shares(signal)
        spread = drawn(f"spread{place}", chart)
        over_time = drawn(f"mean{place}", _over_time(view, signal))
        assert spread is not None
        found.append(Picture(signal, _sentence(told.get(signal.name, "")), spread, over_time))
    return Part(
        id=name,
        view=view,
        headline=words.headline(view),
        evidence=drawn("evidence", charts.evidence(view) if view.signals else None),
        windows=drawn("windows", charts.windows(view)),
        quality=drawn("quality", charts.quality(view.quality) if view.quality else None),
        pictures=found,
        ranked=ranked,
        samples=chosen(view, samples),
    )


def _pictured(ranked: Sequence[SignalView]) -> list[SignalView]:
    """The most moved ones that have anything to show, and always the classes."""
    seen = [signal for signal in ranked if sum(signal.live)]
    classes = [signal for signal in seen if signal.kind == "class"]
    first = seen[:MOST_SIGNALS]
    return first if not classes or classes[0] in first else [*first[: MOST_SIGNALS - 1], classes[0]]


def _sentence(text: str) -> str:
    return f"{text[:1].upper()}{text[1:].rstrip('.')}. " if text else ""


def _over_time(view: View, signal: SignalView) -> Any:
    return None if signal.kind == "class" else charts.means(view, view.signals.index(signal))
