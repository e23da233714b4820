"""The flame picture: what called what, as wide as the time that it took; inline SVG, made without a library."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from html import escape

from . import figures
from .report import Block, Kind

WIDTH = 1080
ROW = 23
_CHARACTER = 6.6
"""Width of a letter of the labels, a little more than most have."""
_NARROWEST = 1.0

LEGEND: tuple[tuple[Kind, str], ...] = (
    ("module", "module of the model"),
    ("region", "region of your own"),
    ("heavy", "matrix product or convolution"),
    ("operator", "other operation"),
)


@dataclass(frozen=True, slots=True)
class _Placed:
    block: Block
    x: float
    width: float
    depth: int
    path: str


def flame_svg(root: Block) -> str:
    """The tree from the top down: below each block what it called, in the order of the first call.

    The width of a block is its share of the root's time; the part of it with nothing below is its own. The full name,
    time, share and calls are in the `<title>` of each block, which browsers show under the pointer."""
    placed = list(_place(root, 0.0, float(WIDTH), 0, root.name))
    height = ROW * (1 + max(one.depth for one in placed))
    drawn = "".join(_drawn(one, root.us) for one in placed)
    return (
        f'<svg class="flame" viewBox="0 0 {WIDTH} {height}" role="img" '
        f'aria-label="Time of one run by module and operation">{drawn}</svg>'
    )


def _place(block: Block, x: float, width: float, depth: int, path: str) -> Iterator[_Placed]:
    yield _Placed(block, x, width, depth, path)
    # Rounded times of the inner blocks may add up to a little more than the outer one has.
    whole = max(block.us, sum(inner.us for inner in block.inside)) or 1.0
    for inner in block.inside:
        part = width * inner.us / whole
        if part >= _NARROWEST:
            yield from _place(inner, x, part, depth + 1, f"{path} › {inner.name}")
        x += part


def _drawn(one: _Placed, total: float) -> str:
    block = one.block
    calls = "" if block.calls == 1 else f", {block.calls:g} calls"
    own = max(0.0, block.us - sum(inner.us for inner in block.inside))
    of_own = f", {figures.duration(own)} of it its own" if block.inside else ""
    told = f"{one.path}\n{figures.duration(block.us)} ({figures.share(block.us, total)}){calls}{of_own}"
    y, wide = one.depth * ROW, max(0.4, one.width - 1)
    return (
        f'<g class="{block.kind}"><title>{escape(told)}</title>'
        f'<rect x="{one.x:.1f}" y="{y}" width="{wide:.1f}" height="{ROW - 1}" rx="3"/>{_label(one, y)}</g>'
    )


def _label(one: _Placed, y: int) -> str:
    """As much of the name as there is room for: the last parts of a path tell more than the first."""
    room = int((one.width - 10) / _CHARACTER)
    name = one.block.name.removeprefix("aten::")
    shown = f"{name}  {figures.duration(one.block.us)}"
    if len(shown) > room:
        shown = name
    if len(shown) > room and one.block.kind == "module":
        shown = name.rsplit(".", 1)[-1]
    if len(shown) > room:
        shown = f"{shown[: room - 1]}…" if room >= 4 else ""
    return f'<text x="{one.x + 5:.1f}" y="{y + 15.5}">{escape(shown)}</text>' if shown else ""
