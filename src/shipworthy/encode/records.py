"""Records of named numbers to the last axis of one input."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from ..contract import Array, RecordEncode, TensorSpec
from .faults import MAX_UNKNOWN, FieldError, brief
from .tensors import to_array


class RecordCodec:
    """Turns `{"width": 1.5, "height": 2}` into the numbers of one input, in the order of the contract's fields."""

    def __init__(self, encode: RecordEncode, feeds: str, spec: TensorSpec) -> None:
        self.feeds: tuple[str, ...] = (feeds,)
        self._fields, self._dtype = encode.fields, spec.numpy
        # Axes before the last one may have the size 1.
        self._shape = (1,) * (len(spec.shape) - 2) + (len(encode.fields),)

    def takes(self, value: object) -> bool:
        return isinstance(value, Mapping)

    def encode(self, record: Any) -> dict[str, Array]:
        """The input's array without the batch axis; FieldError names every field that is at fault."""
        faults = [(f".{name}", "missing") for name in self._fields if name not in record]
        unknown = [name for name in record if name not in self._fields]
        faults += [(f".{brief(str(name))[1:-1]}", "unknown field") for name in unknown[:MAX_UNKNOWN]]
        if len(unknown) > MAX_UNKNOWN:
            faults.append(("", f"{len(unknown) - MAX_UNKNOWN} more unknown fields"))
        given = [name for name in self._fields if name in record]
        try:
            numbers = to_array([record[name] for name in given], self._dtype, (len(given),))
        except FieldError:
            faults += self._bad_numbers(record, given)
        if faults:
            raise FieldError.of(faults)
        return {self.feeds[0]: numbers.reshape(self._shape)}

    def _bad_numbers(self, record: Mapping[object, object], given: list[str]) -> Iterator[tuple[str, str]]:
        for name in given:
            try:
                to_array([record[name]], self._dtype, ())
            except FieldError as error:
                yield from ((f".{name}", reason) for _, reason in error.faults)
