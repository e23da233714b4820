"""Two versions' evidence side by side: figures with their direction, verdicts of variants, what the contracts say."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

if TYPE_CHECKING:
    from ..contract import Contract
    from ..evidence import BuildRecord, CandidateResult, Evidence, MetricEvidence, ThroughputPoint
    from ..registry import Version

Unit: TypeAlias = Literal["score", "drop", "ms", "s", "MB", "/s", "×"]
Verdict: TypeAlias = Literal["better", "worse", "same", "not compared"]

_TIMES: tuple[Unit, ...] = ("ms", "s", "/s", "×")
_HIGHER_IS_BETTER: tuple[Unit, ...] = ("score", "/s", "×")
_HARDWARE = ("cpu", "cores", "memory", "devices")


@dataclass(frozen=True, slots=True)
class Side:
    """One of two versions: what the registry says of it, and what its package brings."""

    version: Version
    record: BuildRecord
    contract: Contract


@dataclass(frozen=True, slots=True)
class Value:
    """A measured number, and what bounds it or under what it was measured."""

    number: float
    note: str = ""


@dataclass(frozen=True, slots=True)
class Figure:
    """One figure of both chosen variants; what was not measured is None."""

    name: str
    unit: Unit
    a: Value | None
    b: Value | None
    verdict: Verdict
    """Of `b` against `a`, by the direction in which the figure is good."""

    @property
    def change(self) -> float | None:
        """`b` - `a` for scores and drops, else relative to `a`: 0.5 is half as much again."""
        if self.a is None or self.b is None:
            return None
        difference = self.b.number - self.a.number
        if self.unit in ("score", "drop"):
            return difference
        return difference / self.a.number if self.a.number else None


@dataclass(frozen=True, slots=True)
class Change:
    """Something that is not the same in both; empty where one does not have it."""

    what: str
    a: str
    b: str


@dataclass(frozen=True, slots=True)
class Comparison:
    a: Side
    b: Side
    figures: tuple[Figure, ...]
    variants: tuple[Change, ...]
    """Every candidate's verdict, also where it is the same."""
    contract: tuple[Change, ...]
    measured_with: tuple[Change, ...]
    notes: tuple[str, ...]


def compare(a: Side, b: Side) -> Comparison:
    """`b` against `a`. Times are compared only where both were measured on the same hardware."""
    hosts = a.record.environment.host, b.record.environment.host
    same_host = all(hosts[0].get(fact) == hosts[1].get(fact) for fact in _HARDWARE)
    measured_with = (*changes(*hosts), *changes(a.record.environment.versions, b.record.environment.versions))
    return Comparison(
        a,
        b,
        tuple(_figures(chosen(a.record), chosen(b.record), same_host)),
        tuple(_variants(a.record, b.record)),
        changes(_flat(a.contract), _flat(b.contract)),
        tuple(change for change in measured_with if change.what != "isa"),
        tuple(_notes(a, b, same_host)),
    )


def chosen(record: BuildRecord) -> CandidateResult | None:
    """The result of the chosen candidate; None where the record does not hold it."""
    return next((result for result in record.results if result.candidate.id == record.chosen), None)


def changes(a: Mapping[str, str], b: Mapping[str, str]) -> tuple[Change, ...]:
    """The entries that differ, in the order of `a` and then of `b`."""
    return tuple(Change(key, a.get(key, ""), b.get(key, "")) for key in {**a, **b} if a.get(key) != b.get(key))


def _figures(a: CandidateResult | None, b: CandidateResult | None, same_host: bool) -> Iterator[Figure]:
    of_a = {} if a is None else dict(_measured(a.evidence))
    of_b = {} if b is None else dict(_measured(b.evidence))
    for name, unit in sorted({**of_a, **of_b}, key=lambda key: _rank(key[0], list(of_a), list(of_b))):
        left, right = of_a.get((name, unit)), of_b.get((name, unit))
        yield Figure(name, unit, left, right, _verdict(left, right, unit, same_host))


def _rank(name: str, a: list[tuple[str, Unit]], b: list[tuple[str, Unit]]) -> tuple[int, int]:
    """By the kind of the figure, then by batch: a batch that only one was measured with stands between the others."""
    kinds = [key[0].split(", batch ")[0] for key in (*a, *b)]
    kind, _, batch = name.partition(", batch ")
    return kinds.index(kind), int(batch or 0)


