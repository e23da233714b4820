"""The results as Markdown."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from .cold import WORKLOAD as START
from .features import WORKLOAD as FEATURES
from .models import FLOAT32, INT8, IRIS, UINT8
from .monitoring import WORKLOAD as MONITORING
from .open_loop import WORKLOAD as OPEN
from .results import Result
from .routing import WORKLOAD as ROUTING

Column = tuple[str, Callable[[Result], str]]


def markdown(rows: Sequence[Result], environment: dict[str, Any]) -> str:
    parts = ["# Serving, side by side", _made(environment), _LEGEND]
    for workload, title, legend, columns in _TABLES:
        own = [row for row in rows if row.workload in (workload, f"{workload} in process")]
        if own:
            parts += [f"## {title}", legend, _table(own, columns)]
    return "\n\n".join(part for part in parts if part) + "\n"


def _made(environment: dict[str, Any]) -> str:
    versions = ", ".join(f"{name} {version}" for name, version in environment["versions"].items())
    took = _took(environment)
    revision = f" of revision {environment['revision']}" if environment.get("revision") else ""
    isa = f" ({', '.join(environment['isa'])})" if environment["isa"] else ""
    return (
        f"Made by `{environment['command']}`{revision} on {environment['date']}{took}. {environment['cpu']}{isa}, "
        f"{environment['cores']} processors, {environment['memory_gib']} GiB, {environment['system']}, "
        f"Python {environment['python']}; {versions}" + _earlier(environment)
    )


def _earlier(environment: dict[str, Any]) -> str:
    """Of which other runs there may be rows."""
    runs = [
        f"`{one['command']}`, {one.get('revision') or 'revision unknown'}, {one['date']}{_took(one)}"
        for one in environment.get("runs", ())[:-1]
    ]
    return "\n\nRows that this run has not measured are kept from: " + "; ".join(runs) if runs else ""


def _took(run: dict[str, Any]) -> str:
    return f", in {run['seconds'] / 60:.0f} minutes" if "seconds" in run else ""


_LEGEND = """One server is up at a time, and the load generator runs on the same processors. Figures are medians of
rounds, each in an order of its own, with the least and the most of a round in brackets. `workers`: the better number,
and in brackets what the other one gave. Memory is of all processes of a server when the load ends. `elsewhere` is how
many cores something else used meanwhile: above 0.1 the machine was not quiet. Latencies of closed load are of all
answers, corrected by wrk for coordinated omission. `openvino-int8` is the graph that Shipworthy's build chose, in the
peer's own handler; `onnxruntime-fp32` is what its users would take."""

