"""Entries of any origin to a data set: batches or single samples, of one shape or of several."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from ..contract import Array, Contract, Dim
from ..contract.faults import nearest, quoted
from ..errors import DataError
from .dataset import Chunk, Dataset
from .fit import fit_input
from .targets import fit_targets

TARGETS = ("label", "target", "labels", "targets")
"""Names under which a file or a mapping may have the targets."""


@dataclass(frozen=True, slots=True)
class Entry:
    """Inputs by name, and the targets where they are known, as they came: a batch [n, ...], or one sample."""

    inputs: dict[str, Array]
    target: Array | None = None


def named(values: Mapping[str, Any], contract: Contract, culprit: str) -> Entry:
    """The entry that a mapping of names to arrays is. Names that the contract does not know are left alone."""
    for name in contract.inputs:
        if name not in values:
            raise DataError(
                culprit, f'there is no "{name}"; there is {_there(values)}', _renaming(name, values, contract)
            )
    found = [name for name in TARGETS if name in values and name not in contract.inputs]
    if len(found) > 1:
        raise DataError(culprit, f"has {quoted(found, 'and')}", "keep the one that is the target")
    inputs = {name: to_array(values[name], f"{culprit}: {name}") for name in contract.inputs}
    return Entry(inputs, to_array(values[found[0]], f"{culprit}: {found[0]}") if found else None)


def _there(values: Mapping[str, Any]) -> str:
    names = [str(name) for name in values]
    return quoted(names[:12], "and") + (", ..." if len(names) > 12 else "") if names else "nothing"


def _renaming(name: str, values: Mapping[str, Any], contract: Contract) -> str:
    free = [str(key) for key in values if key not in contract.inputs and key not in TARGETS]
    near = nearest(name, free) or (free[0] if len(free) == 1 else None)
    return f'rename "{near}" to "{name}"' if near else f'name the array of this input "{name}"'


def to_array(value: Any, culprit: str) -> Array:
    """A NumPy array of an array, a tensor on any device, a number, a text, or nested lists."""
    if hasattr(value, "detach"):
        tensor = value.detach().cpu()
        # NumPy has no bfloat16; float32 holds all of its values.
        value = tensor.float() if str(tensor.dtype) == "torch.bfloat16" else tensor
    try:
        return np.asarray(value)
    except (TypeError, ValueError, RuntimeError) as error:
        raise DataError(culprit, f"is no array: {error}", "give an array or a tensor") from error


def gather(entries: Iterable[Entry], contract: Contract, source: str, *, numbers: bool = False) -> Dataset:
    """A data set of batches [n, ...], checked against the contract.

    Batches whose shapes differ stand in chunks of their own, in the order of the first of each shape.
    `numbers` lets integers feed floats. Raises DataError."""
    groups: dict[tuple[tuple[int, ...], ...], list[Entry]] = {}
    for entry in entries:
        arrays = [*entry.inputs.values(), *([] if entry.target is None else [entry.target])]
        if any(array.ndim == 0 for array in arrays):
            raise _not_a_batch(entry, contract, source)
        if not len(arrays[0]):
            continue
        groups.setdefault(tuple(array.shape[1:] for array in arrays), []).append(entry)
    if len({entry.target is None for group in groups.values() for entry in group}) > 1:
        raise DataError(source, "has targets for some samples only", "give all of them one, or none")
    chunks = [_chunk(_joined(group), contract, source, numbers=numbers) for group in groups.values()]
    if not chunks:
        raise DataError(source, "has no samples", "give at least one")
    return Dataset(tuple(chunks))


def _not_a_batch(entry: Entry, contract: Contract, source: str) -> DataError:
    for name, array in entry.inputs.items():
        if array.ndim == 0:
            reason = f"expected {contract.inputs[name].show()}, got one {array.dtype}"
            return DataError(f"{source}: {name}", reason, "give an array with a row for each sample")
    return DataError(f"{source}: targets", "one target for a batch of samples", "give one for each sample")


def as_batch(entry: Entry, contract: Contract) -> Entry:
    """An entry with a batch axis. It may be a single sample, which has one axis less than the contract's inputs."""
    name, array = next(iter(entry.inputs.items()))
    if array.ndim != len(contract.inputs[name].shape) - 1:
        return entry
    target = None if entry.target is None else entry.target[None]
    return Entry({name: array[None] for name, array in entry.inputs.items()}, target)


def _joined(group: list[Entry]) -> Entry:
    if len(group) == 1:
        return group[0]
    inputs = {name: np.concatenate([entry.inputs[name] for entry in group]) for name in group[0].inputs}
    targets = [entry.target for entry in group if entry.target is not None]
    return Entry(inputs, np.concatenate(targets) if targets else None)


def _chunk(entry: Entry, contract: Contract, source: str, *, numbers: bool) -> Chunk:
    inputs = {
        name: np.ascontiguousarray(
            fit_input(entry.inputs[name], spec, f"{source}: {name}", numbers=numbers), dtype=spec.numpy
        )
        for name, spec in contract.inputs.items()
    }
    counts = {name: len(array) for name, array in inputs.items()}
    if len(set(counts.values())) > 1:
        shown = ", ".join(f"{count} of {name}" for name, count in counts.items())
        raise DataError(source, f"has {shown}", "give every input as many samples")
    _one_size(inputs, contract, source)
    count = next(iter(counts.values()))
    if entry.target is None:
        return Chunk(inputs)
    return Chunk(inputs, fit_targets(entry.target, contract, count, f"{source}: targets"))


def _one_size(inputs: dict[str, Array], contract: Contract, source: str) -> None:
    """A dimension that several inputs name has one size."""
    sizes: dict[str, tuple[str, int]] = {}
    for name, array in inputs.items():
        for dim, size in zip(contract.inputs[name].shape[1:], array.shape[1:], strict=True):
            if isinstance(dim, Dim) and sizes.setdefault(dim.name, (name, size))[1] != size:
                first, other = sizes[dim.name]
                remedy = "make them equal, or give the axes different names in the contract"
                raise DataError(f"{source}: {name}", f"{dim.name} is {size} here and {other} in {first}", remedy)
