"""Mini-batches: of a data set shuffled by a seed, or of a loader as it gives them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from ..contract import Array, Contract
from ..data import Chunk, Dataset, as_dataset
from ..errors import CompressError
from ..usercode import raised_at


@dataclass(frozen=True, slots=True)
class Loader:
    """A DataLoader, or anything that can be iterated over once for each epoch, as chunks that fit the contract."""

    batches: Iterable[object]
    contract: Contract
    source: str = "data.train"

    def __iter__(self) -> Iterator[Chunk]:
        for number, batch in enumerate(self._read()):
            values = tuple(batch) if isinstance(batch, list) else batch
            yield from as_dataset(values, self.contract, f"{self.source}, batch {number}").chunks

    def _read(self) -> Iterator[object]:
        try:
            yield from self.batches
        except Exception as exc:  # a user's data set may raise anything at all
            raise CompressError(
                self.source, f"raises {raised_at(exc)}", "correct it, or iterate over it to see"
            ) from exc


def mini_batches(data: Dataset | Loader, size: int, order: np.random.Generator) -> Iterator[Chunk]:
    """Each sample of a data set once, in an order that `order` draws; no mini-batch has samples of two shapes."""
    if isinstance(data, Loader):
        yield from data
        return
    cuts = [(chunk, rows) for chunk in data.chunks for rows in _cut(order.permutation(len(chunk)), size)]
    for place in order.permutation(len(cuts)):
        chunk, rows = cuts[place]
        yield chunk.take(rows)


def _cut(rows: Array, size: int) -> list[Array]:
    """Rows in parts of `size`. A last part of one joins the part before: batch normalisation cannot train on one."""
    parts = [rows[start : start + size] for start in range(0, len(rows), size)]
    if len(parts) > 1 and len(parts[-1]) == 1 and size > 1:
        parts[-2:] = [np.concatenate(parts[-2:])]
    return parts


def generators_of(data: Dataset | Loader) -> tuple[torch.Generator, ...]:
    """Those that a DataLoader draws its order from, which go on from epoch to epoch."""
    if isinstance(data, Dataset):
        return ()
    loader: Any = data.batches
    places = (loader, getattr(loader, "sampler", None))
    found = [getattr(place, "generator", None) for place in places]
    return tuple({id(g): g for g in found if isinstance(g, torch.Generator)}.values())
