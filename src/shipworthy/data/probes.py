"""Feeds that try a graph at the sizes that it must take: real samples where there are any, else seeded numbers."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import numpy as np

from ..contract import BATCH, Array, Contract, Dim, TensorSpec
from .dataset import Chunk, Dataset

_BATCHES = (2, 1, 3, 8)
_UNBOUNDED = (3, 8, 21)
"""Sizes of a dimension of which neither the contract nor data says how long it is."""


def probes(contract: Contract, dataset: Dataset | None, seed: int = 0) -> tuple[dict[str, Array], ...]:
    """Feeds by input name at several batch sizes, and at a small, middle and large size of every other dynamic
    dimension: its bounds, or where it has none, the data's sizes and a shorter and a longer one.

    The first has batch 2 and middle sizes. With data, each is made of seeded real samples, cut or repeated along its
    dynamic dimensions to the size. Without, floats are normal with mean 0, then 1, then -1, so that a branch on a
    sign is taken both ways; integers are 0 and 1, which every table of embeddings has."""
    random = np.random.default_rng([seed, 0xB0B])
    made = []
    for number, sizes in enumerate(_plans(contract, dataset)):
        if dataset is None or not len(dataset):
            shift = (0.0, 1.0, -1.0)[number % 3]
            made.append({name: _synthetic(spec, sizes, random, shift) for name, spec in contract.inputs.items()})
        else:
            made.append(_real(contract, dataset, sizes, random))
    return tuple(made)


def _plans(contract: Contract, dataset: Dataset | None) -> Iterator[dict[str, int]]:
    """The size of every dynamic dimension, for each probe; no plan twice."""
    dims = {dim.name: dim for dim in contract.signature.dynamic()}
    batch = dims.pop(BATCH)
    choices = {name: _choices(dim, contract, dataset) for name, dim in dims.items()}
    middle = {name: sizes[len(sizes) // 2] for name, sizes in choices.items()}
    batches = _batches(batch)
    plans = [{BATCH: size, **middle} for size in batches]
    for name, sizes in choices.items():
        plans += [{BATCH: batches[0], **middle, name: size} for size in sizes]
    plans.append({BATCH: min(batches), **{name: min(sizes) for name, sizes in choices.items()}})
    seen: list[dict[str, int]] = []
    for plan in plans:
        if plan not in seen:
            seen.append(plan)
            yield plan


def _batches(batch: Dim) -> list[int]:
    """At least two sizes where the bounds have room for two: one alone does not show what follows the batch."""
    usual = [size for size in _BATCHES if batch.holds(size)]
    near = (batch.min, batch.min + 1, 2 * batch.min)
    return usual if len(usual) > 1 else [size for size in dict.fromkeys((*usual, *near)) if batch.holds(size)]


def _choices(dim: Dim, contract: Contract, dataset: Dataset | None) -> list[int]:
    """Sizes to try of a dynamic dimension, ascending."""
    if dim.max is not None:
        return sorted({dim.min, (dim.min + dim.max) // 2, dim.max})
    seen = _seen(dim, contract, dataset)
    if seen:
        wanted = {seen[0] // 2, seen[0], seen[len(seen) // 2], seen[-1], seen[-1] + max(1, seen[-1] // 4)}
    else:
        wanted = {dim.min, *(dim.min + size for size in _UNBOUNDED)}
    return sorted({max(dim.min, 1, size) for size in wanted})


def _seen(dim: Dim, contract: Contract, dataset: Dataset | None) -> list[int]:
    """The sizes of a dimension in the data, ascending, one for each chunk."""
    chunks = () if dataset is None else dataset.chunks
    return sorted(_size(chunk.inputs, contract, dim.name) for chunk in chunks)


def _size(inputs: Mapping[str, Array], contract: Contract, dim: str) -> int:
    for name, spec in contract.inputs.items():
        for axis, size in enumerate(spec.shape):
            if isinstance(size, Dim) and size.name == dim:
                return int(inputs[name].shape[axis])
    raise AssertionError(f"{dim} is a dimension of the inputs")


def _real(
    contract: Contract, dataset: Dataset, sizes: Mapping[str, int], random: np.random.Generator
) -> dict[str, Array]:
    """Samples of the chunk whose sizes are nearest, drawn without repetition as far as they suffice."""
    chunk = min(dataset.chunks, key=lambda chunk: _distance(chunk, contract, sizes))
    count = sizes[BATCH]
    rows = random.permutation(len(chunk))[:count]
    rows = np.resize(rows, count)
    return {name: _resized(chunk.inputs[name][rows], spec, sizes) for name, spec in contract.inputs.items()}


def _distance(chunk: Chunk, contract: Contract, sizes: Mapping[str, int]) -> tuple[int, int]:
    others = [abs(_size(chunk.inputs, contract, dim) - size) for dim, size in sizes.items() if dim != BATCH]
    return sum(others), -min(len(chunk), sizes[BATCH])


def _resized(array: Array, spec: TensorSpec, sizes: Mapping[str, int]) -> Array:
    """Cut or repeated along the dynamic axes behind the batch. An axis without anything to repeat is filled with 0."""
    for axis, dim in enumerate(spec.shape[1:], start=1):
        if isinstance(dim, Dim) and array.shape[axis] != sizes[dim.name]:
            if array.shape[axis] == 0:
                shape = list(array.shape)
                shape[axis] = sizes[dim.name]
                array = np.zeros(shape, dtype=array.dtype)
            else:
                array = np.take(array, np.arange(sizes[dim.name]) % array.shape[axis], axis=axis)
    return np.ascontiguousarray(array)


def _synthetic(spec: TensorSpec, sizes: Mapping[str, int], random: np.random.Generator, shift: float) -> Array:
    shape = tuple(sizes[size.name] if isinstance(size, Dim) else size for size in spec.shape)
    if spec.numpy.kind == "f":
        return (random.standard_normal(shape) + shift).astype(spec.numpy)
    if spec.dtype == "uint8" and len(shape) > 2:
        return random.integers(0, 256, shape).astype(spec.numpy)
    numbers = random.integers(0, 2, shape)
    # The first of each row is 1: a mask that hides everything would make NaN of a softmax.
    numbers[..., :1] = 1
    return numbers.astype(spec.numpy)
