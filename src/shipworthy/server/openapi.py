"""The OpenAPI document: the fixed routes by FastAPI, the predict routes from the contracts."""

from __future__ import annotations

from typing import Any

from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi

from ..contract import Contract, Dim
from .access import OPEN_PATHS
from .bodies import FORM, IMAGES, JSON
from .catalog import Catalog
from .lane import Lane
from .problems import MEDIA_TYPE, METHOD_NOT_ALLOWED, NOT_FOUND, PROBLEM_TYPES, UNREACHABLE
from .schemas import (
    TIMEOUT_PARAMETER,
    VERSION_PARAMETER,
    Schema,
    instance_example,
    instance_schema,
    many_schema,
    tensor_schema,
)
from .v2 import document_infer

_SECTIONS = {
    "predict": "Ask a model. Instances come as JSON; images, where the model takes them, also as they are.",
    "models": "What is served, and how it is run.",
    "monitor": "How answers have changed, for who looks after a model.",
    "health": "How the server is, for whoever starts it and sends it requests.",
    "open inference protocol": "The same models for clients of KServe and Triton (version 2 of the protocol).",
    "metrics": "What was counted and timed.",
}
"""In the order of the page."""
_FIXED = {
    "/models": ("models", "List the models"),
    "/models/{model}": ("models", "Describe a model"),
    "/models/{model}/feedback": ("models", "Tell what was true"),
    "/models/{model}/monitor": ("monitor", "See what is watched"),
    "/models/{model}/monitor/acknowledge": ("monitor", "Acknowledge an alarm"),
    "/livez": ("health", "Tell whether the process lives"),
    "/readyz": ("health", "Tell whether requests should come"),
    "/health": ("health", "Tell what is loaded"),
    "/metrics": ("metrics", "Read the metrics"),
}
"""Section and summary of the routes that are the same for all models."""
_PARAMETERS = [
    {
        "name": "round",
        "in": "query",
        "description": "Round every float of the answer to so many digits.",
        "schema": {"type": "integer", "minimum": 0, "maximum": 17},
    },
    {
        "name": "x-request-id",
        "in": "header",
        "description": "Comes back with the answer; made up where there is none.",
        "schema": {"type": "string", "maxLength": 128},
    },
    TIMEOUT_PARAMETER,
]
_HEADERS = {
    "x-request-id": {"schema": {"type": "string"}},
    "server-timing": {
        "description": "Milliseconds: queue;dur=0.021, compute;dur=0.534",
        "schema": {"type": "string"},
    },
}


def document(app: FastAPI, catalog: Catalog, *, secured: bool) -> dict[str, Any]:
    """The whole document for the models that are served now; first what most come for."""
    api = get_openapi(title=app.title, version=app.version, description=app.description, routes=app.routes)
    fixed, api["paths"] = api["paths"], {}
    components = api.setdefault("components", {})
    components.setdefault("schemas", {})["Problem"] = _problem_schema()
    if len(catalog.lanes) == 1:
        name, lane = next(iter(catalog.lanes.items()))
        api["paths"]["/predict"] = {"post": _operation(name, lane, "predict", f"Ask {name}, the only model")}
    for name, lane in catalog.lanes.items():
        _add_model(api, name, lane)
        document_infer(api, lane)
    for path, (section, summary) in _FIXED.items():
        for operation in fixed[path].values():
            operation |= {"tags": [section], "summary": summary}
    places = list(_SECTIONS)
    api["paths"] = dict(sorted({**api["paths"], **fixed}.items(), key=lambda item: places.index(_section(item[1]))))
    api["tags"] = [{"name": name, "description": words} for name, words in _SECTIONS.items()]
    if secured:
        components["securitySchemes"] = {"token": {"type": "http", "scheme": "bearer"}}
        api["security"] = [{"token": []}]
        for path in OPEN_PATHS & set(api["paths"]):
            api["paths"][path]["get"]["security"] = []
    return api


def _add_model(api: dict[str, Any], name: str, lane: Lane) -> None:
    contract = lane.predictor.contract
    schemas, paths = api["components"]["schemas"], api["paths"]
    schemas[f"{name}.Instance"] = instance_schema(contract)
    schemas[f"{name}.Answer"] = answer_schema(contract)
    paths[f"/models/{name}/predict"] = {"post": _operation(name, lane, f"predict_{name}", f"Ask {name}")}
    numbered = _operation(name, lane, f"predict_version_{name}", f"Ask a version of {name}")
    numbered["parameters"] = [VERSION_PARAMETER, *_PARAMETERS]
    numbered["responses"] |= {"404": _refusal(NOT_FOUND.title)}
    paths[f"/models/{name}/versions/{{version}}/predict"] = {"post": numbered}


def _section(path: dict[str, Any]) -> str:
    section: str = next(iter(path.values()))["tags"][0]
    return section


def answer_schema(contract: Contract) -> Schema:
    """One answer, by the task."""
    stamp: Schema = {name: {"type": "string"} for name in ("prediction_id", "model", "version", "variant")}
    body = {
        "classification": _classification,
        "multilabel": _multilabel,
        "regression": _regression,
        "embedding": _outputs,
        "tensors": _outputs,
    }[contract.task.kind](contract)
    return {"type": "object", "properties": {**body, **stamp}, "required": [*body, *stamp]}


