"""What was found, as it is kept and as it is shown."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import Any

import numpy as np

from .cells import NONE, RATE, Seen
from .streams import CAP, REFERENCE

OURS = "Shipworthy, both"


@dataclass(frozen=True)
class Result:
    """One detector at one setting in one cell."""

    data: str
    shift: str
    share: float
    """Of the requests that are affected."""
    detector: str
    ours: bool
    setting: str
    """`own`, or `equal`: tuned to the same rate of false alarms as all others."""
    false_alarm: float
    """Share of undrifted streams that alarm within CAP samples."""
    power: float
    """Share of streams in which the shift is seen within CAP samples."""
    median_delay: float
    """Samples; CAP where it is not seen in half of the streams."""
    memory_kb: float | None
    """What is held between two samples, pickled, in 1000 bytes."""
    us_per_sample: float | None
    seeds: int
    threshold: float


@dataclass(frozen=True)
class Cost:
    memory_kb: float
    us_per_sample: float


def rows(seen: Sequence[Seen]) -> list[Result]:
    """In the order of `seen`."""
    false = {(each.data, each.detector, each.setting): _power(each) for each in seen if each.shift == NONE}
    found = []
    for each in seen:
        found.append(
            Result(
                data=each.data,
                shift=each.shift,
                share=each.share,
                detector=each.detector,
                ours=each.ours,
                setting=each.setting,
                false_alarm=false[each.data, each.detector, each.setting],
                power=_power(each),
                median_delay=float(np.median(np.minimum(each.delays, CAP))),
                memory_kb=None,
                us_per_sample=None,
                seeds=len(each.delays),
                threshold=each.threshold,
            )
        )
    return found


def priced(found: Sequence[Result], costs: Mapping[str, Mapping[str, Cost]]) -> list[Result]:
    """With the costs of each detector, by data and name."""
    priced = []
    for row in found:
        known = costs.get(row.data, {})
        # A setting may add to the name.
        name = max((name for name in known if row.detector.startswith(name)), key=len, default=None)
        priced.append(row if name is None else replace(row, **asdict(known[name])))
    return priced


def _power(seen: Seen) -> float:
    return float(np.mean(np.array(seen.delays) <= CAP))


def write(folder: Path, found: Sequence[Result], environment: Mapping[str, Any]) -> None:
    """results.json and results.md."""
    folder.mkdir(parents=True, exist_ok=True)
    kept = {"environment": dict(environment), "rows": [asdict(each) for each in found]}
    (folder / "results.json").write_text(json.dumps(kept, indent=1) + "\n")
    (folder / "results.md").write_text(text(found, environment))


def read(file: Path) -> tuple[list[Result], dict[str, Any]]:
    kept = json.loads(file.read_text())
    names = {field.name for field in fields(Result)}
    return [Result(**{name: row[name] for name in names}) for row in kept["rows"]], kept["environment"]


@dataclass(frozen=True)
class Overall:
    """Geometric means over the shifts and shares that a detector has rows of."""

    delay: float
    """Of its median delays."""
    to_ours: float
    """Of the ratios to ours in the same cells."""


def overall(found: Sequence[Result]) -> dict[str, Overall]:
    """By detector, the soonest first; of rows of one setting."""
    delays: dict[str, dict[tuple[str, str, float], float]] = {}
    for each in found:
        if each.shift != NONE:
            delays.setdefault(each.detector, {})[each.data, each.shift, each.share] = each.median_delay
    means = {}
    for name, own in delays.items():
        delay = _geometric(own.values())
        means[name] = Overall(delay, delay / _geometric(delays[OURS][cell] for cell in own))
    return dict(sorted(means.items(), key=lambda pair: pair[1].to_ours))


def _geometric(values: Iterable[float]) -> float:
    logs = [math.log(value) for value in values]
    return math.exp(math.fsum(logs) / len(logs))


@dataclass(frozen=True)
class Behind:
    """A peer that sees a shift more often than ours."""

    ours: Result
    peer: Result

    @property
    def errors(self) -> float:
        """The difference in standard errors."""
        return (self.peer.power - self.ours.power) / _error(self.ours, self.peer)


def behind(found: Sequence[Result], errors: float = 3.0) -> list[Behind]:
    """Where ours, as both run beside each other, have less power than a peer by more than so many standard errors."""
    pairs = []
    for cell in dict.fromkeys((each.data, each.shift, each.share) for each in found if each.shift != NONE):
        here = [each for each in found if (each.data, each.shift, each.share) == cell]
        own = next(each for each in here if each.detector == OURS)
        pairs += [Behind(own, peer) for peer in here if not peer.ours]
    return [pair for pair in pairs if pair.errors > errors]


def _error(one: Result, other: Result) -> float:
    """Of a difference of shares; half a seed is added to either side, so that it is never nothing."""
    shares = [((each.power * each.seeds + 0.5) / (each.seeds + 1), each.seeds) for each in (one, other)]
    return math.sqrt(math.fsum(share * (1 - share) / seeds for share, seeds in shares))


def text(found: Sequence[Result], environment: Mapping[str, Any]) -> str:
    equal = [each for each in found if each.setting == "equal"]
    own = [each for each in found if each.setting == "own"]
    seeds = max(each.seeds for each in found if each.shift != NONE)
    parts = [
        "# Drift",
        f"Made by `{environment['command']}` on {environment['date']}, in {environment['seconds']} s.",
        f"References of {REFERENCE:,} samples, streams of {CAP:,}, {seeds} seeds; the change is at the first sample. "
        "A shift that is not seen counts as the cap. Rows `equal` are tuned, each on undrifted streams of their own, "
        f"so that {RATE:.0%} of undrifted streams alarm; rows `own` are at their own settings.".replace("%", " %"),
        "## In short",
        _short(equal),
        *(part for data in dict.fromkeys(each.data for each in found) for part in _delays(equal, data)),
        "## At their own settings",
        "False alarms: the share of undrifted streams that alarm within the cap. Seen: the share of streams in which "
        "the shift is seen, the mean over all shifts. A detector that alarms without a shift sees everything.",
        _own(own),
        "## Cost",
        "Of the libraries as they are, on one core, without making the columns; in brackets relative to ours.",
        _costs(equal),
    ]
    return "\n\n".join(part for part in parts if part) + "\n"


def _short(equal: Sequence[Result]) -> str:
    best = [["detector, equal rate", "delay", "to ours", "power", "false alarms"]]
    for name, mean in overall(equal).items():
        mine = [each for each in equal if each.detector == name and each.shift != NONE]
        numbers = [np.mean([each.power for each in mine]), np.mean([each.false_alarm for each in mine])]
        shown = [f"{mean.delay:,.0f}", f"{mean.to_ours:.2f}", f"{numbers[0]:.2f}", f"{numbers[1]:.3f}"]
        best.append([_bold(name, mine[0].ours), *shown])
    lost = [
        f"- {pair.peer.data}, {pair.peer.shift}, share {pair.peer.share:g}: {pair.peer.detector} sees "
        f"{pair.peer.power:.2f}, ours {pair.ours.power:.2f} ({pair.errors:.1f} standard errors)"
        for pair in sorted(behind(equal), key=lambda pair: -pair.errors)
    ]
    said = "No peer has more power for any shift by over 3 standard errors."
    if lost:
        said = "A peer has more power than ours by over 3 standard errors:\n\n" + "\n".join(lost)
    words = (
        "Delay: geometric mean of the median delays over all shifts and shares; to ours: the same as a ratio, over the "
        "shifts that the detector is for. Power and false alarms: means."
    )
    return "\n\n".join(part for part in (words, _table(best), said, _unseen(equal)) if part)


def _unseen(equal: Sequence[Result]) -> str:
    cells = dict.fromkeys((each.data, each.shift, each.share) for each in equal if each.shift != NONE)
    most = {cell: max(each.power for each in equal if (each.data, each.shift, each.share) == cell) for cell in cells}
    words = [f"{data}, {shift}, share {share:g}" for (data, shift, share), power in most.items() if power < 0.5]
    return "No detector sees these in half of the streams: " + "; ".join(words) + "." if words else ""


def _delays(equal: Sequence[Result], data: str) -> list[str]:
    here = [each for each in equal if each.data == data]
    cells = list(dict.fromkeys((each.shift, each.share) for each in here if each.shift != NONE))
    shares = list(dict.fromkeys(share for _, share in cells))
    parts = []
    for share in shares:
        shifts = [shift for shift, each in cells if each == share]
        table = [["detector", *shifts]]
        for name in dict.fromkeys(each.detector for each in here):
            own = {each.shift: each for each in here if each.detector == name and each.share == share}
            table.append([_bold(name, own[shifts[0]].ours), *(_delay(own[shift]) for shift in shifts)])
        parts += [f"### {data}, {share:.0%} affected".replace("%", " %"), _table(table)]
    return [f"## {data}: median delay in samples at equal rate, and power where it is below 1", *parts]


def _delay(one: Result) -> str:
    delay = f"{one.median_delay:,.0f}" if one.median_delay < CAP else f"over {CAP:,}"
    return delay if one.power == 1 else f"{delay} ({one.power:.2f})"


def _own(own: Sequence[Result]) -> str:
    datas = list(dict.fromkeys(each.data for each in own))
    table = [["detector", *(f"{data}: false alarms, seen" for data in datas)]]
    for name in dict.fromkeys(each.detector for each in own):
        cells = [name]
        for data in datas:
            mine = [each for each in own if (each.detector, each.data) == (name, data) and each.shift != NONE]
            seen = np.mean([each.power for each in mine]) if mine else None
            cells.append("–" if seen is None else f"{mine[0].false_alarm:.3f}, {seen:.2f}")
        table.append([_bold(cells[0], any(each.ours for each in own if each.detector == name)), *cells[1:]])
    return _table(table)


def _costs(equal: Sequence[Result]) -> str:
    datas = list(dict.fromkeys(each.data for each in equal if each.us_per_sample is not None))
    if not datas:
        return "Not measured in this run."
    table = [["detector", *(f"{data}: µs a sample, kB" for data in datas)]]
    for name in dict.fromkeys(each.detector for each in equal):
        cells = [_bold(name, any(each.ours for each in equal if each.detector == name))]
        for data in datas:
            mine = [each for each in equal if (each.detector, each.data) == (name, data) and each.us_per_sample]
            cells.append(f"{mine[0].us_per_sample:,.2f}, {mine[0].memory_kb:,.0f}" if mine else "–")
        table.append(cells)
    return _table(table)


def _bold(name: str, ours: bool) -> str:
    return f"**{name}**" if ours else name


def _table(lines: Sequence[Sequence[str]]) -> str:
    shown = ["| " + " | ".join(line) + " |" for line in lines]
    return "\n".join([shown[0], "|---|" + "--:|" * (len(lines[0]) - 1), *shown[1:]])
