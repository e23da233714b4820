"""The rows of the results: as JSON, and as Markdown tables."""

from __future__ import annotations

import json
import platform
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, fields
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path

from .rows import OLIVE_SECONDS, OLIVE_TRIALS
from .subject import SUBJECTS

_VERSIONS = ("torch", "openvino", "nncf", "onnxruntime", "onnx", "torchao", "transformers", "numpy")


@dataclass(frozen=True)
class Result:
    """One row of one model. What was not reached is None."""

    model: str
    row: str
    ours: bool
    batch1_ms: float | None = None
    """Median latency of a lone request, interleaved with all other rows."""
    throughput: float | None = None
    """Samples per second at the row's best operating point."""
    ratio_to_eager: float | None = None
    """At the best points of both: geometric mean over interleaved rounds."""
    ratio_low: float | None = None
    ratio_high: float | None = None
    """95 % interval."""
    batch1_ratio: float | None = None
    """One request at a time, against eager at its best batch size."""
    batch1_ratio_low: float | None = None
    batch1_ratio_high: float | None = None
    batch1_ratio_to_batch1: float | None = None
    """One request at a time, against eager one request at a time."""
    metric_drop: float | None = None
    """Accuracy of eager less that of the row, on the holdout; None where the weights are random."""
    metric_drop_upper: float | None = None
    """What the build has proven of it."""
    confidence: float | None = None
    holdout: int | None = None
    """Samples of the holdout."""
    samples_needed: int | None = None
    """To prove the contract's limit, where the holdout does not."""
    sqnr_db: float | None = None
    """Of the first output against eager's, on the timed samples."""
    size_mb: float | None = None
    rss_mb: float | None = None
    """Peak of the process that served the row's rounds."""
    build_s: float | None = None
    peak_share: float | None = None
    """Share of the machine's matrix peak, as the same engine reaches it in the same precision."""
    precision: str | None = None
    point: str | None = None
    rounds: int | None = None
    detail: str = ""
    error: str | None = None
    model_s: float | None = None
    """Seconds that all rows of the model took together: made, surveyed and raced."""


def read(path: Path) -> list[Result]:
    return [Result(**row) for row in json.loads(path.read_text())] if path.exists() else []


def merged(kept: Iterable[Result], new: Sequence[Result]) -> list[Result]:
    """The rows of each model as the newest run has them, in the order of the models."""
    fresh = {row.model for row in new}
    order = {subject.name: number for number, subject in enumerate(SUBJECTS)}
    rows = [*(row for row in kept if row.model not in fresh), *new]
    return sorted(rows, key=lambda row: order.get(row.model, len(order)))


def write(folder: Path, rows: Sequence[Result], peaks: dict[str, float], made_by: str) -> None:
    """results.json, and results.md with the machine, the versions and what it was made by: a command in backticks."""
    folder.mkdir(parents=True, exist_ok=True)
    _replace(folder / "results.json", json.dumps([asdict(row) for row in rows], indent=1) + "\n")
    _replace(folder / "results.md", markdown(rows, peaks, made_by))


def _replace(path: Path, text: str) -> None:
    unfinished = path.with_suffix(path.suffix + ".new")
    unfinished.write_text(text)
    unfinished.replace(path)


def markdown(rows: Sequence[Result], peaks: dict[str, float], made_by: str) -> str:
    titles = {subject.name: subject.title for subject in SUBJECTS}
    parts = [
        "# Optimisation, side by side",
        f"Made by {made_by} on {datetime.now(UTC):%Y-%m-%d}. {_machine()}",
        _LEGEND.format(trials=OLIVE_TRIALS, seconds=OLIVE_SECONDS),
    ]
    for model in dict.fromkeys(row.model for row in rows):
        own = [row for row in rows if row.model == model]
        parts += [f"## {titles.get(model, model)}", _table(own)]
        if own[0].model_s is not None:
            parts.append(f"All rows together took {own[0].model_s / 60:.1f} minutes.")
    if peaks:
        parts += ["## The machine's matrix peak", _peak_table(peaks)]
    return "\n\n".join(parts) + "\n"


