"""The infer routes in the OpenAPI document; they are no routes of FastAPI's."""

from __future__ import annotations

from typing import Any

from ..lane import Lane
from ..schemas import TIMEOUT_PARAMETER, VERSION_PARAMETER, Schema
from .datatypes import DTYPES, NAMES
from .request import MAX_ID, MAX_TIMEOUT_US

_SHAPE: Schema = {"type": "array", "items": {"type": "integer", "minimum": 0}}
_DATATYPE: Schema = {"type": "string", "enum": list(DTYPES)}
_DATA: Schema = {"type": "array", "description": "row-major, flat or nested as the shape"}
_REFUSALS = {
    400: "The request cannot be read, or does not fit the model",
    401: "A token is needed",
    404: "There is no such model",
    413: "The request is too large",
    415: "The body is compressed in a way that is not taken",
    503: "Too many requests are waiting, or the server is starting or stopping",
    504: "The deadline of the request has passed",
}
_HEADERS: list[Schema] = [
    {
        "name": "Inference-Header-Content-Length",
        "in": "header",
        "description": "Bytes of JSON before the bytes of the tensors; 0 for a body that is the only input's bytes.",
        "schema": {"type": "integer", "minimum": 0},
    },
    TIMEOUT_PARAMETER,
]


def document_infer(api: dict[str, Any], lane: Lane) -> None:
    """Add the infer routes of a model, and the schemas that they need, to an OpenAPI document."""
    schemas = api.setdefault("components", {}).setdefault("schemas", {})
    schemas.setdefault("InferRequest", _request())
    schemas.setdefault("InferResponse", _response())
    schemas.setdefault(
        "InferError", {"type": "object", "properties": {"error": {"type": "string"}}, "required": ["error"]}
    )
    base = f"/v2/models/{lane.model}"
    word = lane.model.replace("-", "_").replace(".", "_")
    current = _operation(lane, f"v2_infer_{word}", f"Infer with {lane.model}", [])
    api["paths"][f"{base}/infer"] = {"post": current}
    versioned = _operation(
        lane, f"v2_infer_version_{word}", f"Infer with a version of {lane.model}", [VERSION_PARAMETER]
    )
    api["paths"][f"{base}/versions/{{version}}/infer"] = {"post": versioned}


def _operation(lane: Lane, operation_id: str, summary: str, parameters: list[Schema]) -> Schema:
    return {
        "tags": ["open inference protocol"],
        "operationId": operation_id,
        "summary": summary,
        "description": "Tensors as JSON, or as bytes behind the JSON (binary tensor extension).",
        "parameters": [*parameters, *_HEADERS],
        "requestBody": {"required": True, "content": _content("InferRequest", _example(lane))},
        "responses": {
            "200": {"description": "The outputs", "content": _content("InferResponse", None)},
            **{
                str(status): {
                    "description": words,
                    "content": {"application/json": {"schema": {"$ref": "#/components/schemas/InferError"}}},
                }
                for status, words in _REFUSALS.items()
            },
        },
    }


def _content(schema: str, example: Schema | None) -> Schema:
    described: Schema = {"schema": {"$ref": f"#/components/schemas/{schema}"}}
    if example is not None:
        described["example"] = example
    return {
        "application/json": described,
        "application/octet-stream": {"schema": {"type": "string", "format": "binary"}},
    }


def _request() -> Schema:
    tensor = _tensor(_parameters(binary_data_size={"type": "integer", "minimum": 0}), _DATA)
    asked = {
        "type": "object",
        "properties": {
            "name": {"type": "string"},
            "parameters": _parameters(
                binary_data={"type": "boolean"}, classification={"type": "integer", "minimum": 0}
            ),
        },
        "required": ["name"],
    }
    parameters = _parameters(
        binary_data_output={"type": "boolean"},
        timeout={"type": "integer", "minimum": 0, "maximum": MAX_TIMEOUT_US, "description": "microseconds"},
        priority={"type": "integer", "minimum": 0},
    )
    return {
        "type": "object",
        "properties": {
            "id": {"type": "string", "maxLength": MAX_ID},
            "parameters": parameters,
            "inputs": {"type": "array", "items": tensor, "minItems": 1},
            "outputs": {"type": "array", "items": asked},
        },
        "required": ["inputs"],
    }


def _response() -> Schema:
    tensor = _tensor({"type": "object"}, {"type": "array"})
    return {
        "type": "object",
        "properties": {
            "model_name": {"type": "string"},
            "model_version": {"type": "string"},
            "id": {"type": "string"},
            "outputs": {"type": "array", "items": tensor},
        },
        "required": ["model_name", "model_version", "outputs"],
    }


def _tensor(parameters: Schema, data: Schema) -> Schema:
    return {
        "type": "object",
        "properties": {
            "name": {"type": "string"},
            "datatype": _DATATYPE,
            "shape": _SHAPE,
            "parameters": parameters,
            "data": data,
        },
        "required": ["name", "datatype", "shape"],
    }


def _parameters(**known: Schema) -> Schema:
    return {"type": "object", "properties": known}


def _example(lane: Lane) -> Schema | None:
    """A request of one row of zeros; None where that would be long."""
    inputs = []
    for name, spec in lane.predictor.contract.inputs.items():
        shape = [1, *(size if isinstance(size, int) else size.min for size in spec.shape[1:])]
        count = 1
        for size in shape:
            count *= size
        if count > 64:
            return None
        zero: bool | int = False if spec.numpy.kind == "b" else 0
        inputs.append({"name": name, "datatype": NAMES[spec.numpy], "shape": shape, "data": [zero] * count})
    return {"inputs": inputs}
