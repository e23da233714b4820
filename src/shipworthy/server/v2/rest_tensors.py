"""Inference requests and answers as HTTP bodies: JSON, and tensors as bytes behind it (binary tensor extension)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from itertools import chain
from typing import Any

from pydantic_core import to_json

from ...encode.faults import brief
from ..bodies import read_json
from .datatypes import from_list, malformed, to_list, to_raw
from .declarations import Declarations, Declared, asked_output
from .outputs import Output
from .request import Asked, InferRequest, Tensor, check_id, refuse_shared_memory, timeout_of

MAX_TENSORS = 256
"""Inputs, and outputs, that a request may name."""


def read_request(body: bytes, header_length: int | None, most: int) -> InferRequest:
    """The request in a body whose first `header_length` bytes, or all where it is None, are JSON.

    `most` bounds the elements of a BYTES tensor. Arrays are views of `body` where they came as bytes. ProblemError
    names the first fault."""
    header = body
    if header_length is not None:
        if header_length > len(body):
            raise malformed("Inference-Header-Content-Length is more than the body has")
        header = body[:header_length]
    try:
        value = read_json(header)
    except ValueError as error:
        raise malformed(f"the body is no JSON: {error}") from error
    if not isinstance(value, dict):
        raise malformed('expected an object with "inputs"')
    parameters = _parameters(value, "request")
    declarations = Declarations(most)
    reading = _Reading(body, header_length, declarations)
    inputs = [reading.tensor(given) for given in _objects(value, "inputs")]
    reading.end()
    binary = _flag("request", parameters, "binary_data_output", default=False)
    named = value.get("outputs") not in (None, [])
    asked = [_asked(given, declarations, binary) for given in _objects(value, "outputs")] if named else None
    return InferRequest(check_id(value.get("id", "")), inputs, asked, binary, timeout_of(parameters))


class _Reading:
    """Takes the tensors of a request one after another, and the bytes behind its JSON in the same order."""

    def __init__(self, body: bytes, header_length: int | None, declarations: Declarations) -> None:
        self._data = memoryview(body)
        self._place = header_length
        self._declarations = declarations

    def tensor(self, given: Mapping[str, Any]) -> Tensor:
        declared = self._declarations.input(given.get("name"), given.get("datatype"), given.get("shape"))
        parameters = _parameters(given, declared.shown)
        refuse_shared_memory(declared.name, parameters)
        size = parameters.get("binary_data_size")
        if size is None:
            flat = _flat(declared, given.get("data"))
            return Tensor(declared.name, from_list(declared.shown, declared.dtype, declared.shape, flat))
        if "data" in given:
            raise malformed(f"{declared.shown}: send data or binary_data_size, not both")
        return declared.tensor(self._take(declared.shown, size))

    def _take(self, name: str, size: object) -> memoryview:
        if self._place is None:
            raise malformed(f"{name}: binary_data_size needs the header Inference-Header-Content-Length")
        if type(size) is not int or not 0 <= size <= len(self._data) - self._place:
            raise malformed(f"{name}: binary_data_size is more than the body has")
        start = self._place
        self._place += size
        return self._data[start : self._place]

    def end(self) -> None:
        if self._place is not None and self._place != len(self._data):
            raise malformed(f"the body has {len(self._data) - self._place} bytes that belong to no input")


def _flat(declared: Declared, data: object) -> list[Any]:
    """The elements of `data`, which is a flat list or nested as the shape is."""
    name, shape = declared.shown, declared.shape
    if not isinstance(data, list):
        raise malformed(f"{name}: data is missing; it is a list")
    level: list[Any] = data
    if data and type(data[0]) is list:
        fits = bool(shape) and len(data) == shape[0]
        for size in shape[1:] if fits else ():
            fits = fits and all(type(item) is list and len(item) == size for item in level)
            if fits:
                level = list(chain.from_iterable(level))
        if not fits:
            raise malformed(f"{name}: data is neither flat nor nested as shape {shape}")
    declared.check_count(len(level))
    return level


def _objects(value: Mapping[str, Any], key: str) -> Sequence[Mapping[str, Any]]:
    given = value.get(key)
    if not isinstance(given, list) or not all(isinstance(one, dict) for one in given):
        raise malformed(f"{key}: expected a list of objects")
    if not given:
        raise malformed(f"{key}: the list is empty")
    if len(given) > MAX_TENSORS:
        raise malformed(f"{key}: a request may have {MAX_TENSORS}, got {len(given)}")
    return given


def _parameters(value: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    given = value.get("parameters")
    if given is None:
        return {}
    if not isinstance(given, dict):
        raise malformed(f"{name}: parameters is no object")
    return given


def _flag(name: str, parameters: Mapping[str, Any], key: str, *, default: bool) -> bool:
    given = parameters.get(key, default)
    if not isinstance(given, bool):
        raise malformed(f"{name}: {key}: expected true or false")
    return given


def _asked(given: Mapping[str, Any], declarations: Declarations, binary: bool) -> Asked:
    name = declarations.output(given.get("name"))
    parameters = _parameters(given, brief(name))
    return asked_output(name, parameters, binary=_flag(brief(name), parameters, "binary_data", default=binary))


def write_answer(model: str, version: str, request_id: str, outputs: Sequence[Output]) -> tuple[bytes, int | None]:
    """The body of an answer, and how many bytes of it are JSON where there are others."""
    described: dict[str, Any] = {"model_name": model, "model_version": version}
    if request_id:
        described["id"] = request_id
    raw: list[bytes | memoryview] = []
    described["outputs"] = list(_described(outputs, raw))
    header = to_json(described)
    return (b"".join([header, *raw]), len(header)) if raw else (header, None)


def _described(outputs: Sequence[Output], raw: list[bytes | memoryview]) -> Iterator[dict[str, Any]]:
    for output in outputs:
        one: dict[str, Any] = {"name": output.name, "datatype": output.datatype, "shape": output.array.shape}
        if output.binary:
            data = to_raw(output.array)
            one["parameters"] = {"binary_data_size": data.nbytes if isinstance(data, memoryview) else len(data)}
            raw.append(data)
        else:
            one["data"] = to_list(output.array)
        yield one
