"""Tensors as the contract speaks of them: dtypes, shapes with named dimensions, signatures."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Annotated, Any, Literal, TypeAlias

import numpy as np
import numpy.typing as npt
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, PlainSerializer

DType: TypeAlias = Literal["float64", "float32", "float16", "int64", "int32", "int16", "int8", "uint8", "bool"]
Array: TypeAlias = npt.NDArray[Any]
Arrays: TypeAlias = Mapping[str, Array]

Count: TypeAlias = Annotated[int, Field(strict=True, gt=0, lt=2**31)]
Finite: TypeAlias = Annotated[float, Field(strict=True, allow_inf_nan=False)]
Positive: TypeAlias = Annotated[float, Field(strict=True, gt=0, allow_inf_nan=False)]

BATCH = "batch"
MAX_SIZE = 2**31 - 1

_DIM = re.compile(r"([A-Za-z_]\w*)(?::(\d{1,10})\.\.(\d{1,10})?)?", re.ASCII)


class Strict(BaseModel):
    """Base of all parts of a contract and of a manifest: immutable, and no key is ignored."""

    # JSON has no NaN, and a measurement may be one: as a word it survives being written and read back.
    model_config = ConfigDict(frozen=True, extra="forbid", ser_json_inf_nan="strings")


@dataclass(frozen=True, slots=True)
class Dim:
    """A dynamic dimension: its name, and the sizes (inclusive) that the model takes."""

    name: str
    min: int = 1
    max: int | None = None

    @classmethod
    def parse(cls, text: str) -> Dim:
        """Read `batch`, `tokens:1..512` or `tokens:1..`."""
        match = _DIM.fullmatch(text)
        if match is None:
            raise ValueError(f"{text!r} is no dimension; write a number, a name, or name:min..max")
        name, low, high = match.groups()
        dim = cls(name, int(low) if low else 1, int(high) if high else None)
        if dim.max is not None and dim.max < dim.min:
            raise ValueError(f"{text!r} has its bounds the wrong way round; write {name}:{high}..{low}")
        return dim

    def holds(self, size: int) -> bool:
        return self.min <= size and (self.max is None or size <= self.max)

    def __str__(self) -> str:
        if self.min == 1 and self.max is None:
            return self.name
        return f"{self.name}:{self.min}..{'' if self.max is None else self.max}"


def _parse_dim(value: object) -> int | Dim:
    if isinstance(value, str):
        return Dim.parse(value)
    if isinstance(value, Dim):
        return value
    if isinstance(value, int) and not isinstance(value, bool) and 0 <= value <= MAX_SIZE:
        return value
    raise ValueError(f"{value!r} is no dimension; write a number, a name, or name:min..max")


Size: TypeAlias = Annotated[
    int | Dim,
    BeforeValidator(_parse_dim),
    PlainSerializer(lambda size: size if isinstance(size, int) else str(size)),
]
Shape: TypeAlias = tuple[Size, ...]


class TensorSpec(Strict):
    """What a tensor must be: a numpy dtype name and a shape of numbers and named dimensions."""

    dtype: DType
    """Type of the elements, a NumPy name."""
    shape: Shape
    """Sizes of the axes: a number is fixed, a name is dynamic, `tokens:1..512` is dynamic within bounds."""

    @property
    def numpy(self) -> np.dtype[Any]:
        return np.dtype(self.dtype)

    @property
    def batched(self) -> bool:
        """Whether it has a row for each sample."""
        return bool(self.shape) and isinstance(self.shape[0], Dim) and self.shape[0].name == BATCH

    def show(self) -> str:
        """`float32 [batch, 1, 8, 8]`."""
        return f"{self.dtype} [{', '.join(str(size) for size in self.shape)}]"

    def misfit(self, array: Array, *, instance: bool = False) -> str | None:
        """Why `array` does not fit, or None. `instance` leaves the batch dimension out of the comparison."""
        dims = self.shape[1:] if instance else self.shape
        got = f"{array.dtype} {list(array.shape)}"
        expected = f"{self.dtype} [{', '.join(map(str, dims))}]"
        if array.dtype != self.numpy or len(array.shape) != len(dims):
            return f"expected {expected}, got {got}"
        for size, dim in zip(array.shape, dims, strict=True):
            if size != dim if isinstance(dim, int) else not dim.holds(size):
                return f"expected {expected}, got {got}"
        return None


class Signature(Strict):
    """The inputs and outputs of a graph, in the order of the module's arguments and results."""

    inputs: dict[str, TensorSpec]
    outputs: dict[str, TensorSpec] = Field(default_factory=dict)

    def dynamic(self) -> Iterator[Dim]:
        """Every named dimension of the inputs once, `batch` first."""
        seen: dict[str, Dim] = {}
        for spec in self.inputs.values():
            for dim in spec.shape:
                if isinstance(dim, Dim):
                    seen.setdefault(dim.name, dim)
        yield from seen.values()