_LEGEND = """Ratios are to eager at its own best batch size, over interleaved rounds, with a 95 % interval.
`1 at a time` is one request after another, against eager at its best batch size as well. Size is of the deployed files,
memory the peak of the serving process, build the whole time from the trained model. Peak share: multiply-accumulates
per second against large matrix products in the same engine and precision; it may exceed 100 % where a convolution needs
fewer multiplications than are counted (Winograd). Drop: accuracy against eager on the holdout, and what the build has
proven of it. Olive's search has at most {trials} trials, of which none begins after {seconds} s."""

_HEAD = (
    "row",
    "precision",
    "1 request, ms",
    "1 at a time",
    "best, samples/s",
    "ratio to eager",
    "best point",
    "drop, points",
    "SQNR, dB",
    "size, MB",
    "memory, MB",
    "build, s",
    "peak share",
)


def _table(rows: Sequence[Result]) -> str:
    lines = [_line(_HEAD), _line(("---",) + ("---:",) * (len(_HEAD) - 1))]
    lines += [_line(_cells(row)) for row in rows]
    notes = [f"- {_name(row)}: {row.detail}" for row in rows if row.detail]
    return "\n".join(lines) + ("\n\n" + "\n".join(notes) if notes else "")


def _cells(row: Result) -> tuple[str, ...]:
    if row.error is not None:
        return (_name(row), f"failed: {row.error.replace('|', '/')}", *("",) * (len(_HEAD) - 2))
    return (
        _name(row),
        row.precision or "",
        _number(row.batch1_ms, 2),
        _spread(row.batch1_ratio, row.batch1_ratio_low, row.batch1_ratio_high),
        _number(row.throughput, 1),
        _spread(row.ratio_to_eager, row.ratio_low, row.ratio_high),
        row.point or "",
        _drop(row),
        _number(row.sqnr_db, 1),
        _number(row.size_mb, 2),
        _number(row.rss_mb, 0),
        _number(row.build_s, 1),
        "" if row.peak_share is None else f"{row.peak_share:.0%}",
    )


def _name(row: Result) -> str:
    return f"**{row.row}**" if row.ours else row.row


def _drop(row: Result) -> str:
    if row.metric_drop is None:
        return ""
    text = f"{100 * row.metric_drop:+.2f}"
    if row.metric_drop_upper is not None:
        text += f" (≤ {100 * row.metric_drop_upper:.2f} at {row.confidence or 0:.2%})"
    if row.samples_needed is not None:
        text += f", {row.samples_needed:,} samples needed"
    return text


def _spread(mean: float | None, low: float | None, high: float | None) -> str:
    if mean is None:
        return ""
    return f"{mean:.2f}" if low is None or high is None else f"{mean:.2f} ({low:.2f}–{high:.2f})"


def _number(value: float | None, digits: int) -> str:
    return "" if value is None else f"{value:,.{digits}f}"


def _line(cells: Sequence[str]) -> str:
    return "| " + " | ".join(cells) + " |"


def _peak_table(peaks: dict[str, float]) -> str:
    lines = [_line(("engine and precision", "10⁹ MAC/s")), _line(("---", "---:"))]
    return "\n".join([*lines, *(_line((name, f"{rate / 1e9:,.0f}")) for name, rate in peaks.items())])


def _machine() -> str:
    import psutil

    return (
        f"{_processor()}, {psutil.cpu_count()} processors of which 2 are used, "
        f"{psutil.virtual_memory().total / 2**30:.0f} GiB, {platform.system()} {platform.release()}, "
        f"Python {platform.python_version()}; " + ", ".join(f"{name} {metadata.version(name)}" for name in _VERSIONS)
    )


def _processor() -> str:
    from shipworthy.runtime import this_host

    host = this_host()
    telling = [flag for flag in sorted(host.isa) if flag.startswith(("avx512_vnni", "avx512_bf16", "amx"))]
    return host.cpu + (f" ({', '.join(telling)})" if telling else "")


FIELDS = tuple(field.name for field in fields(Result))
