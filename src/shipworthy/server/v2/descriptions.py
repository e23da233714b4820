"""What the protocol says of a server and its models; the same content over HTTP and gRPC.

Each of these has the names of the message that it becomes over gRPC."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from pydantic import BaseModel, Field

from ... import __version__
from ...contract import Dim, TensorSpec
from ..observe.protocol import Statistics, Timing
from .datatypes import NAMES

if TYPE_CHECKING:
    from ..catalog import Catalog, Entry, Model
    from ..lane import Lane

EXTENSIONS = (
    "binary_tensor_data",
    "classification",
    "model_configuration",
    "model_repository",
    "model_repository(unload_dependents)",
    "parameters",
    "statistics",
)
PLATFORMS = {
    "onnxruntime": "onnxruntime_onnx",
    "openvino": "openvino_ir",
    "torchscript": "pytorch_torchscript",
    "aoti": "pytorch_aotinductor",
    "torch": "pytorch_eager",
}
"""By engine: the protocol's `<project>_<format>`."""


class ServerMetadata(BaseModel):
    name: str
    version: str
    extensions: list[str]


class TensorMetadata(BaseModel):
    name: str
    datatype: str
    shape: list[int]
    """-1 for a size that varies."""


class ModelMetadata(BaseModel):
    name: str
    versions: list[str]
    platform: str
    inputs: list[TensorMetadata]
    outputs: list[TensorMetadata]


class TensorConfig(BaseModel):
    name: str
    data_type: str
    dims: list[int]
    """Without the batch."""


class InstanceGroup(BaseModel):
    name: str
    kind: Literal["KIND_CPU", "KIND_GPU"]
    count: int
    """Streams of the operating point."""


class DynamicBatching(BaseModel):
    preferred_batch_size: list[int]
    """Sizes of batches that were measured, which are the ones that run."""


class TransactionPolicy(BaseModel):
    decoupled: bool = False


class ModelConfig(BaseModel):
    name: str
    platform: str
    backend: str
    max_batch_size: int
    """Rows that a request may have."""
    input: list[TensorConfig]
    output: list[TensorConfig]
    dynamic_batching: DynamicBatching
    instance_group: list[InstanceGroup]
    model_transaction_policy: TransactionPolicy = TransactionPolicy()


class Duration(BaseModel):
    count: int = 0
    ns: int = 0
    """All of them together, in nanoseconds."""


class InferStatistics(BaseModel):
    success: Duration
    fail: Duration
    queue: Duration
    compute_input: Duration = Duration()
    compute_infer: Duration
    compute_output: Duration = Duration()


class BatchStatistics(BaseModel):
    batch_size: int
    compute_input: Duration = Duration()
    compute_infer: Duration
    compute_output: Duration = Duration()


class ModelStatistics(BaseModel):
    name: str
    version: str
    last_inference: int
    """Milliseconds since 1970; 0 for never."""
    inference_count: int
    """Rows."""
    execution_count: int
    """Batches."""
    inference_stats: InferStatistics
    batch_stats: list[BatchStatistics]


class StatisticsOfModels(BaseModel):
    model_stats: list[ModelStatistics]


class ModelIndex(BaseModel):
    name: str
    version: str
    state: Literal["READY", "LOADING", "UNAVAILABLE"]
    reason: str = Field(default="")


def server_metadata() -> ServerMetadata:
    return ServerMetadata(name="shipworthy", version=__version__, extensions=list(EXTENSIONS))


def model_metadata(model: Model, lane: Lane) -> ModelMetadata:
    contract = lane.predictor.contract
    return ModelMetadata(
        name=model.name,
        versions=list(model.versions),
        platform=_platform(lane),
        inputs=[_metadata(name, spec) for name, spec in contract.inputs.items()],
        outputs=[_metadata(name, spec) for name, spec in contract.outputs.items()],
    )


def model_config(lane: Lane) -> ModelConfig:
    predictor = lane.predictor
    requires = predictor.variant.requires
    return ModelConfig(
        name=lane.model,
        platform=_platform(lane),
        backend=requires.engine,
        max_batch_size=lane.settings.max_instances,
        input=[_config(name, spec) for name, spec in predictor.contract.inputs.items()],
        output=[_config(name, spec) for name, spec in predictor.contract.outputs.items()],
        dynamic_batching=DynamicBatching(preferred_batch_size=list(predictor.batch_sizes)),
        instance_group=[
            InstanceGroup(
                name=predictor.variant.id,
                kind="KIND_GPU" if requires.device == "cuda" else "KIND_CPU",
                count=predictor.point.streams,
            )
        ],
    )


def statistics_of(catalog: Catalog, name: str | None, version: str | None = None) -> StatisticsOfModels:
    """Of one version, of all versions of one model, or of all models. ProblemError where there is none of that name."""
    if version is not None:
        lanes = [catalog.lane(name, version)]
    elif name is not None:
        lanes = list(catalog.models[catalog.lane(name).model].versions.values())
    else:
        lanes = [lane for model in catalog.models.values() for lane in model.versions.values()]
    counted = [catalog.metrics.statistics(lane.model, lane.version) for lane in lanes]
    return StatisticsOfModels(model_stats=[_statistics(one) for one in counted])


def repository_index(entries: list[Entry], *, ready: bool) -> list[ModelIndex]:
    """The models that the server knows of, or those alone that are served."""
    return [
        ModelIndex(name=entry.name, version=entry.version, state=entry.state, reason=entry.reason)
        for entry in entries
        if entry.state == "READY" or not ready
    ]


def _platform(lane: Lane) -> str:
    engine = lane.predictor.variant.requires.engine
    return PLATFORMS.get(engine, engine)


def _metadata(name: str, spec: TensorSpec) -> TensorMetadata:
    return TensorMetadata(name=name, datatype=NAMES[spec.numpy], shape=_sizes(spec))


def _config(name: str, spec: TensorSpec) -> TensorConfig:
    batched = bool(spec.shape) and isinstance(spec.shape[0], Dim) and spec.shape[0].name == "batch"
    dims = _sizes(spec)[1:] if batched else _sizes(spec)
    return TensorConfig(name=name, data_type=f"TYPE_{NAMES[spec.numpy]}", dims=dims)


def _sizes(spec: TensorSpec) -> list[int]:
    return [size if isinstance(size, int) else -1 for size in spec.shape]


def _statistics(counted: Statistics) -> ModelStatistics:
    return ModelStatistics(
        name=counted.model,
        version=counted.version,
        last_inference=counted.last_inference_ms,
        inference_count=counted.inference_count,
        execution_count=counted.execution_count,
        inference_stats=InferStatistics(
            success=_duration(counted.success),
            fail=_duration(counted.fail),
            queue=_duration(counted.queue),
            compute_infer=_duration(counted.compute_infer),
        ),
        batch_stats=[
            BatchStatistics(batch_size=one.batch_size, compute_infer=_duration(one.compute_infer))
            for one in counted.batches
        ],
    )


def _duration(timing: Timing) -> Duration:
    return Duration(count=timing.count, ns=timing.ns)
