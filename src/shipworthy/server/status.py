"""Routes that say how the server is, and what it serves."""

from __future__ import annotations

import asyncio
from typing import Any, Literal

from fastapi import APIRouter, Request, Response
from fastapi.responses import PlainTextResponse
from pydantic import BaseModel

from ..contract import TensorSpec
from ..contract.spec import Precision, TaskKind
from ..runtime.protocol import OperatingPoint
from .catalog import Catalog, State
from .lane import Lane
from .observe.exposition import is_openmetrics, joined
from .problems import MEDIA_TYPE, NOT_FOUND


class Liveness(BaseModel):
    status: Literal["alive"]


class Readiness(BaseModel):
    status: Literal["ready", "starting", "draining"]


class Health(BaseModel):
    status: State
    model_loaded: bool
    models: list[str]
    """Names of the models that are served."""


class PassedOver(BaseModel):
    variant: str
    reason: str


class ModelSummary(BaseModel):
    name: str
    version: str
    """Of the registry; for a package from elsewhere, the first digits of its digest."""
    variant: str
    """The candidate of the package that is run."""
    task: TaskKind
    predict: str
    """Where to ask it."""


class ModelList(BaseModel):
    models: list[ModelSummary]


class TensorDescription(BaseModel):
    dtype: str
    shape: list[int | str]
    """A number is fixed; a name is dynamic, with its bounds where it has any."""
    accept: dict[str, Any] | None = None
    """What may be sent instead."""


class ModelDescription(ModelSummary):
    versions: list[str]
    """All that are served, the current one last; each is asked at /models/{name}/versions/{version}/predict."""
    labels: list[str] | None
    inputs: dict[str, TensorDescription]
    encode: dict[str, dict[str, Any]]
    """Texts and records that may be sent, and the inputs that they feed."""
    outputs: dict[str, TensorDescription]
    precision: Precision
    engine: str
    operating_point: OperatingPoint
    target_ms: float
    """Within so many milliseconds requests are to be answered."""
    batch_ms: dict[int, float]
    """What a batch of each size costs in the engine, by now."""
    notes: list[str]
    """What cannot be sent here, and why."""
    passed_over: list[PassedOver]
    """Variants that were preferred, and could not or may not be run here."""
    created: str
    package_format: int
    contract_digest: str


def status_routes(catalog: Catalog) -> APIRouter:
    router = APIRouter(tags=["status"])

    @router.get("/livez")
    async def livez() -> Liveness:
        """The process answers."""
        return Liveness(status="alive")

    @router.get("/readyz", responses={503: {"model": Readiness}})
    async def readyz(response: Response) -> Readiness:
        """The models are loaded and proven, and requests should come; 503 where not."""
        response.status_code = 200 if catalog.ready else 503
        return Readiness(status="ready" if catalog.state == "healthy" else catalog.state)

    @router.get("/health", responses={503: {"model": Health}})
    async def health(response: Response) -> Health:
        """What is loaded; 503 while the server starts or stops."""
        response.status_code = 200 if catalog.ready else 503
        return Health(status=catalog.state, model_loaded=bool(catalog.lanes), models=list(catalog.lanes))

    return router


_NO_MODEL: dict[int | str, dict[str, Any]] = {
    404: {
        "description": NOT_FOUND.title,
        "content": {MEDIA_TYPE: {"schema": {"$ref": "#/components/schemas/Problem"}}},
    }
}


def model_routes(catalog: Catalog) -> APIRouter:
    router = APIRouter(tags=["models"])

    @router.get("/models")
    async def models() -> ModelList:
        """The models that are served."""
        return ModelList(models=[_summary(name, lane) for name, lane in catalog.lanes.items()])

    @router.get("/models/{model}", responses=_NO_MODEL)
    async def model(model: str) -> ModelDescription:
        """What a model takes and gives, and how it is run."""
        return _description(model, catalog.lane(model), list(catalog.models[model].versions))

    return router


def metrics_routes(catalog: Catalog) -> APIRouter:
    router = APIRouter(tags=["status"])

    @router.get("/metrics", response_class=PlainTextResponse)
    async def metrics(request: Request) -> Response:
        """Prometheus' text, or OpenMetrics where that is asked for; of all workers together."""
        accept = request.headers.get("accept", "")
        content, media = await asyncio.to_thread(_rendered, catalog, accept)
        return Response(content, headers={"content-type": media})

    return router


def _rendered(catalog: Catalog, accept: str) -> tuple[bytes, str]:
    content, media = catalog.metrics.render(accept)
    if catalog.observer is None:
        return content, media
    openmetrics = is_openmetrics(media)
    return joined(content, catalog.observer.exposition(openmetrics=openmetrics), openmetrics=openmetrics), media


def _summary(name: str, lane: Lane) -> ModelSummary:
    predictor = lane.predictor
    return ModelSummary(
        name=name,
        version=predictor.version,
        variant=predictor.variant.id,
        task=predictor.contract.task.kind,
        predict=f"/models/{name}/predict",
    )


def _description(name: str, lane: Lane, versions: list[str]) -> ModelDescription:
    predictor, contract = lane.predictor, lane.predictor.contract
    return ModelDescription(
        **_summary(name, lane).model_dump(),
        versions=versions,
        labels=list(contract.task.labels) if contract.task.labels is not None else None,
        inputs={
            key: _tensor(spec, spec.accept.model_dump(mode="json") if spec.accept else None)
            for key, spec in contract.inputs.items()
        },
        encode={
            key: encode.model_dump(mode="json", exclude={"tokenizer"}, exclude_none=True)
            for key, encode in contract.encode.items()
        },
        outputs={key: _tensor(spec) for key, spec in contract.outputs.items()},
        precision=predictor.variant.precision,
        engine=predictor.variant.requires.engine,
        operating_point=predictor.point,
        target_ms=lane.target_s * 1e3,
        batch_ms={size: lane.queue.curve.mean(size) * 1e3 for size in lane.queue.curve.buckets},
        notes=list(predictor.notes),
        passed_over=[PassedOver(variant=variant, reason=reason) for variant, reason in predictor.passed_over],
        created=predictor.manifest.created,
        package_format=predictor.manifest.format,
        contract_digest=predictor.manifest.contract_digest,
    )


def _tensor(spec: TensorSpec, accept: dict[str, Any] | None = None) -> TensorDescription:
    shape = [size if isinstance(size, int) else str(size) for size in spec.shape]
    return TensorDescription(dtype=spec.dtype, shape=shape, accept=accept)
