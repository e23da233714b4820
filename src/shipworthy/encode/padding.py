"""Rows of different sizes in one batch, where the contract says that padding changes no answer.

Sizes are rounded up to a short ladder (1, 2, 3, 4, 5, 6, 8, 10, 12, 16, 20, 24, 32 ...), so that an engine sees few
shapes. A rung is at most a third larger than what is rounded up to it, and never above a dimension's own maximum. What
padding adds to an output is cut off again."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

import numpy as np

from ..contract import Array, Arrays, Contract, Dim, TensorSpec


def rung(size: int, most: int | None = None) -> int:
    """The smallest step of the ladder that is no less than `size`; at most `most`."""
    if size < 3:
        return size
    top = 1 << (size - 1).bit_length()
    step = next(step for step in (top * 5 // 8, top * 3 // 4, top) if step >= size)
    return step if most is None else min(step, most)


class Padding:
    """How the inputs of a contract are padded, and its outputs cut. Safe to use from several threads."""

    @classmethod
    def of(cls, contract: Contract) -> Padding | None:
        """None where no input of the contract says `pad`."""
        return cls(contract) if any(spec.pad is not None for spec in contract.inputs.values()) else None

    def __init__(self, contract: Contract) -> None:
        self._most = {
            dim.name: dim.max
            for spec in contract.inputs.values()
            if spec.pad is not None
            for dim in spec.shape[1:]
            if isinstance(dim, Dim)
        }
        self._values = {name: spec.pad for name, spec in contract.inputs.items()}
        self._inputs = {name: self._names(spec) for name, spec in contract.inputs.items()}
        self._outputs = {name: self._names(spec) for name, spec in contract.outputs.items()}
        self.cuts = any(any(names) for names in self._outputs.values())
        """Whether an output has a padded dimension, so that `unpad` has something to do."""

    def _names(self, spec: TensorSpec) -> tuple[str | None, ...]:
        """The padded dimension of each axis behind the first; None for the others."""
        named = (dim.name if isinstance(dim, Dim) else None for dim in spec.shape[1:])
        return tuple(name if name in self._most else None for name in named)

    def padded_key(self, feeds: Arrays) -> tuple[tuple[int, ...], ...]:
        """What rows must have in common to share a batch: the shapes [...] behind the batch, padded, by input."""
        return self._shapes(feeds, {name: rung(size, self._most[name]) for name, size in self._sizes(feeds).items()})

    def pad(self, parts: Sequence[Arrays], rows: int) -> dict[str, Array]:
        """The rows of all parts, which have one `padded_key`, one after another in arrays [rows, ...].

        Rows that are left over repeat the last one, which is known to be valid."""
        return self._joined(parts, self.padded_key(parts[0]), rows)

    def unpad(self, outputs: Arrays, feeds: Arrays) -> dict[str, Array]:
        """Outputs of the rows of one part, cut back to the sizes that its own inputs have."""
        sizes = self._sizes(feeds)
        return {name: _cut(array, self._outputs.get(name, ()), sizes) for name, array in outputs.items()}

    def grown(self, feeds: Arrays) -> dict[str, Array] | None:
        """The same rows padded to the next rung in every padded dimension; None where all have their largest size."""
        sizes = self._sizes(feeds)
        larger = {name: max(size, rung(size + 1, self._most[name])) for name, size in sizes.items()}
        if larger == sizes:
            return None
        return self._joined([feeds], self._shapes(feeds, larger), len(next(iter(feeds.values()))))

    def _sizes(self, feeds: Arrays) -> dict[str, int]:
        """The size of every padded dimension."""
        return {
            name: size
            for key, names in self._inputs.items()
            for name, size in zip(names, feeds[key].shape[1:], strict=True)
            if name is not None
        }

    def _shapes(self, feeds: Arrays, sizes: Mapping[str, int]) -> tuple[tuple[int, ...], ...]:
        return tuple(
            tuple(size if name is None else sizes[name] for name, size in zip(names, feeds[key].shape[1:], strict=True))
            for key, names in self._inputs.items()
        )

    def _joined(self, parts: Sequence[Arrays], shapes: Iterable[tuple[int, ...]], rows: int) -> dict[str, Array]:
        joined: dict[str, Array] = {}
        for name, shape in zip(self._inputs, shapes, strict=True):
            value = self._values[name]
            dtype = parts[0][name].dtype
            array: Array = np.empty((rows, *shape), dtype) if value is None else np.full((rows, *shape), value, dtype)
            start = 0
            for part in parts:
                given = part[name]
                array[(slice(start, start + len(given)), *map(slice, given.shape[1:]))] = given
                start += len(given)
            array[start:] = array[start - 1]
            joined[name] = array
        return joined


def _cut(array: Array, names: Sequence[str | None], sizes: Mapping[str, int]) -> Array:
    if not any(names):
        return array
    return array[(slice(None), *(slice(None) if name is None else slice(sizes[name]) for name in names))]
