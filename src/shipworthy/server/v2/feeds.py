"""The tensors of a request to what the model is fed.

A tensor of an input's own datatype is fed as it is. Besides, an input that accepts images takes their pixels as UINT8,
of its own shape, and BYTES, one file for each row; and a text or a record of the contract takes BYTES under its own
name, one text or one object of JSON for each row."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np

from ...contract import Array, Arrays, Contract, TextEncode
from ...encode import stack
from ...encode.faults import brief
from ..bodies import check_images, read_json
from ..problems import TOO_LARGE, ProblemError
from .datatypes import NAMES, from_raw, malformed
from .request import Tensor

if TYPE_CHECKING:
    from ...predict import Predictor

Groups: TypeAlias = list[tuple[list[int], dict[str, Array]]]
"""Rows whose shapes are equal: their places in the request, and arrays [n, ...] by input."""


def direct(tensors: Sequence[Tensor], predictor: Predictor) -> dict[str, Array] | None:
    """The inputs, where every tensor is one, or its pixels; None where something has to be decoded.

    Shapes are left to the runtime's own gate. ProblemError where a tensor is no input, or of the wrong datatype."""
    contract = predictor.contract
    feeds: dict[str, Array] = {}
    for tensor in tensors:
        spec = contract.inputs.get(tensor.name)
        if spec is not None and tensor.array.dtype == spec.numpy:
            feeds[tensor.name] = tensor.array
        elif has_pixels(tensor, contract):
            feeds[tensor.name] = predictor.codec.pixels(tensor.name, tensor.array)
        elif _is_encoded(tensor, contract):
            return None
        else:
            raise _misfit(tensor, contract)
    return feeds


def has_pixels(tensor: Tensor, contract: Contract) -> bool:
    """Whether a tensor holds the pixels of an image that becomes the input."""
    spec = contract.inputs.get(tensor.name)
    return spec is not None and spec.accept is not None and tensor.array.dtype == np.uint8 != spec.numpy


def check_rows(tensors: Sequence[Tensor], most: int) -> None:
    """ProblemError where a request has more rows than may be sent at once."""
    for tensor in tensors:
        rows = tensor.array.shape[0] if tensor.array.ndim else 1
        if rows > most:
            raise ProblemError(TOO_LARGE, f"a request may have {most} rows, got {rows}")


def encoded(tensors: Sequence[Tensor], predictor: Predictor) -> Groups:
    """The inputs of every row, grouped by their shapes. Decodes images and texts, so it may take a while.

    ProblemError and InputError where something does not fit."""
    columns: dict[str, Sequence[object]] = {}
    rows: int | None = None
    for tensor in tensors:
        column = _column(tensor, predictor)
        rows = len(column) if rows is None else rows
        if len(column) != rows:
            raise malformed(f"{brief(tensor.name)} has {len(column)} rows, where another input has {rows}")
        columns[tensor.name] = column
    if not rows:
        raise malformed("there are no rows")
    instances = [dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True)]
    check_images(instances, predictor.codec)
    return stack(predictor.codec.instances(instances))


def _column(tensor: Tensor, predictor: Predictor) -> Sequence[object]:
    """What the codec takes for each row."""
    contract = predictor.contract
    if _is_encoded(tensor, contract):
        encode = contract.encode.get(tensor.name)
        read = _text if isinstance(encode, TextEncode) else _record if encode is not None else _file
        return [read(tensor.name, one) for one in _one_each(tensor)]
    if has_pixels(tensor, contract):
        return list(predictor.codec.pixels(tensor.name, tensor.array))
    spec = contract.inputs.get(tensor.name)
    if spec is None or tensor.array.dtype != spec.numpy or not tensor.array.ndim:
        raise _misfit(tensor, contract)
    return list(tensor.array)


