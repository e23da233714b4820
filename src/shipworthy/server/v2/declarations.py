"""What a request says of its tensors and outputs before their data, checked alike for both transports."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from ...encode.faults import brief
from .datatypes import dtype_of, from_raw, malformed
from .request import Asked, Tensor, check_elements, check_new, check_shape, classes_of, refuse_shared_memory


@dataclass(slots=True)
class Declared:
    """An input, but for its data."""

    name: str
    shown: str
    """The name as messages give it."""
    dtype: np.dtype[Any]
    shape: list[int]
    count: int
    """Elements of the shape."""

    def check_count(self, elements: int) -> None:
        if elements != self.count:
            raise malformed(f"{self.shown}: expected {self.count} elements for shape {self.shape}, got {elements}")

    def tensor(self, data: bytes | memoryview) -> Tensor:
        """With its data as bytes. ProblemError where these do not fit."""
        return Tensor(self.name, from_raw(self.shown, self.dtype, self.shape, self.count, data))


class Declarations:
    """Those of one request, which may name nothing twice. Everything here raises ProblemError with the first fault."""

    def __init__(self, most: int) -> None:
        """`most` bounds the elements of a BYTES tensor."""
        self._most = most
        self._inputs: set[str] = set()
        self._outputs: set[str] = set()

    def input(self, name: object, datatype: object, shape: object) -> Declared:
        """An input that has a name of its own, a datatype that is taken, and a shape that can be."""
        name = check_new(name, self._inputs, "input")
        shown = brief(name)[1:-1]
        dtype = dtype_of(shown, datatype)
        if not isinstance(shape, list):
            raise malformed(f"{shown}: a shape is a list of whole numbers")
        count = check_shape(shown, shape)
        if dtype.hasobject:
            check_elements(shown, count, self._most)
        return Declared(name, shown, dtype, shape, count)

    def output(self, name: object) -> str:
        """The name of an output that is asked for."""
        return check_new(name, self._outputs, "output")


def asked_output(name: str, parameters: Mapping[str, Any], *, binary: bool) -> Asked:
    """An output as its parameters want it. ProblemError where they cannot have it."""
    refuse_shared_memory(name, parameters)
    return Asked(name, binary, classes_of(name, parameters))
