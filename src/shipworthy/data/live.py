"""Objects of a notebook to a data set: arrays, mappings, torch Datasets and DataLoaders, iterables of samples."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import numpy as np

from ..contract import Contract
from ..errors import DataError
from ..usercode import running
from .dataset import Chunk, Dataset
from .gather import Entry, as_batch, gather, named, to_array


def as_dataset(obj: object, contract: Contract, source: str = "data") -> Dataset:
    """A data set of `obj`, checked against the contract.

    * a mapping of input names (and `label` or `target`) to arrays [n, ...]
    * (inputs, targets), where inputs are an array, a mapping, or a tuple in the contract's order
    * one array, for a model with one input
    * anything with a length and an index (a torch Dataset), or that can be iterated over (a DataLoader), of samples
      or batches; each a mapping, a tuple of inputs with or without the target, or the input alone

    `source` names it in errors. Raises DataError where it does not fit."""
    if isinstance(obj, Dataset):
        return gather((Entry(chunk.inputs, chunk.targets) for chunk in obj.chunks), contract, source)
    if isinstance(obj, Chunk):
        return gather([Entry(obj.inputs, obj.targets)], contract, source)
    if isinstance(obj, Mapping | tuple) or _is_array(obj):
        return gather([_entry(obj, contract, source)], contract, source)
    if hasattr(obj, "to_numpy") and hasattr(obj, "columns"):
        remedy = f'give {{"{next(iter(contract.inputs))}": frame[[...]].to_numpy()}}, its columns in the model\'s order'
        raise DataError(source, f"a {type(obj).__name__} is a table", remedy)
    listed = isinstance(obj, Iterable) or (hasattr(obj, "__getitem__") and hasattr(obj, "__len__"))
    if listed and not isinstance(obj, str | bytes):
        with running(contract.root, source, DataError):
            entries = list(_entries(obj, contract, source))
        return gather(entries, contract, source)
    remedy = "give a dict of arrays, (inputs, targets), a torch Dataset or a DataLoader"
    raise DataError(source, f"a {type(obj).__name__} is no data", remedy)


def _entries(obj: Any, contract: Contract, source: str) -> Iterator[Entry]:
    # A torch Dataset need not be iterable, and one that only has __getitem__ need not end with IndexError.
    indexed = hasattr(obj, "__getitem__") and hasattr(obj, "__len__")
    values = (obj[index] for index in range(len(obj))) if indexed else iter(obj)
    for number, value in enumerate(values):
        yield as_batch(_entry(value, contract, f"{source}[{number}]"), contract)


def _entry(value: object, contract: Contract, culprit: str) -> Entry:
    if isinstance(value, Mapping):
        return named(value, contract, culprit)
    if isinstance(value, tuple | list):
        return _from_tuple(tuple(value), contract, culprit)
    return _from_tuple((value,), contract, culprit)


def _from_tuple(values: tuple[Any, ...], contract: Contract, culprit: str) -> Entry:
    """Inputs in the contract's order, and the target where there is one element more."""
    names = tuple(contract.inputs)
    if len(values) == 2 and isinstance(values[0], Mapping | tuple | list) and not _is_number_list(values[0]):
        inputs = _entry(values[0], contract, culprit)
        if inputs.target is None:
            return Entry(inputs.inputs, to_array(values[1], f"{culprit}: targets"))
    if len(values) not in (len(names), len(names) + 1):
        wanted = ", ".join(names)
        reason = f"has {len(values)} elements; expected {wanted}, and the target where there is one"
        raise DataError(culprit, reason, "give a dict with the names of the inputs")
    arrays = {name: to_array(value, f"{culprit}: {name}") for name, value in zip(names, values, strict=False)}
    target = to_array(values[-1], f"{culprit}: targets") if len(values) > len(names) else None
    return Entry(arrays, target)


def _is_number_list(value: object) -> bool:
    """Nested lists of numbers are an array; a list of arrays is a tuple of inputs."""
    return isinstance(value, list) and bool(value) and isinstance(value[0], int | float | list | np.generic)


def _is_array(obj: object) -> bool:
    return isinstance(obj, np.ndarray) or (hasattr(obj, "detach") and hasattr(obj, "dtype"))