_SERVED: tuple[Column, ...] = (
    ("server", lambda row: _name(row)),
    ("engine", lambda row: row.engine or ""),
    ("workers", lambda row: _workers(row)),
    ("connections", lambda row: _number(row.connections, 0)),
    ("requests/s", lambda row: _spread(row.rps, row.rps_low, row.rps_high, 0)),
)
_WEIGHED: tuple[Column, ...] = (
    ("memory, MB", lambda row: _number(row.rss_mb, 0)),
    ("errors", lambda row: _number(row.errors, 0)),
    ("rounds", lambda row: _number(row.rounds, 0)),
    ("elsewhere, cores", lambda row: _number(row.elsewhere_cpu, 2)),
)
_NUMBERS: tuple[Column, ...] = (
    *_SERVED,
    ("to empty ASGI", lambda row: _share(row.ratio)),
    ("p50, ms", lambda row: _spread(row.p50_ms, row.p50_low_ms, row.p50_high_ms, 2)),
    ("p99, ms", lambda row: _spread(row.p99_ms, row.p99_low_ms, row.p99_high_ms, 2)),
    *_WEIGHED,
)
_PICTURES: tuple[Column, ...] = (
    *_SERVED,
    ("to in process", lambda row: _share(row.ratio)),
    ("p50, ms", lambda row: _number(row.p50_ms, 2)),
    ("p99, ms", lambda row: _number(row.p99_ms, 2)),
    *_WEIGHED,
)
_FEATURES: tuple[Column, ...] = (
    ("server", lambda row: _name(row)),
    ("requests/s", lambda row: _spread(row.rps, row.rps_low, row.rps_high, 0)),
    ("p50, ms", lambda row: _number(row.p50_ms, 2)),
    ("p99, ms", lambda row: _number(row.p99_ms, 2)),
    ("to the first", lambda row: _share(row.ratio)),
    ("elsewhere, cores", lambda row: _number(row.elsewhere_cpu, 2)),
)
_OPEN: tuple[Column, ...] = (
    ("server", lambda row: _name(row)),
    ("workers", lambda row: _number(row.workers, 0)),
    ("offered/s", lambda row: _number(row.offered_rps, 0)),
    ("of capacity", lambda row: _share(_of_capacity(row))),
    ("goodput/s", lambda row: _spread(row.goodput_rps, row.goodput_low_rps, row.goodput_high_rps, 0)),
    ("answered/s", lambda row: _number(row.rps, 0)),
    ("p50, ms", lambda row: _number(row.p50_ms, 1)),
    ("p99, ms", lambda row: _number(row.p99_ms, 1)),
    ("refused", lambda row: _number(row.refused, 0)),
    ("refusal, ms", lambda row: _number(row.refusal_ms, 1)),
    ("errors", lambda row: _number(row.errors, 0)),
    ("unanswered", lambda row: _number(row.unanswered, 0)),
    ("memory before, peak, after, MB", lambda row: _memory(row)),
    ("lag p99, ms", lambda row: _number(row.lag_p99_ms, 1)),
    ("generator, cores", lambda row: _number(row.generator_cpu, 2)),
    ("elsewhere, cores", lambda row: _number(row.elsewhere_cpu, 2)),
)
_START: tuple[Column, ...] = (
    ("server", lambda row: _name(row)),
    ("first answer, s", lambda row: _spread(row.first_answer_s, row.first_answer_low_s, row.first_answer_high_s, 2)),
    ("memory, MB", lambda row: _number(row.rss_mb, 0)),
    ("starts", lambda row: _number(row.rounds, 0)),
)
_TABLES: tuple[tuple[str, str, str, tuple[Column, ...]], ...] = (
    (
        IRIS.name,
        "iris, an MLP: closed load",
        "JSON, by wrk. `empty ASGI` has no model: it is what uvicorn alone does, and ratios are to it, round by round. "
        "The number of workers is the better one for each number of connections.",
        _NUMBERS,
    ),
    (
        FEATURES,
        "What each feature costs",
        "Shipworthy on iris at 32 connections, one worker, with one of its parts replaced by one that does nothing.",
        _FEATURES,
    ),
    (
        ROUTING,
        "From a registry, and in rollouts",
        "The same at 32 connections: from a file, then from a registry whose alias is followed, then shared between "
        "two versions, which are the same package, so that nothing else differs. A second engine halves the batches.",
        _FEATURES,
    ),
    (
        MONITORING,
        "Watched by a monitor",
        "The same at 32 connections: with `--no-monitor`, and compared with its first 1000 answers, at most 500 rows a "
        "second. Both are up, and have load in turn, two seconds each. The other "
        "tables are of servers that nobody watches, as the peers are.",
        _FEATURES,
    ),
    (
        FLOAT32.name,
        "ResNet-50, float32: closed load",
        "Bodies of 600 KB, at the best of 4, 8 and 16 connections; the first row is the same variant without a server. "
        "The number of workers is the better one of the first round, at 8 connections.",
        _PICTURES,
    ),
    (UINT8.name, "ResNet-50, uint8: closed load", "Bodies of 150 KB; the graph casts and normalises.", _PICTURES),
    (
        OPEN,
        "ResNet-50, uint8: open load",
        f"Poisson arrivals; latency counts from the intended send time, goodput is what is answered within the target. "
        f"All run `{INT8}`. Capacity is what Shipworthy answers under closed load in this run. p50 and p99 are of what "
        "was not refused; what is answered counts until the load's end.",
        _OPEN,
    ),
    (START, "Cold start, iris", "From the command to the first good answer, one worker; memory after it.", _START),
)


def _table(rows: Sequence[Result], columns: Sequence[Column]) -> str:
    titles = [title for title, _ in columns]
    lines = [_line(titles), _line(["---", *["---:"] * (len(titles) - 1)])]
    for row in rows:
        if row.error is not None and _empty(row):
            cells = [_name(row), f"failed: {_said(row.error)}", *[""] * (len(titles) - 2)]
        else:
            cells = [cell(row) for _, cell in columns]
        lines.append(_line(cells))
    notes = dict.fromkeys(note for row in rows for note in _notes(row))
    return "\n".join(lines) + ("\n\n" + "\n".join(notes) if notes else "")


def _empty(row: Result) -> bool:
    return row.rps is None and row.first_answer_s is None


def _notes(row: Result) -> list[str]:
    """A row with figures of some rounds has failed in others."""
    failed = [f"failed once or more: {row.error}"] if row.error is not None and not _empty(row) else []
    engine = f", {row.engine}" if row.engine else ""
    return [f"- {_name(row)}{engine}: {_said(text)}" for text in (row.detail, *failed) if text]


def _said(text: str) -> str:
    """In one cell or line."""
    return " ".join(text.replace("|", "/").split())


def _name(row: Result) -> str:
    name = f"{row.server}, in process" if row.workload.endswith(" in process") else row.server
    return f"**{name}**" if row.ours else name


def _workers(row: Result) -> str:
    if row.workers is None:
        return ""
    return f"{row.workers}" + (f" ({row.other_workers_rps:,.0f})" if row.other_workers_rps is not None else "")


def _memory(row: Result) -> str:
    return ", ".join(_number(value, 0) for value in (row.rss_before_mb, row.rss_peak_mb, row.rss_mb))


def _of_capacity(row: Result) -> float | None:
    return row.offered_rps / row.capacity_rps if row.offered_rps and row.capacity_rps else None


def _spread(value: float | None, low: float | None, high: float | None, digits: int) -> str:
    if value is None:
        return ""
    text = f"{value:,.{digits}f}"
    return text if low is None or high is None or low == high else f"{text} ({low:,.{digits}f}–{high:,.{digits}f})"


def _number(value: float | None, digits: int) -> str:
    return "" if value is None else f"{value:,.{digits}f}"


def _share(value: float | None) -> str:
    return "" if value is None else f"{value:.0%}"


def _line(cells: Sequence[str]) -> str:
    return "| " + " | ".join(cells) + " |"
