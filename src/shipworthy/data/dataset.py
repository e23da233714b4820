"""A data set in memory: arrays by input name, with targets."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from ..contract import Array


@dataclass(frozen=True, slots=True)
class Chunk:
    """Samples of one shape: inputs [n, ...] by name, and targets [n, ...] where they are known."""

    inputs: dict[str, Array]
    targets: Array | None = None

    def __len__(self) -> int:
        return len(next(iter(self.inputs.values())))

    def rows(self, start: int, stop: int) -> Chunk:
        targets = None if self.targets is None else self.targets[start:stop]
        return Chunk({name: array[start:stop] for name, array in self.inputs.items()}, targets)

    def take(self, rows: Array) -> Chunk:
        """The samples at these positions [k], in this order."""
        targets = None if self.targets is None else self.targets[rows]
        return Chunk({name: array[rows] for name, array in self.inputs.items()}, targets)


@dataclass(frozen=True, slots=True)
class Dataset:
    """Chunks in order; several where a dynamic dimension (a text's length) differs between samples."""

    chunks: tuple[Chunk, ...]

    def __len__(self) -> int:
        return sum(len(chunk) for chunk in self.chunks)

    @property
    def labelled(self) -> bool:
        """Whether every sample has its target."""
        return bool(self.chunks) and all(chunk.targets is not None for chunk in self.chunks)

    def batches(self, size: int) -> Iterator[Chunk]:
        """Batches of at most `size` samples, never across chunks."""
        for chunk in self.chunks:
            for start in range(0, len(chunk), size):
                yield chunk.rows(start, start + size)

    def take(self, rows: Array) -> Dataset:
        """The samples at these positions [k], which count through all chunks. They keep the data's own order."""
        wanted, chunks, start = np.sort(rows), [], 0
        for chunk in self.chunks:
            inside = wanted[(wanted >= start) & (wanted < start + len(chunk))] - start
            if len(inside):
                chunks.append(chunk.take(inside))
            start += len(chunk)
        return Dataset(tuple(chunks))
