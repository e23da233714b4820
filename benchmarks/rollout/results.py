"""What was simulated, as it is kept and as it is shown."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal, TypeAlias

Verdict: TypeAlias = Literal["promote", "rollback"]


@dataclass(frozen=True)
class Power:
    """Rollouts of one kind, and what one true difference leads to."""

    setting: str
    """Such as `shadow, 5 % disagree`."""
    difference: float
    """Mean loss of the new version less the old one's."""
    runs: int
    limit: int
    promoted: int
    rolled_back: int
    median: float | None
    """Samples until the verdict; None where that is beyond the limit."""
    low: float
    """A tenth of the runs takes less."""
    high: float | None
    """A tenth of the runs takes more."""

    @property
    def undecided(self) -> int:
        return self.runs - self.promoted - self.rolled_back


@dataclass(frozen=True)
class Rate:
    """Wrong verdicts at the boundary."""

    setting: str
    verdict: Verdict
    experiments: int
    samples: int
    wrong: int
    low: float
    high: float
    """95 % interval of the rate (Clopper and Pearson)."""
    naive: float
    """Rate of a z-test that is looked at as often."""


@dataclass(frozen=True)
class Delay:
    """Until the guardrail of errors fires on a ramp."""

    base: float
    """Error rate of the old version."""
    times: float
    """The new one's, as a multiple of it."""
    runs: int
    limit: int
    silent: int
    """Runs in which it did not fire within the limit."""
    median: float | None
    """Requests to both versions; None where that is beyond the limit."""
    errors: float
    """Errors of the new version by then, median."""


@dataclass(frozen=True)
class Found:
    """Everything that one run of the benchmark found."""

    power: Sequence[Power]
    rates: Sequence[Rate]
    delays: Sequence[Delay]
    about: dict[str, Any]


def write(folder: Path, found: Found) -> None:
    """results.json and results.md."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "results.json").write_text(json.dumps(asdict(found), indent=1) + "\n")
    (folder / "results.md").write_text(text(found))


def text(found: Found) -> str:
    power, about = found.power, found.about
    parts = [
        "# Rollouts, simulated",
        f"Made by `{about['command']}` on {about['date']}, in {about['seconds']} s; seed {about['seed']}.",
        f"## Samples until a verdict, delta {about['delta']:g}, alpha .05 each",
        "Median, and what a tenth of the runs takes less and more than. "
        f"{about['runs']} runs a cell, looked at after every sample. Loss of the old version in canaries: .10. "
        "Points: mean loss of the new version less the old one's, times 100.",
        power_table(power),
        "## Samples of a canary over those of a shadow",
        "Ratio of medians.",
        ratio_table(power),
        "## Wrong verdicts at the boundary",
        "The true difference is delta; looked at after every sample. In brackets the 95 % interval.",
        rate_table(found.rates),
        "## Requests until the guardrail of errors fires, alpha .01",
        "On the ramp; requests to both versions, and the errors of the new one by then, medians.",
        delay_table(found.delays),
    ]
    return "\n\n".join(parts) + "\n"


def power_table(cells: Sequence[Power]) -> str:
    differences = sorted({cell.difference for cell in cells})
    rows = [["points", *(f"{100 * difference:+g}".replace("+0", "0") for difference in differences)]]
    for setting in dict.fromkeys(cell.setting for cell in cells):
        found = {cell.difference: cell for cell in cells if cell.setting == setting}
        rows.append([setting, *(_samples(found.get(difference)) for difference in differences)])
    return _table(rows)


def ratio_table(cells: Sequence[Power]) -> str:
    differences = sorted({cell.difference for cell in cells})
    medians = {(cell.setting, cell.difference): cell.median for cell in cells}
    shadows = [name for name in dict.fromkeys(cell.setting for cell in cells) if name.startswith("shadow")]
    canaries = [name for name in dict.fromkeys(cell.setting for cell in cells) if name.startswith("canary")]
    rows = [["points", *(f"{100 * difference:+g}".replace("+0", "0") for difference in differences)]]
    for canary in canaries:
        for shadow in shadows:
            pairs = [(medians.get((canary, one)), medians.get((shadow, one))) for one in differences]
            rows.append(
                [f"{canary} / {shadow}", *(f"{now / then:.1f}" if now and then else "–" for now, then in pairs)]
            )
    return _table(rows)


def rate_table(rates: Sequence[Rate]) -> str:
    rows = [["stream", "wrong verdict", "samples", "evidence", "z-test, looked at as often"]]
    rows += [
        [
            rate.setting,
            rate.verdict,
            f"{rate.samples:,}",
            f"{rate.wrong / rate.experiments:.3f} ({rate.low:.3f}–{rate.high:.3f})",
            f"{rate.naive:.2f}",
        ]
        for rate in rates
    ]
    return _table(rows)


def delay_table(delays: Sequence[Delay]) -> str:
    rows = [["errors of the old version", "of the new one", "requests", "errors of the new one", "silent"]]
    rows += [
        [
            f"{100 * delay.base:g} %",
            f"× {delay.times:g}",
            f"over {delay.limit:,}" if delay.median is None else f"{delay.median:,.0f}",
            "–" if delay.median is None else f"{delay.errors:,.0f}",
            f"{delay.silent / delay.runs:.0%} within {delay.limit:,}".replace("%", " %"),
        ]
        for delay in delays
    ]
    return _table(rows)


def _samples(cell: Power | None) -> str:
    if cell is None:
        return "–"
    beyond = f"over {cell.limit:,}"
    if cell.median is None:
        return f"undecided within {cell.limit:,} ({cell.undecided} of {cell.runs})"
    return f"{cell.median:,.0f} ({cell.low:,.0f}–{beyond if cell.high is None else f'{cell.high:,.0f}'})"


def _table(rows: Sequence[Sequence[str]]) -> str:
    lines = ["| " + " | ".join(row) + " |" for row in rows]
    return "\n".join([lines[0], "|---|" + "--:|" * (len(rows[0]) - 1), *lines[1:]])
