"""The numbers of many instances to one array, at once.

The rules are those of `tensors`, which does the work. What is not plain goes the codec's way, one instance after the
other, which reads more forms and names every fault."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from itertools import chain
from operator import itemgetter
from typing import Any

import numpy as np

from ..contract import Array, Contract, RecordEncode, TensorSpec
from .faults import FieldError
from .tensors import to_array

MAX_NUMBERS = 4096
"""An instance with more is read by the codec: converting it alone costs little for each number."""

_LIST = {list}


class Rows:
    """Reads plain instances of a contract with one small input, whose sizes behind the batch are fixed.

    Safe to use from several threads."""

    @classmethod
    def of(cls, contract: Contract) -> Rows | None:
        """None where the contract has several inputs, or one with a dynamic size or too many numbers."""
        (name, spec), *others = contract.inputs.items()
        sizes = [size for size in spec.shape[1:] if isinstance(size, int)]
        if others or len(sizes) < len(spec.shape) - 1 or not 0 < math.prod(sizes) <= MAX_NUMBERS:
            return None
        records = {key: form for key, form in contract.encode.items() if isinstance(form, RecordEncode)}
        return cls(name, spec, tuple(sizes), records)

    def __init__(
        self, name: str, spec: TensorSpec, sizes: tuple[int, ...], records: Mapping[str, RecordEncode]
    ) -> None:
        self._name, self._sizes, self._dtype = name, sizes, spec.numpy
        self._first = sizes[0] if sizes else None
        self._flat = len(sizes) == 1
        self._records = {key: (_picked(form.fields), len(form.fields)) for key, form in records.items()}

    def take(self, instance: object) -> list[Any] | None:
        """The items of one instance, in order, where it is `{input: nested lists of the input's shape}` or
        `{encoder: {all fields of the record}}`. Only lengths and names are looked at; `convert` judges the items."""
        if type(instance) is not dict or len(instance) != 1:
            return None
        ((key, value),) = instance.items()
        if key == self._name and self._flat and type(value) is list:
            return value if len(value) == self._first else None
        if type(value) is dict:
            return self._record(key, value)
        return self._opened(value) if key == self._name else None

    def convert(self, taken: Sequence[list[Any]]) -> Array | None:
        """The array [n, ...] of what `take` gave for n instances, in the input's dtype.

        None where an item of any of them is no number that fits."""
        items = list(chain.from_iterable(taken))
        try:
            array = to_array(items, self._dtype, (len(items),))
        except FieldError:
            return None
        return array.reshape(len(taken), *self._sizes)

    def _record(self, key: object, record: dict[Any, Any]) -> list[Any] | None:
        picked, count = self._records.get(key, _NO_RECORD)  # type: ignore[call-overload]
        if len(record) != count:
            return None
        try:
            return list(picked(record))
        except KeyError:
            return None

    def _opened(self, value: object) -> list[Any] | None:
        # Numpy's own scalars and arrays are not converted.
        level: list[Any] = [] if isinstance(value, np.generic) else [value]
        for size in self._sizes:
            if set(map(type, level)) != _LIST or set(map(len, level)) != {size}:
                return None
            level = list(chain.from_iterable(level))
        return level or None


_NO_RECORD: tuple[Callable[[Any], Iterable[Any]], int] = (iter, -1)


def _picked(fields: tuple[str, ...]) -> Callable[[Any], Iterable[Any]]:
    """The values of these fields; an itemgetter of one field would give it bare."""
    if len(fields) > 1:
        return itemgetter(*fields)
    (field,) = fields
    return lambda record: (record[field],)
