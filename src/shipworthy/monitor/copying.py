"""Rows that were chosen, copied where they ran and put together for the monitor process."""

from __future__ import annotations

import threading
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np

from .choosing import Choosing
from .wire import Begin, Layout, Part, Rows, packed

if TYPE_CHECKING:
    from ..contract import Arrays
    from ..predict import Predictor

MOST_BYTES = 32 * 2**20
"""Of rows that are chosen in a second, and of those that wait to be sent. To copy so many takes some milliseconds."""
OBJECT_BYTES = 64
"""Of an array beside its bytes, and of a row beside its arrays: small rows are mostly that."""
Shapes: TypeAlias = tuple[tuple[int, ...], ...]
Row: TypeAlias = tuple[Any, ...]
"""Seconds, the shapes of the arrays or None where they are always the same, and the bytes of each array."""


class Watched:
    """A version that is watched."""

    def __init__(self, number: int, model: str, predictor: Predictor, choosing: Choosing, reference: Path | None):
        self.number, self.model = number, model
        self.ran = choosing.ran
        self.choosing = choosing
        self.closed = False
        self.begun = False
        """Whether the monitor process was told of it."""
        self._reference = reference
        self._version, self._variant = predictor.version, predictor.variant.id
        contract = predictor.contract
        self._contract = contract.model_dump_json()
        self._names = [(name, False) for name in contract.inputs]
        self._names += [(name, True) for name, spec in contract.outputs.items() if spec.batched]
        self._inputs, self._outputs = [[name for name, out in self._names if out is side] for side in (False, True)]
        self._layout: tuple[list[np.dtype[Any]], Shapes] | None = None
        """Of the first row; where all have its shapes, these are not kept with each."""
        specs = [contract.outputs[name] if out else contract.inputs[name] for name, out in self._names]
        self._varies = any(not isinstance(size, int) for spec in specs for size in spec.shape[1:])
        self._guard = threading.Lock()
        self._rows: list[Row] = []
        self._bytes = self._seen = self._lost = 0

    def take(self, feeds: Arrays, outputs: Arrays, row: int, seconds: float) -> None:
        """See `server.routing.Watch`."""
        if self._layout is None:
            self._layout = self._layout_of(feeds, outputs, row)
        copies = [feeds[name][row].tobytes() for name in self._inputs]
        copies += [outputs[name][row].tobytes() for name in self._outputs]
        shapes = self._layout_of(feeds, outputs, row)[1] if self._varies else None
        size = sum(map(len, copies))
        with self._guard:
            self.choosing.count(size)
            # How large this row is has no part in whether it fits, or large ones would be missing.
            if self._bytes >= MOST_BYTES:
                self._lost += 1
            else:
                self._bytes += size + OBJECT_BYTES * (1 + len(copies))
                self._rows.append((seconds, shapes, *copies))

    def _layout_of(self, feeds: Arrays, outputs: Arrays, row: int) -> tuple[list[np.dtype[Any]], Shapes]:
        """Dtypes and shapes of a row's arrays."""
        arrays = [outputs[name][row] if out else feeds[name][row] for name, out in self._names]
        return [array.dtype for array in arrays], tuple([array.shape for array in arrays])

    def close(self) -> None:
        self.closed = True

    def beginning(self) -> list[bytes | memoryview]:
        """Tells the monitor process of it. Raises OSError where the reference is not there any more."""
        said = Begin(
            number=self.number,
            model=self.model,
            version=self._version,
            variant=self._variant,
            contract=self._contract,
        )
        return packed(said, [] if self._reference is None else [self._reference.read_bytes()])

    def telling(self) -> tuple[int, int, list[bytes | memoryview]]:
        """What there is to be told since the last time: how many rows were seen, how many of them were chosen, and the
        frame; none where nothing was seen."""
        with self._guard:
            rows, self._rows, self._bytes = self._rows, [], 0
            lost, self._lost = self._lost, 0
        total = self.choosing.seen()
        seen, self._seen = total - self._seen, total
        if not (seen or lost or rows):
            return 0, 0, []
        parts: list[Part] = []
        pieces: list[bytes | memoryview] = [np.array([row[0] for row in rows], "<f8").tobytes()]
        for shapes, places in self._places(rows):
            columns = list(zip(*(rows[place] for place in places), strict=True))
            told = None if len(places) == len(rows) else list(places)
            parts.append(Part(rows=len(places), places=told, arrays=self._layouts(shapes)))
            pieces += [b"".join(column) for column in columns[2:]]
        said = Rows(number=self.number, at=time.time(), seen=seen, lost=lost, parts=parts)
        return seen, len(rows) + lost, packed(said, pieces)

    def untold(self, seen: int, rows: int) -> None:
        """What was to be told did not arrive."""
        self._seen -= seen
        with self._guard:
            self._lost += rows

    def _places(self, rows: Sequence[Row]) -> list[tuple[Shapes | None, Sequence[int]]]:
        """Those of rows that can lie in one array, by their shapes."""
        if not self._varies:
            return [(None, range(len(rows)))] if rows else []
        found: dict[Shapes, list[int]] = {}
        for place, row in enumerate(rows):
            found.setdefault(row[1], []).append(place)
        return list(found.items())

    def _layouts(self, shapes: Shapes | None) -> list[Layout]:
        assert self._layout is not None
        dtypes, fixed = self._layout
        return [
            Layout(name=name, output=output, dtype=dtype.str, shape=list(shape))
            for (name, output), dtype, shape in zip(self._names, dtypes, shapes or fixed, strict=True)
        ]