def _classification(contract: Contract) -> Schema:
    return {
        "predicted_class": {"type": "integer", "minimum": 0},
        "label": _label(contract),
        "confidence": {"type": ["number", "null"], "description": "probability of the predicted class"},
        "probabilities": {"type": ["array", "null"], "items": {"type": "number"}, "description": "by class"},
    }


def _multilabel(contract: Contract) -> Schema:
    return {
        "predicted_classes": {"type": "array", "items": {"type": "integer", "minimum": 0}},
        "labels": {"type": "array", "items": _label(contract)},
        "probabilities": {"type": ["array", "null"], "items": {"type": "number"}, "description": "by class"},
    }


def _regression(contract: Contract) -> Schema:
    scored = contract.scored
    dims = contract.outputs[scored].shape[1:] if scored is not None else ()
    return {"value": {"type": "number"} if dims in ((), (1,)) else {"type": "array"}}


def _outputs(contract: Contract) -> Schema:
    nullable = contract.task.kind == "tensors"
    outputs = {}
    for name, spec in contract.outputs.items():
        batched = bool(spec.shape) and isinstance(spec.shape[0], Dim) and spec.shape[0].name == "batch"
        outputs[name] = tensor_schema(spec) if batched and not nullable else {"description": spec.show()}
    return {"outputs": {"type": "object", "properties": outputs, "required": list(outputs)}}


def _label(contract: Contract) -> Schema:
    labels = contract.task.labels
    return {"type": "string"} if labels is None else {"type": "string", "enum": list(dict.fromkeys(labels))}


def _operation(name: str, lane: Lane, operation_id: str, summary: str) -> dict[str, Any]:
    answer: Schema = {"$ref": f"#/components/schemas/{name}.Answer"}
    numbered = {"allOf": [answer, {"properties": {"sample_index": {"type": "integer"}}, "required": ["sample_index"]}]}
    many = {
        "type": "object",
        "properties": {"predictions": {"type": "array", "items": numbered}},
        "required": ["predictions"],
    }
    return {
        "tags": ["predict"],
        "operationId": operation_id.replace("-", "_").replace(".", "_"),
        "summary": summary,
        "description": "One instance is answered by one answer; many, by a list in the same order.",
        "parameters": _PARAMETERS,
        "requestBody": {"required": True, "content": _bodies(name, lane)},
        "responses": {
            "200": {
                "description": "The answer",
                "headers": _HEADERS,
                "content": {JSON: {"schema": {"oneOf": [answer, many]}}},
            },
            **{status: _refusal(titles) for status, titles in _refusals().items()},
        },
    }


def _bodies(name: str, lane: Lane) -> dict[str, Any]:
    one: Schema = {"$ref": f"#/components/schemas/{name}.Instance"}
    content: dict[str, Any] = {JSON: {"schema": {"oneOf": [one, many_schema(one, lane.settings.max_instances)]}}}
    example = instance_example(lane.predictor.contract)
    # A page that makes up an example of its own would spell out every number of a large tensor.
    content[JSON]["examples"] = {
        "one": {"summary": "one instance", "value": example},
        "many": {"summary": "many instances", "value": {"instances": [example, example]}},
    }
    field = lane.predictor.codec.accepts_image
    if field is not None:
        content.update({media: {"schema": {"type": "string", "format": "binary"}} for media in IMAGES})
        files = {"type": "array", "items": {"type": "string", "format": "binary"}, "minItems": 1}
        content[FORM] = {"schema": {"type": "object", "properties": {field: files}, "required": [field]}}
    return content


def _refusals() -> dict[str, str]:
    """What each status says, of those that a route may have which is there."""
    words: dict[str, str] = {}
    for problem in PROBLEM_TYPES:
        if problem not in (NOT_FOUND, METHOD_NOT_ALLOWED, UNREACHABLE):
            status = str(problem.status)
            words[status] = f"{words[status]}. {problem.title}" if status in words else problem.title
    return words


def _refusal(title: str) -> dict[str, Any]:
    return {"description": title, "content": {MEDIA_TYPE: {"schema": {"$ref": "#/components/schemas/Problem"}}}}


def _problem_schema() -> Schema:
    fault = {
        "type": "object",
        "properties": {
            "sample_index": {"type": "integer", "description": "place among the instances; 0 for one"},
            "field": {"type": "string"},
            "reason": {"type": "string"},
        },
        "required": ["sample_index", "field", "reason"],
    }
    return {
        "type": "object",
        "properties": {
            "type": {"type": "string", "examples": [problem.uri for problem in PROBLEM_TYPES]},
            "title": {"type": "string"},
            "status": {"type": "integer"},
            "detail": {"type": "string"},
            "request_id": {"type": "string"},
            "errors": {"type": "array", "items": fault, "description": "every fault of every instance"},
        },
        "required": ["type", "title", "status", "detail", "request_id"],
    }
