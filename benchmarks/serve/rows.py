"""What a race gave, as rows."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import replace

from .race import Contender, chosen, grouped
from .results import Result


def by_connections(
    workload: str, contenders: Sequence[Contender], connections: Sequence[int], *, base: str | None = None
) -> list[Result]:
    """A row for each server and number of connections, with the better number of workers there; `ratio` is to the row
    of the server `base`, round by round. Those that were not tried yet have none."""
    based = [one for one in contenders if one.name == base and one.slices]
    rows = []
    for group in grouped(contenders):
        ran = [one for one in group if one.slices]
        if not ran:
            rows += _failed(workload, group)
        for count in connections if ran else ():
            best = _better(ran, count)
            others = [one for one in group if one is not best]
            row = replace(row_of(workload, best, count, others), other_workers_rps=_most(others, count))
            detail = "; ".join(filter(None, (row.detail, _alone(others) if count == 1 else "")))
            against = ratio(best, count, _better(based, count).rates(count)) if based else None
            rows.append(replace(row, detail=detail, ratio=against))
    return rows


def at_best(workload: str, contenders: Sequence[Contender], first: int) -> list[Result]:
    """A row for each server and engine: with the number of workers that was the better one in the first round, which
    had `first` connections, and at its best number of connections."""
    rows = []
    for group in grouped(contenders):
        ran = [one for one in group if one.slices]
        if not ran:
            rows += _failed(workload, group)
        for best in chosen(ran, first):
            others = [one for one in group if one is not best]
            rows.append(replace(row_of(workload, best, best.best, others), other_workers_rps=_most(others, first)))
    return rows


def row_of(workload: str, one: Contender, count: int, others: Sequence[Contender] = ()) -> Result:
    """The medians of its rounds at `count` connections, which it has."""
    found = list(one.slices[count].values())
    p50, p99 = [each.p50_ms for each in found], [each.p99_ms for each in found]
    elsewhere = [each.elsewhere_cpu for each in found if each.elsewhere_cpu is not None]
    return replace(
        _plain(workload, one),
        workers=one.workers,
        connections=count,
        rps=one.rate(count),
        rps_low=min(each.rps for each in found),
        rps_high=max(each.rps for each in found),
        p50_ms=statistics.median(p50),
        p50_low_ms=min(p50),
        p50_high_ms=max(p50),
        p99_ms=statistics.median(p99),
        p99_low_ms=min(p99),
        p99_high_ms=max(p99),
        first_answer_s=statistics.median(one.firsts) if one.firsts else None,
        first_answer_low_s=min(one.firsts, default=None),
        first_answer_high_s=max(one.firsts, default=None),
        elsewhere_cpu=statistics.median(elsewhere) if elsewhere else None,
        errors=sum(each.errors for each in found),
        rounds=len(found),
        rss_mb=statistics.median(one.rss_mb) if one.rss_mb else None,
        detail="; ".join(f"with {_workers(other)}: {other.error}" for other in others if other.error is not None),
        error=one.error,
    )


def ratio(one: Contender, count: int, base: Mapping[int, float]) -> float | None:
    """Of its answers per second to those of `base`, by the round: the median of the rounds that both have."""
    found = [rps / base[number] for number, rps in one.rates(count).items() if base.get(number)]
    return statistics.median(found) if found else None


def _failed(workload: str, group: Sequence[Contender]) -> list[Result]:
    errors = [f"with {_workers(one)}: {one.error}" for one in group if one.error is not None]
    return [replace(_plain(workload, group[0]), error="; ".join(errors))] if errors else []


def _plain(workload: str, one: Contender) -> Result:
    return Result(workload, one.name, one.server.ours, engine=one.engine if one.server.has_model else None)


def _better(contenders: Sequence[Contender], count: int) -> Contender:
    return max(contenders, key=lambda one: one.rate(count))


def _most(others: Sequence[Contender], count: int) -> float | None:
    return max((other.rate(count) for other in others if count in other.slices), default=None)


def _alone(others: Sequence[Contender]) -> str:
    """With one connection a number of workers is chosen for its latency: the others' stands beside it."""
    return "; ".join(
        f"at 1 connection with {_workers(other)}: p50 {row_of('', other, 1).p50_ms:.2f} ms"
        for other in others
        if 1 in other.slices
    )


def _workers(one: Contender) -> str:
    return f"{one.workers} worker{'s' if one.workers > 1 else ''}"
