"""Operations and regions, summed over all profiled runs."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence

from .calls import Call, Calls
from .report import Inside, OperatorRow, RegionRow

_OPERATIONS = ("heavy", "operator")


def operator_rows(calls: Calls) -> tuple[OperatorRow, ...]:
    """Every operation by its name and shapes, the one with the most time of its own first."""
    groups: defaultdict[tuple[str, tuple[tuple[int, ...], ...]], list[tuple[Call, int]]] = defaultdict(list)
    for root in _outermost(calls):
        for call, flops in _with_flops(root):
            groups[call.name, call.shapes].append((call, flops))
    rows = [_row(calls, name, shapes, group) for (name, shapes), group in groups.items()]
    return tuple(sorted(rows, key=lambda row: (-row.self_us, row.name, row.shapes)))


def _outermost(calls: Calls) -> Iterator[Call]:
    """Operations that no other operation calls."""
    inner: set[int] = set()
    for call in calls.all():
        if call.kind in _OPERATIONS:
            if id(call) not in inner:
                yield call
            inner.update(id(child) for child in call.inside)


def _with_flops(root: Call) -> Iterator[tuple[Call, int]]:
    """The operation and all that it calls, each with the operations that it computes itself.

    The profiler gives them to the call that has a formula, such as `conv2d`, and the time to the one that does the
    work far inside: they go down to it."""
    pending = [(root, 0)]
    while pending:
        call, above = pending.pop()
        given = call.flops or above
        heavy = max((inner for inner in call.inside if inner.kind == "heavy"), key=lambda one: one.us, default=None)
        yield call, 0 if heavy else given
        pending += [(inner, given if inner is heavy else 0) for inner in call.inside]


def _row(
    calls: Calls, name: str, shapes: tuple[tuple[int, ...], ...], group: Sequence[tuple[Call, int]]
) -> OperatorRow:
    steps = calls.steps
    flops = round(sum(flops for _, flops in group) / steps)
    return OperatorRow(
        name=name,
        shapes=shapes,
        calls=len(group) / steps,
        self_us=sum(call.own_us for call, _ in group) / steps,
        total_us=sum(call.us for call, _ in group) / steps,
        cuda_us=sum(call.own_cuda_us for call, _ in group) / steps if calls.on_cuda else None,
        bytes=round(sum(call.bytes for call, _ in group) / steps),
        flops=flops or None,
        heavy=group[0][0].kind == "heavy",
    )


def region_rows(calls: Calls) -> tuple[RegionRow, ...]:
    """Every region of the user's own by its name, the longest first."""
    groups: defaultdict[str, list[Call]] = defaultdict(list)
    for call in calls.all():
        if call.kind == "region":
            groups[call.name].append(call)
    rows = [_region(calls, name, group) for name, group in groups.items()]
    return tuple(sorted(rows, key=lambda row: (-row.us, row.name)))


def _region(calls: Calls, name: str, group: Sequence[Call]) -> RegionRow:
    steps = calls.steps
    within = [call for one in group for call in one.walk()]
    times: defaultdict[str, list[float]] = defaultdict(list)
    for call in within:
        if call.kind in _OPERATIONS:
            times[call.name].append(call.own_us)
    inside = [Inside(name=op, calls=len(us) / steps, self_us=sum(us) / steps) for op, us in times.items()]
    flops = round(sum(call.flops for call in within) / steps)
    return RegionRow(
        name=name,
        calls=len(group) / steps,
        us=sum(call.us for call in group) / steps,
        cuda_us=sum(call.cuda_us for call in group) / steps if calls.on_cuda else None,
        bytes=round(sum(call.bytes for call in within) / steps),
        flops=flops or None,
        inside=tuple(sorted(inside, key=lambda row: (-row.self_us, row.name))),
    )