def _is_encoded(tensor: Tensor, contract: Contract) -> bool:
    if not tensor.array.dtype.hasobject:
        return False
    spec = contract.inputs.get(tensor.name)
    return tensor.name in contract.encode or (spec is not None and spec.accept is not None)


def _one_each(tensor: Tensor) -> list[object]:
    """The elements of [n] or [n, 1]."""
    shape = tensor.array.shape
    if len(shape) not in (1, 2) or (len(shape) == 2 and shape[1] != 1):
        raise malformed(f"{brief(tensor.name)}: BYTES have one element for each row, [n] or [n, 1], not {list(shape)}")
    elements: list[object] = tensor.array.ravel().tolist()
    return elements


def _file(name: str, element: object) -> object:
    return element


def _record(name: str, element: Any) -> object:
    try:
        return read_json(element.encode() if isinstance(element, str) else element)
    except ValueError as error:
        raise malformed(f"{brief(name)}: a record is an object of JSON: {error}") from error


def _text(name: str, element: object) -> object:
    if not isinstance(element, bytes):
        return element
    try:
        return element.decode()
    except UnicodeDecodeError as error:
        raise malformed(f"{brief(name)}: a text is not UTF-8") from error


def _misfit(tensor: Tensor, contract: Contract) -> ProblemError:
    got, spec = NAMES[tensor.array.dtype], contract.inputs.get(tensor.name)
    if spec is not None:
        others = ", UINT8 pixels or BYTES of image files" if spec.accept is not None else ""
        shape = ", ".join(map(str, spec.shape))
        return malformed(f"{brief(tensor.name)}: expected {NAMES[spec.numpy]} [{shape}]{others}, got {got}")
    if (encode := contract.encode.get(tensor.name)) is not None:
        return malformed(f"{brief(tensor.name)} is a {encode.kind}: expected BYTES, got {got}")
    names = dict.fromkeys((*contract.inputs, *contract.encode))
    return malformed(f"{brief(tensor.name)} is no input; the inputs are {', '.join(names)}")


def whole_body(body: bytes, contract: Contract, most: int) -> Tensor:
    """The tensor of a body that is nothing but the bytes of the model's only input (raw binary request).

    There are as many rows as the bytes make."""
    if len(contract.inputs) != 1:
        raise malformed(f"the model has {len(contract.inputs)} inputs; a body without JSON feeds the only one")
    name, spec = next(iter(contract.inputs.items()))
    sizes = [size for size in spec.shape[1:] if isinstance(size, int)]
    if len(sizes) < len(spec.shape) - 1:
        raise malformed(f"{name}: {spec.show()} has dynamic sizes, which a body without JSON does not tell")
    width = int(np.prod(sizes)) * spec.numpy.itemsize
    rows = len(body) // width if width else 0
    if not rows or len(body) != rows * width:
        raise malformed(f"{name}: expected {spec.show()}, so a multiple of {width} bytes, got {len(body)}")
    if rows > most:
        raise ProblemError(TOO_LARGE, f"a request may have {most} rows, got {rows}")
    return Tensor(name, from_raw(name, spec.numpy, (rows, *sizes), rows * int(np.prod(sizes)), body))


def joined(groups: Groups, ran: Sequence[Arrays]) -> dict[str, Array]:
    """The outputs of all rows in the order of the request. ProblemError where their shapes differ by group."""
    if len(groups) == 1:
        return dict(ran[0])
    count = sum(len(places) for places, _ in groups)
    whole: dict[str, Array] = {}
    for name, first in ran[0].items():
        if any(
            not one[name].ndim or len(one[name]) != len(places) or one[name].shape[1:] != first.shape[1:]
            for (places, _), one in zip(groups, ran, strict=True)
        ):
            raise malformed(f"the rows differ in length, and so do those of {name!r}; send them one by one")
        whole[name] = np.empty((count, *first.shape[1:]), first.dtype)
        for (places, _), one in zip(groups, ran, strict=True):
            whole[name][places] = one[name]
    return whole
