"""Inference requests and answers as gRPC messages: tensors as raw bytes, or as numbers in typed fields."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from ...contract import Array
from .datatypes import BYTES, malformed, objects, to_raw
from .declarations import Declarations, Declared, asked_output
from .inference import Inferred
from .messages import message
from .outputs import Output
from .request import Asked, InferRequest, Tensor, check_id, refuse_shared_memory, timeout_of

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
    declarations = Declarations(most)
    tensors = [
        _tensor(given, declarations.input(given.name, given.datatype, list(given.shape)), raw[place] if raw else None)
        for place, given in enumerate(asked.inputs)
    ]
    outputs = [_asked(given, declarations) for given in asked.outputs] or None
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


def _tensor(given: Any, declared: Declared, raw: bytes | None) -> Tensor:
    refuse_shared_memory(declared.name, given.parameters)
    if raw is None:
        return Tensor(declared.name, _typed(given, declared))
    if given.HasField("contents"):
        raise malformed(f"{declared.shown}: send contents or raw_input_contents, not both")
    return declared.tensor(raw)


def _typed(given: Any, declared: Declared) -> Array:
    name, dtype, shape = declared.shown, declared.dtype, declared.shape
    field = FIELDS.get(given.datatype)
    if field is None:
        raise malformed(f"{name}: {given.datatype} comes in raw_input_contents alone")
    others = [other.name for other, _ in given.contents.ListFields() if other.name != field]
    if others:
        raise malformed(f"{name}: {given.datatype} comes in {field}, not in {others[0]}")
    numbers = getattr(given.contents, field)
    declared.check_count(len(numbers))
    if dtype.hasobject:
        return objects(list(numbers), shape)
    wide = np.array(numbers, dtype=_WIDE.get(field, dtype))
    array: Array = wide.astype(dtype)
    if field in _WIDE and not np.array_equal(array, wide):
        raise malformed(f"{name}: a number is outside of {given.datatype}")
    return array.reshape(shape)


_WIDE = {"int_contents": np.dtype(np.int32), "uint_contents": np.dtype(np.uint32)}
"""Fields that several datatypes share."""


def _asked(given: Any, declarations: Declarations) -> Asked:
    return asked_output(declarations.output(given.name), parameters_of(given.parameters), binary=True)


def _numbers(output: Output) -> list[Any]:
    elements: list[Any] = output.array.ravel().tolist()
    return [one.encode() if isinstance(one, str) else one for one in elements]
