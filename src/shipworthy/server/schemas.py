"""JSON Schemas (2020-12) of what a contract takes and gives, with examples."""

from __future__ import annotations

import base64
import struct
import zlib
from typing import Any, TypeAlias

import numpy as np

from ..contract import Contract, Dim, ImageAccept, InputSpec, RecordEncode, TensorSpec
from ..contract.accept import CHANNELS
from ..predict.requests import MANY
from .head import MAX_TIMEOUT_MS

Schema: TypeAlias = dict[str, Any]

MAX_EXAMPLE = 1024
"""A tensor with more numbers has no example."""
VERSION_PARAMETER: Schema = {"name": "version", "in": "path", "required": True, "schema": {"type": "string"}}
TIMEOUT_PARAMETER: Schema = {
    "name": "x-request-timeout-ms",
    "in": "header",
    "description": "An answer that would come later is given up with 504.",
    "schema": {"type": "integer", "minimum": 1, "maximum": MAX_TIMEOUT_MS},
}


def instance_schema(contract: Contract) -> Schema:
    """One instance: every input is fed by one field."""
    fields: dict[str, list[Schema]] = {name: _input_schemas(spec) for name, spec in contract.inputs.items()}
    for name, encode in contract.encode.items():
        form = _record_schema(encode, contract) if isinstance(encode, RecordEncode) else {"type": "string"}
        fields.setdefault(name, []).insert(0, form)
    properties = {name: forms[0] if len(forms) == 1 else {"anyOf": forms} for name, forms in fields.items()}
    schema: Schema = {"type": "object", "properties": properties, "additionalProperties": False}
    encoded = {name for name in contract.encode if name not in contract.inputs}
    if not encoded:
        return {**schema, "required": list(contract.inputs)}
    return {
        **schema,
        "description": f"Every input is fed once: by its own field, or by {' or '.join(sorted(encoded))}.",
    }


def many_schema(instance: Schema, max_instances: int) -> Schema:
    items = {"type": "array", "items": instance, "minItems": 1, "maxItems": max_instances}
    return {"type": "object", "properties": {MANY: items}, "required": [MANY], "additionalProperties": False}


def instance_example(contract: Contract) -> dict[str, Any]:
    """One instance that the codec takes, with the shortest form of each input; empty where a tensor is too large."""
    example: dict[str, Any] = {}
    fed: set[str] = set()
    for name, encode in contract.encode.items():
        is_record = isinstance(encode, RecordEncode)
        example[name] = dict.fromkeys(encode.fields, 0) if isinstance(encode, RecordEncode) else "An example."
        fed |= set(encode.feeds or tuple(contract.inputs)) if is_record else set(encode.feeds or ())
    for name, spec in contract.inputs.items():
        if name in fed:
            continue
        if spec.accept is not None:
            example[name] = base64.b64encode(_grey_png(spec.accept)).decode()
        elif (numbers := _example_numbers(spec)) is not None:
            example[name] = numbers
        else:
            return {}
    return example


def tensor_schema(spec: TensorSpec) -> Schema:
    """Nested arrays of numbers, without the batch dimension."""
    schema = _number_schema(spec)
    for dim in reversed(spec.shape[1:]):
        low, high = (dim.min, dim.max) if isinstance(dim, Dim) else (dim, dim)
        schema = {"type": "array", "items": schema, "minItems": low, **({} if high is None else {"maxItems": high})}
    return {**schema, "description": f"{spec.dtype} [{', '.join(map(str, spec.shape[1:]))}]"}


def _input_schemas(spec: InputSpec) -> list[Schema]:
    tensor = tensor_schema(spec)
    if spec.accept is None:
        return [tensor]
    height, width = spec.accept.size
    words = f"base64 of a PNG or JPEG file, which becomes {width} x {height} pixels, {spec.accept.mode}"
    return [{"type": "string", "contentEncoding": "base64", "description": words}, tensor]


def _record_schema(encode: RecordEncode, contract: Contract) -> Schema:
    fed = (encode.feeds or tuple(contract.inputs))[0]
    number = _number_schema(contract.inputs[fed])
    return {
        "type": "object",
        "properties": dict.fromkeys(encode.fields, number),
        "required": list(encode.fields),
        "additionalProperties": False,
    }


def _number_schema(spec: TensorSpec) -> Schema:
    if spec.numpy.kind == "b":
        return {"type": "boolean"}
    if spec.numpy.kind == "f":
        return {"type": "number"}
    info = np.iinfo(spec.numpy)
    return {"type": "integer", "minimum": int(info.min), "maximum": int(info.max)}


def _example_numbers(spec: TensorSpec) -> Any:
    shape = [dim.min if isinstance(dim, Dim) else dim for dim in spec.shape[1:]]
    return np.zeros(shape, spec.numpy).tolist() if np.prod(shape) <= MAX_EXAMPLE else None


def _grey_png(accept: ImageAccept) -> bytes:
    """A black image of the right size, written by hand so that no image library is needed."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    height, width = accept.size
    channels = CHANNELS[accept.mode]
    header = struct.pack(">IIBBBBB", width, height, 8, 0 if channels == 1 else 2, 0, 0, 0)
    rows = zlib.compress(bytes(height * (1 + width * channels)))
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", rows) + chunk(b"IEND", b"")
