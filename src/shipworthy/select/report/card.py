"""The card of a package: what it is, what was promised and what was proven, in Markdown."""

from __future__ import annotations

from collections.abc import Iterable

from ...contract import Contract
from ...evidence import BuildRecord
from ...runtime import ENGINES
from . import figures
from .view import Row, headline, ranked

_ACTIVE = str.maketrans({character: f"\\{character}" for character in "\\`*_{}[]<>#|!"})


def render_card(record: BuildRecord, contract: Contract) -> str:
    """A Markdown page for people who get the package: without charts, complete without the report."""
    parts = [_head(record, contract), _promise(contract), _proof(record), _candidates(record), _use(record, contract)]
    return "\n\n".join(part for part in parts if part) + "\n"


def _head(record: BuildRecord, contract: Contract) -> str:
    top = headline(record, contract)
    tiles = [f"- {tile.value} {tile.label} ({_plain(tile.note)})" for tile in top.tiles]
    verdict = f"**{_plain(top.title)}**. {_plain(top.why)}" if top.why else f"**{_plain(top.title)}**"
    intro = f"# {_plain(record.name)}\n\nA model for {contract.task.kind}, built {record.created} by Shipworthy."
    return "\n\n".join(part for part in (intro, verdict, "\n".join(tiles)) if part)


def _promise(contract: Contract) -> str:
    tensors = [
        f"| {kind} | {_plain(name)} | {_plain(spec.show())} |"
        for kind, specs in (("input", contract.inputs), ("output", contract.outputs))
        for name, spec in specs.items()
    ]
    limits = [f"- {name}: {value:g}" for name, value in contract.limits if value is not None]
    signature = "\n".join(("## Contract", "", "| | name | tensor |", "|---|---|---|", *tensors))
    return "\n\n".join((signature, "\n".join(("Limits:", "", *limits)))) if limits else signature


def _proof(record: BuildRecord) -> str:
    chosen = next((row for row in ranked(record) if row.id == record.chosen), None)
    if chosen is None:
        return ""
    evidence = chosen.result.evidence
    lines = [
        f"- {metric.name} on {metric.samples} samples ({metric.split}): {figures.score(metric.candidate)}, eager "
        f"{figures.score(metric.eager)}, drop {figures.drop(metric.drop)}"
        + _bound(metric.drop_upper, metric.confidence)
        for metric in evidence.metrics
    ]
    lines += [
        f"- {_plain(parity.output)} against eager: max abs difference {figures.small(parity.max_abs)}, "
        f"SQNR {figures.decibels(parity.sqnr_db)}"
        for parity in evidence.parity
    ]
    lines += [
        f"- {figures.ratio(speed.ratio)} {_plain(speed.against)} in {speed.objective} (at least "
        f"{figures.ratio(speed.lower)} at 95 %, {speed.rounds} paired rounds)"
        for speed in evidence.speed
    ]
    ran = ", ".join(
        f"{kernel.count} × {_plain(kernel.op)} in {kernel.precision}" for kernel in evidence.kernels if kernel.heavy
    )
    lines += [f"- what executed: {ran}"] if ran else []
    if evidence.reference is not None:
        kept = evidence.reference
        lines.append(f"- reference for production: {kept.signals} signals of {kept.samples:,} held-out samples")
    return "\n".join((f"## Evidence for {_plain(chosen.id)}", "", *lines))


def _bound(upper: float | None, confidence: float | None) -> str:
    if upper is None or confidence is None:
        return ""
    return f", at most {figures.drop(upper)} at {figures.percent(confidence)}"


def _candidates(record: BuildRecord) -> str:
    head = (
        "## Candidates",
        "",
        "| candidate | verdict | × eager | drop | size | reason |",
        "|---|---|--:|--:|--:|---|",
    )
    return "\n".join((*head, *_candidate_rows(ranked(record))))


def _candidate_rows(rows: Iterable[Row]) -> Iterable[str]:
    for row in rows:
        speed = figures.MISSING if row.speed is None else figures.ratio(row.speed.ratio)
        drop = figures.drop(None if row.metric is None else row.metric.drop)
        cells = (row.id, row.verdict, speed, drop, figures.megabytes(row.size_mb), _plain(row.reason))
        yield f"| {' | '.join(cells)} |"


def _use(record: BuildRecord, contract: Contract) -> str:
    if record.chosen is None:
        return ""
    good = [row.result.candidate.engine for row in ranked(record) if row.verdict in ("chosen", "accepted")]
    code = ", ".join(dict.fromkeys(engine for engine in good if ENGINES[engine].executes_code))
    note = f"\n\nVariants for {code} carry executable code, and are served only with `--allow-code`." if code else ""
    fields = ", ".join(f'"{name}": ...' for name in contract.inputs)
    return (
        "## Use\n\n```console\n$ shipworthy verify PACKAGE\n$ shipworthy serve PACKAGE\n```\n\n"
        f"```python\nimport shipworthy\n\nwith shipworthy.load(PACKAGE) as predictor:\n"
        f"    print(predictor.predict({{{fields}}}))\n```{note}"
    )


def _plain(text: str) -> str:
    """One line without anything that Markdown or HTML would take for markup."""
    return " ".join(text.split()).translate(_ACTIVE)