def _verdict(a: Value | None, b: Value | None, unit: Unit, same_host: bool) -> Verdict:
    if a is None or b is None or (unit in _TIMES and not same_host):
        return "not compared"
    if a.number == b.number:
        return "same"
    return "better" if (b.number > a.number) == (unit in _HIGHER_IS_BETTER) else "worse"


def _measured(evidence: Evidence) -> Iterator[tuple[tuple[str, Unit], Value]]:
    for metric in evidence.metrics:
        yield from _quality(metric)
    if (full := throughput(evidence)) is not None:
        point = full.point
        load = f"{point.streams}×{point.batch}, {point.threads} threads"
        yield ("throughput", "/s"), Value(full.items_per_s, load)
        yield ("p99 at full load", "ms"), Value(full.p99_ms)
    for speed in evidence.speed:
        yield (f"speed × {speed.against}", "×"), Value(speed.ratio, f"≥ {speed.lower:.2f}×")
    for quantile in ("p50", "p99"):
        for at in sorted(evidence.latency, key=lambda point: point.batch):
            yield (f"{quantile}, batch {at.batch}", "ms"), Value(getattr(at, f"{quantile}_ms"))
    sizes: tuple[tuple[str, Unit, float | None], ...] = (
        ("size", "MB", evidence.size_mb),
        ("size, zipped", "MB", evidence.zipped_mb),
        ("peak memory", "MB", evidence.rss_mb),
        ("GPU memory", "MB", evidence.device_mb),
        ("time to load", "s", evidence.load_s),
    )
    for name, unit, number in sizes:
        if number is not None:
            yield (name, unit), Value(number)


def throughput(evidence: Evidence) -> ThroughputPoint | None:
    """The throughput at the best operating point, else the highest; None where it was not measured."""
    named = next((one for one in evidence.throughput if one.point == evidence.best), None)
    return named or max(evidence.throughput, key=lambda one: one.items_per_s, default=None)


def _quality(metric: MetricEvidence) -> Iterator[tuple[tuple[str, Unit], Value]]:
    yield (f"{metric.name}, {metric.split}", "score"), Value(metric.candidate, f"{metric.samples} samples")
    yield (f"drop, {metric.split}", "drop"), Value(metric.drop)
    if metric.drop_upper is not None:
        level = "" if metric.confidence is None else f"at {100 * metric.confidence:.4g} %"
        yield (f"drop at most, {metric.split}", "drop"), Value(metric.drop_upper, level)


def _variants(a: BuildRecord, b: BuildRecord) -> Iterator[Change]:
    of_a = {result.candidate.id: _said(result) for result in a.results}
    of_b = {result.candidate.id: _said(result) for result in b.results}
    for name in {**of_a, **of_b}:
        yield Change(name, of_a.get(name, ""), of_b.get(name, ""))


def _said(result: CandidateResult) -> str:
    return f"{result.verdict} by {result.gate}" if result.gate else result.verdict


def _flat(contract: Contract) -> dict[str, str]:
    """`limits.p99_ms` → `30.0`: every setting that is not as it is by default, as JSON."""
    flat: dict[str, str] = {}

    def walk(path: str, value: Any) -> None:
        if isinstance(value, dict) and value:
            for key, inner in value.items():
                walk(f"{path}.{key}" if path else key, inner)
        else:
            flat[path] = json.dumps(value, ensure_ascii=False)

    walk("", contract.model_dump(mode="json", exclude_defaults=True))
    return flat


def _notes(a: Side, b: Side, same_host: bool) -> Iterator[str]:
    if a.version.digest == b.version.digest:
        yield "both are the same package, byte for byte"
        return
    if not same_host:
        yield "measured on different hardware: times are shown, and not compared"
    else:
        yield "each was measured in its own build: small differences of times are no evidence"
    results = chosen(a.record), chosen(b.record)
    samples = [{m.split: m.samples for m in result.evidence.metrics} if result else {} for result in results]
    for split in samples[0].keys() & samples[1].keys():
        if samples[0][split] != samples[1][split]:
            yield f"the {split} data are not the same: {samples[0][split]} and {samples[1][split]} samples"
