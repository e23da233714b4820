"""A profile as tables for the terminal, narrow enough for 80 columns."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

from rich.box import SIMPLE_HEAD
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from . import figures
from .report import EngineProfile, ModuleRow, OperatorRow, ProfileReport, TorchProfile

_NAME = 28
"""Characters of the first column; longer names are cut in the middle, because their ends tell them apart."""

_PATH = 24
"""Of a module's path, of which the end tells most."""


def render_tables(report: ProfileReport, top: int) -> Group:
    parts: list[RenderableType] = []
    if report.torch is not None:
        parts += _torch(report.torch, top)
    for engine in report.engines:
        parts += _engine(engine, top)
    parts += [Text(f"{one.name}: not timed: {one.why}", style="dim") for one in report.untold]
    return Group(*parts)


def _torch(found: TorchProfile, top: int) -> Iterator[RenderableType]:
    yield _headline(found)
    cuda = found.cuda is not None
    own = _operators(found.operators[:top], found, cuda)
    yield from _titled("operators by their own time on the processor", own)
    if cuda:
        by_cuda = sorted(found.operators, key=lambda row: -(row.cuda_us or 0))[:top]
        yield from _titled("operators by time on the CUDA device", _operators(by_cuda, found, cuda))
    by_memory = [row for row in sorted(found.operators, key=lambda row: -row.bytes) if row.bytes > 0]
    yield from _titled("operators by the memory that they allocate", _memory(by_memory[:top]))
    if found.regions:
        yield from _titled("regions of your own", _regions(found, top, cuda))
    note = "time, parameters, bytes and FLOPs are with children; own and share without"
    shared = "; * shares weights" if any(row.shared for row in found.modules) else ""
    yield from _titled("modules by their own time", _modules(found, top, cuda), note + shared)


def _headline(found: TorchProfile) -> Text:
    feeds = ", ".join(f"{name} {shape}" for name, shape in found.feeds.items())
    lines = [
        f"PyTorch on {found.device}, {figures.threads(found.threads)}, fed {feeds}",
        f"one run: {figures.duration(found.run_us)}, {figures.duration(found.profiled_us)} under the profiler "
        f"(the faster {found.counted} of {found.steps})",
        f"{figures.count(found.parameters)} parameters, {figures.size(found.bytes)} with buffers; "
        f"{figures.flops(found.flops)} FLOPs; {figures.size(found.peak_bytes)} held at once",
    ]
    if found.cuda is not None:
        memory = found.cuda
        lines.append(
            f"{memory.device}: {figures.size(memory.allocated)} allocated, {figures.size(memory.reserved)} reserved, "
            f"{figures.size(memory.peak_allocated)} at the peak"
        )
    if found.uncounted:
        lines.append(f"no formula for the FLOPs of {', '.join(found.uncounted)}")
    return Text("\n".join(lines))


def _table(first: str, *numbers: str) -> Table:
    table = Table(box=SIMPLE_HEAD, pad_edge=False)
    table.add_column(first, no_wrap=True)
    for name in numbers:
        table.add_column(name, justify="right", no_wrap=True)
    return table


def _titled(title: str, table: Table, note: str = "") -> Iterator[RenderableType]:
    yield Text(f"\n{title}", style="bold")
    yield table
    if note:
        yield Text(note, style="dim")


def _yielding(text: str) -> Text:
    """A cell that is cut where there is no room. In a column that may wrap, it gives way before all others."""
    return Text(text, style="dim", no_wrap=True, overflow="ellipsis")


def _operators(rows: Sequence[OperatorRow], found: TorchProfile, cuda: bool) -> Table:
    table = _table("operator", "calls", "own", "share", *(["CUDA"] if cuda else []), "FLOPs")
    table.add_column("shapes")
    total = sum(row.self_us for row in found.operators)
    for row in rows:
        table.add_row(
            _operator(row),
            f"{row.calls:g}",
            figures.duration(row.self_us),
            figures.share(row.self_us, total),
            *([figures.duration(row.cuda_us)] if cuda else []),
            figures.flops(row.flops),
            _yielding(figures.shapes(row.shapes, 2)),
        )
    return table


def _operator(row: OperatorRow) -> Text:
    return Text(cut(row.name.removeprefix("aten::"), _NAME), style="bold" if row.heavy else "")


def _memory(rows: Sequence[OperatorRow]) -> Table:
    table = _table("operator", "calls", "bytes")
    table.add_column("shapes")
    for row in rows:
        shapes = _yielding(figures.shapes(row.shapes, 2))
        table.add_row(_operator(row), f"{row.calls:g}", figures.size(row.bytes), shapes)
    return table


def _regions(found: TorchProfile, top: int, cuda: bool) -> Table:
    table = _table("region", "calls", "time", "share", *(["CUDA"] if cuda else []), "FLOPs", "bytes")
    table.add_column("most of it")
    for row in found.regions[:top]:
        table.add_row(
            Text(cut(row.name, _NAME)),
            f"{row.calls:g}",
            figures.duration(row.us),
            figures.share(row.us, found.profiled_us),
            *([figures.duration(row.cuda_us)] if cuda else []),
            figures.flops(row.flops),
            figures.size(row.bytes),
            _yielding(row.inside[0].name.removeprefix("aten::") if row.inside else ""),
        )
    return table


def _modules(found: TorchProfile, top: int, cuda: bool) -> Table:
    table = _table("module", "time", "own", "share", *(["CUDA"] if cuda else []), "param.", "bytes", "FLOPs")
    for row in slowest(found.modules)[:top]:
        table.add_row(
            Text(_end(row.path or row.kind, _PATH)),
            figures.duration(row.us),
            figures.duration(row.own_us),
            figures.share(row.own_us, found.profiled_us),
            *([figures.duration(row.cuda_us)] if cuda else []),
            figures.count(row.parameters) + ("*" if row.shared else ""),
            figures.size(row.bytes),
            figures.flops(row.flops),
        )
    return table


def slowest(modules: Iterable[ModuleRow]) -> list[ModuleRow]:
    """By their own time, which no two modules have in common."""
    return sorted(modules, key=lambda row: (-row.own_us, row.path))


def _engine(found: EngineProfile, top: int) -> Iterator[RenderableType]:
    point = found.point
    streams = f"{point.streams} streams, " if point.streams > 1 else ""
    where = f"{streams}{figures.threads(point.threads)}, batch {point.batch}"
    precision = f" {found.precision}" if found.name == found.engine else ""
    types = _table("type", "precision", "nodes", "time", "share")
    for row in found.types[:top]:
        numbers = (str(row.nodes), figures.duration(row.us), figures.share(row.us, found.us))
        types.add_row(Text(row.op), row.precision, *numbers)
    yield from _titled(f"{found.name}{precision}, {where}: {figures.duration(found.us)} in all nodes", types)
    nodes = _table("node", "type", "precision", "time", "share")
    for node in found.nodes[:top]:
        name = Text(cut(node.name, _NAME), style="bold" if node.heavy else "")
        kind = Text(cut(node.op, 18))
        nodes.add_row(name, kind, node.precision, figures.duration(node.us), figures.share(node.us, found.us))
    yield from _titled("its slowest nodes", nodes)


def cut(name: str, most: int) -> str:
    """A long name without its middle."""
    if len(name) <= most:
        return name
    head = (most - 1) // 3
    return f"{name[:head]}…{name[len(name) - (most - 1 - head) :]}"


def _end(path: str, most: int) -> str:
    return path if len(path) <= most else f"…{path[len(path) - most + 1 :]}"
