"""Inference requests and answers as gRPC messages: tensors as raw bytes, or as numbers in typed fields."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from ...contract import Array
from ...encode.faults import brief
from .datatypes import BYTES, dtype_of, from_raw, malformed, objects, to_raw
from .inference import Inferred
from .messages import message
from .outputs import Output
from .request import (
    Asked,
    InferRequest,
    Tensor,
    check_elements,
    check_id,
    check_new,
    check_shape,
    classes_of,
    refuse_shared_memory,
    timeout_of,
)

FIELDS = {
    "BOOL": "bool_contents",
    "INT8": "int_contents",
    "INT16": "int_contents",
    "INT32": "int_contents",
    "INT64": "int64_contents",
    "UINT8": "uint_contents",
    "UINT16": "uint_contents",
    "UINT32": "uint_contents",
    "UINT64": "uint64_contents",
    "FP32": "fp32_contents",
    "FP64": "fp64_contents",
    BYTES: "bytes_contents",
}
"""Where the numbers of each datatype are; FP16 only comes as raw bytes."""


def read_message(asked: Any, most: int) -> InferRequest:
    """The request in a ModelInferRequest. `most` bounds the elements of a BYTES tensor. ProblemError names the first
    fault."""
    raw = asked.raw_input_contents
    if raw and len(raw) != len(asked.inputs):
        raise malformed(f"raw_input_contents has {len(raw)} of {len(asked.inputs)} inputs; send all of them, or none")
    if not asked.inputs:
        raise malformed("inputs: the list is empty")
    seen: set[str] = set()
    tensors = [_tensor(given, raw[place] if raw else None, seen, most) for place, given in enumerate(asked.inputs)]
    named: set[str] = set()
    outputs = [_asked(one, named) for one in asked.outputs] or None
    timeout_s = timeout_of(parameters_of(asked.parameters))
    return InferRequest(check_id(asked.id), tensors, outputs, bool(raw), timeout_s)


def parameters_of(given: Mapping[str, Any]) -> dict[str, Any]:
    """Plain values by name; None where a parameter has none."""
    plain = {}
    for name, parameter in given.items():
        kind = parameter.WhichOneof("parameter_choice")
        plain[name] = getattr(parameter, kind) if kind is not None else None
    return plain


def write_message(model: str, version: str, asked: InferRequest, inferred: Inferred) -> Any:
    """The ModelInferResponse: raw where the request was, or where a datatype has no typed field."""
    response = message("inference.ModelInferResponse")(model_name=model, model_version=version, id=asked.id)
    raw = asked.binary or any(output.datatype not in FIELDS for output in inferred.outputs)
    for output in inferred.outputs:
        one = response.outputs.add(name=output.name, datatype=output.datatype, shape=output.array.shape)
        if raw:
            response.raw_output_contents.append(bytes(to_raw(output.array)))
        else:
            getattr(one.contents, FIELDS[output.datatype]).extend(_numbers(output))
    return response


def _tensor(given: Any, raw: bytes | None, seen: set[str], most: int) -> Tensor:
    name = check_new(given.name, seen, "input")
    shown = brief(name)[1:-1]
    dtype = dtype_of(shown, given.datatype)
    shape = list(given.shape)
    count = check_shape(shown, shape)
    if dtype.hasobject:
        check_elements(shown, count, most)
    refuse_shared_memory(name, given.parameters)
    if raw is None:
        return Tensor(name, _typed(shown, given, dtype, shape, count))
    if given.HasField("contents"):
        raise malformed(f"{shown}: send contents or raw_input_contents, not both")
    return Tensor(name, from_raw(shown, dtype, shape, count, raw))


def _typed(name: str, given: Any, dtype: np.dtype[Any], shape: Sequence[int], count: int) -> Array:
    field = FIELDS.get(given.datatype)
    if field is None:
        raise malformed(f"{name}: {given.datatype} comes in raw_input_contents alone")
    others = [other.name for other, _ in given.contents.ListFields() if other.name != field]
    if others:
        raise malformed(f"{name}: {given.datatype} comes in {field}, not in {others[0]}")
    numbers = getattr(given.contents, field)
    if len(numbers) != count:
        raise malformed(f"{name}: expected {count} elements for shape {list(shape)}, got {len(numbers)}")
    if dtype.hasobject:
        return objects(list(numbers), shape)
    wide = np.array(numbers, dtype=_WIDE.get(field, dtype))
    array: Array = wide.astype(dtype)
    if field in _WIDE and not np.array_equal(array, wide):
        raise malformed(f"{name}: a number is outside of {given.datatype}")
    return array.reshape(shape)


_WIDE = {"int_contents": np.dtype(np.int32), "uint_contents": np.dtype(np.uint32)}
"""Fields that several datatypes share."""


def _asked(given: Any, named: set[str]) -> Asked:
    name = check_new(given.name, named, "output")
    refuse_shared_memory(name, given.parameters)
    return Asked(name, True, classes_of(name, parameters_of(given.parameters)))


def _numbers(output: Output) -> list[Any]:
    elements: list[Any] = output.array.ravel().tolist()
    return [one.encode() if isinstance(one, str) else one for one in elements]
