"""What a caller feeds, held against a signature before any engine sees it."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping

import numpy as np

from ..contract import BATCH, Array, Arrays, Dim, Signature, TensorSpec
from ..errors import InputError, Problem


class Gate:
    """Lets feeds through that fit a signature. What fits is seen in a microsecond; only misfits are explained."""

    def __init__(self, signature: Signature) -> None:
        self.signature = signature
        self._rows = tuple(
            (name, spec.numpy, tuple(map(_limits, spec.shape))) for name, spec in signature.inputs.items()
        )

    def accept(self, feeds: Arrays) -> dict[str, Array]:
        """The feeds in the signature's order, each contiguous.

        Raises InputError with every fault: a missing or unknown name, no array, a wrong dtype or shape, and a named
        dimension that has different sizes in two inputs."""
        if not isinstance(feeds, Mapping):
            raise InputError([Problem(0, "inputs", f"expected arrays by name, got {type(feeds).__name__}")])
        if not self._fits(feeds):
            raise InputError(_problems(self.signature, feeds))
        return {
            name: array if (array := feeds[name]).flags.c_contiguous else np.asarray(array, order="C")
            for name, _, _ in self._rows
        }

    def _fits(self, feeds: Arrays) -> bool:
        if len(feeds) != len(self._rows):
            return False
        seen: dict[str, int] = {}
        for name, dtype, limits in self._rows:
            array = feeds.get(name)
            if not isinstance(array, np.ndarray) or array.dtype != dtype or len(array.shape) != len(limits):
                return False
            for size, (low, high, dim) in zip(array.shape, limits, strict=True):
                if not low <= size <= high or (dim is not None and seen.setdefault(dim, size) != size):
                    return False
        return True


def _limits(dim: int | Dim) -> tuple[int, float, str | None]:
    if isinstance(dim, int):
        return dim, dim, None
    return dim.min, math.inf if dim.max is None else dim.max, dim.name


def _problems(signature: Signature, feeds: Arrays) -> list[Problem]:
    return [*_names(signature, feeds), *_arrays(signature, feeds)] or list(_sizes(signature, feeds))


def _names(signature: Signature, feeds: Arrays) -> Iterator[Problem]:
    for name, spec in signature.inputs.items():
        if name not in feeds:
            yield Problem(0, name, f"is missing; expected {spec.show()}")
    for name in feeds:
        if name not in signature.inputs:
            yield Problem(0, str(name), f"is no input; the inputs are {', '.join(signature.inputs)}")


def _arrays(signature: Signature, feeds: Arrays) -> Iterator[Problem]:
    for name, spec in signature.inputs.items():
        if name not in feeds:
            continue
        array = feeds[name]
        if not isinstance(array, np.ndarray):
            yield Problem(0, name, f"expected an array, {spec.show()}, got {type(array).__name__}")
        elif (misfit := spec.misfit(array)) is not None:
            yield Problem(0, name, misfit + _hint(spec, array))


def _hint(spec: TensorSpec, array: Array) -> str:
    """What would mend a misfit, where it can be told."""
    if array.ndim != len(spec.shape):
        return "; add the batch dimension, array[None]" if array.ndim + 1 == len(spec.shape) else ""
    if array.ndim and array.shape[0] == 0 and _batch_min(spec) > 0:
        return "; the batch is empty, send at least one row"
    return f'; cast with .astype("{spec.dtype}")' if array.dtype != spec.numpy else ""


def _batch_min(spec: TensorSpec) -> int:
    first = spec.shape[0]
    return first.min if isinstance(first, Dim) else first


def _sizes(signature: Signature, feeds: Arrays) -> Iterator[Problem]:
    seen: dict[str, tuple[str, int]] = {}
    for name, spec in signature.inputs.items():
        for dim, size in zip(spec.shape, feeds[name].shape, strict=True):
            if not isinstance(dim, Dim):
                continue
            first, other = seen.setdefault(dim.name, (name, size))
            if other != size:
                yield Problem(0, name, f"dimension {dim.name!r} is {size} here and {other} in {first!r}")


def sizes_of(signature: Signature, feeds: Arrays) -> dict[str, int]:
    """The size of every named dimension in accepted feeds."""
    return {
        dim.name: size
        for name, spec in signature.inputs.items()
        for dim, size in zip(spec.shape, feeds[name].shape, strict=True)
        if isinstance(dim, Dim)
    }


def empty_outputs(signature: Signature, feeds: Arrays) -> dict[str, Array]:
    """The outputs of zero rows. Engines differ in what they do with them, so none is asked.

    A named dimension that no input has is 0 as well."""
    sizes = sizes_of(signature, feeds)
    return {
        name: np.zeros([dim if isinstance(dim, int) else sizes.get(dim.name, 0) for dim in spec.shape], spec.numpy)
        for name, spec in signature.outputs.items()
    }


def example_feeds(signature: Signature, rows: int = 2) -> dict[str, Array]:
    """The smallest typical feeds: `rows` rows of ones, which are valid indices, and masks that keep all."""

    def size(dim: int | Dim) -> int:
        if isinstance(dim, int):
            return dim
        wanted = max(rows if dim.name == BATCH else 2, dim.min)
        return wanted if dim.max is None else min(wanted, dim.max)

    return {name: np.ones([size(dim) for dim in spec.shape], spec.numpy) for name, spec in signature.inputs.items()}
