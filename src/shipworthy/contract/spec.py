"""The contract: what goes in, what comes out, how good it must stay, how fast and small it must be."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, TypeAlias

from pydantic import Field, ValidationError, field_validator, model_validator

from .accept import Accept, Encode, ImageAccept, RecordEncode, TextEncode
from .crosscheck import ContradictionError, contradictions
from .tensors import BATCH, Count, Dim, Finite, Positive, Signature, Strict, TensorSpec

__all__ = [
    "Accept",
    "Contract",
    "DataSpec",
    "Encode",
    "EngineName",
    "ImageAccept",
    "InputSpec",
    "Kind",
    "Limits",
    "Objective",
    "OutputSpec",
    "Precision",
    "RecordEncode",
    "SearchSpec",
    "TargetSpec",
    "TaskKind",
    "TaskSpec",
    "TextEncode",
    "TrainingSpec",
]

Kind: TypeAlias = Literal["logits", "probabilities", "values"]
TaskKind: TypeAlias = Literal["classification", "multilabel", "regression", "embedding", "tensors"]
Precision: TypeAlias = Literal["fp32", "bf16", "fp16", "int8", "fp8"]
EngineName: TypeAlias = Literal["torch", "torchscript", "aoti", "onnxruntime", "openvino"]
Quantization: TypeAlias = Literal["dynamic", "static", "accuracy-aware", "qat"]
Share: TypeAlias = Annotated[float, Field(strict=True, ge=0, lt=1)]

Objective: TypeAlias = Literal["throughput", "latency", "size", "compressed-size"]

_UNITS = {"s": 1, "min": 60, "h": 3600}


class InputSpec(TensorSpec):
    """One input of the model, a table named after the argument that it is."""

    pad: Finite | None = None
    """A value that changes no answer when it is appended along the dynamic sizes behind the batch, so that requests of
    different sizes may share a batch. Proven on the golden cases whenever a package is loaded."""
    accept: Accept | None = None
    """What clients may send instead of this tensor."""

    @field_validator("shape")
    @classmethod
    def _batch_first(cls, shape: tuple[int | Dim, ...]) -> tuple[int | Dim, ...]:
        if not shape or not isinstance(shape[0], Dim) or shape[0].name != BATCH:
            raise ValueError('the first dimension of an input is the dynamic dimension "batch"')
        return shape


class OutputSpec(TensorSpec):
    """One output of the model; found by running it where it is not given."""

    kind: Kind = "values"
    """What the numbers are: `logits` before a softmax or sigmoid, `probabilities` after it, other `values`."""


class TaskSpec(Strict):
    """What the model does: it decides the shape of the answers and the metric."""

    kind: TaskKind = "tensors"
    """The task. `tensors` promises nothing of the outputs: they are returned as they are."""
    labels: tuple[str, ...] | None = None
    """Names of the classes, in the order of the model's scores."""
    post: str | None = None
    """`module:callable` giving an nn.Module that is exported behind the model, as part of the graph."""


class DataSpec(Strict):
    """Where the data is: arrays named like the inputs, and `label` or `target`.

    Each is a .npz, .safetensors or .parquet file, a folder of images, or `module:callable` giving a Dataset or
    DataLoader."""

    train: str | None = None
    """For distillation, fine-tuning and quantization-aware training only."""
    calibration: str | None = None
    """For the ranges of activations in static quantization. Default: the validation data."""
    validation: str | None = None
    """What the search looks at."""
    holdout: str | None = None
    """The proof: never seen by the search. Default: a seeded half of the validation data."""
    metric: str | None = None
    """A built-in name, or `module:callable(outputs, targets) -> float` (higher is better). Default: the task's."""


class Limits(Strict):
    """What the packed model must keep. What is not stated is not judged."""

    max_metric_drop: Annotated[float, Field(strict=True, ge=0, allow_inf_nan=False)] | None = None
    """Largest loss of the metric, absolute, against eager fp32."""
    confidence: Annotated[float, Field(strict=True, gt=0.5, lt=1)] | None = None
    """If given, the drop must be proven at this level on the holdout, not only observed."""
    p99_ms: Positive | None = None
    """99th percentile of the time of a request, in a closed loop, in milliseconds."""
    size_mb: Positive | None = None
    """Of the variant's files, in 10^6 bytes."""
    rss_mb: Positive | None = None
    """Peak resident memory of a process that runs the variant, in 10^6 bytes."""


class TargetSpec(Strict):
    """Where the model will run, and what it is chosen for."""

    device: Literal["cpu", "cuda"] = "cpu"
    """Device that the candidates are measured on."""
    threads: Count = 2
    """Processor threads that the model may use."""
    objective: Objective = "throughput"
    """What the choice maximises or minimises, subject to the limits. `compressed-size` is that of the zipped files."""
    arch: Literal["x86-64", "aarch64"] | None = None
    """Processor architecture, where it differs from this host's."""
    opset: Annotated[int, Field(strict=True, ge=18, le=100)] | None = None
    """ONNX opset, where it differs from the exporter's."""


class TrainingSpec(Strict):
    """How a model is trained further, for `qat`, fine-tuning and distillation. What is not given is the method's."""

    epochs: Count | None = None
    """Passes over the training data at most."""
    batch: Count | None = None
    """Samples of a step."""
    lr: Positive | None = None
    """Learning rate of the first step."""
    patience: Count | None = None
    """Epochs without a better metric after which it ends."""


class SearchSpec(Strict):
    """Which candidates are tried."""

    precisions: Annotated[tuple[Precision, ...], Field(min_length=1)] = ("fp32", "bf16")
    """Precisions that the engines are asked for; fp16 and fp8 need a GPU."""
    engines: Annotated[tuple[EngineName, ...], Field(min_length=1)] | None = None
    """Default: every engine that is installed."""
    quantize: tuple[Quantization, ...] = ()
    """Ways to int8: weights only ahead of time, calibrated, calibrated within the limit, or trained. Where the
    precisions have int8 and no way is named: calibrated, within the limit if need be; without data, weights only."""
    train_step: str | None = None
    """`module:callable(model, inputs, targets) -> loss`, for `qat`, fine-tuning and distillation."""
    training: TrainingSpec = TrainingSpec()
    """How long and how fast is trained."""
    prune: tuple[Share, ...] = ()
    """Shares to remove: of the multiplications, by whole channels. 0.0 keeps the unpruned model among them."""
    sparsify: tuple[Share, ...] = ()
    """Shares of the single weights to set to zero: smaller when zipped, seldom faster."""
    distill: str | None = None
    """`module:callable` that returns the smaller nn.Module that learns from this one."""
    budget: Annotated[str, Field(pattern=r"^\d{1,9}(\.\d{1,9})?\s*(s|min|h)$")] | None = None
    """Time for the whole search, such as `90s`, `10min` or `1.5h`."""
    seed: Annotated[int, Field(strict=True, ge=0, lt=2**32)] = 0
    """Of everything that is random: the split of the data, probes, training."""

    @property
    def budget_s(self) -> float | None:
        """The budget in seconds."""
        if self.budget is None:
            return None
        number = self.budget.rstrip("smihn \t\n")
        return float(number) * _UNITS[self.budget[len(number) :].strip()]


class Contract(Strict):
    """What Shipworthy needs to know of a model; written as `shipworthy.toml`.

    Raises ContractError where a part is wrong or two parts contradict each other."""

    name: Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9._-]{0,62}$")]
    """Of the model in packages, registries and addresses: lower-case letters, digits, `.`, `_`, `-`."""
    model: str | None = None
    """`module:callable` that returns an nn.Module, or a path: .pt2, .pt (TorchScript), .onnx. None: a live module."""
    weights: str | None = None
    """A state_dict: .safetensors, or .pt read with weights_only=True."""
    inputs: Annotated[dict[str, InputSpec], Field(min_length=1)]
    """The model's inputs, in the order of its arguments."""
    encode: dict[str, Encode] = Field(default_factory=dict)
    """Things that clients may send which feed several inputs at once: texts and records."""
    outputs: dict[str, OutputSpec] = Field(default_factory=dict)
    """Found by running the model once where they are not given."""
    task: TaskSpec = TaskSpec()
    """What the model does."""
    data: DataSpec = DataSpec()
    """What it is measured with."""
    limits: Limits = Limits()
    """What it must keep."""
    target: TargetSpec = TargetSpec()
    """Where it will run."""
    search: SearchSpec = SearchSpec()
    """What is tried."""
    root: Path = Field(default=Path(), exclude=True, repr=False)
    """The folder that relative paths and `module:callable` start from; not part of the contract's text."""

    if not TYPE_CHECKING:

        def __init__(self, **parts: Any) -> None:
            try:
                super().__init__(**parts)
            except ValidationError as error:
                from .refusal import refusal

                raise refusal(error, source="contract") from None

        # Says to pydantic that this initialiser only words the errors: validation of a model that
        # holds a contract must not come through here.
        __init__.__pydantic_base_init__ = True

    @property
    def signature(self) -> Signature:
        return Signature(
            inputs={name: TensorSpec(dtype=s.dtype, shape=s.shape) for name, s in self.inputs.items()},
            outputs={name: TensorSpec(dtype=s.dtype, shape=s.shape) for name, s in self.outputs.items()},
        )

    @property
    def scored(self) -> str | None:
        """The output that the task reads: the first that is logits or probabilities, else the first."""
        kinds = ((name, spec.kind) for name, spec in self.outputs.items())
        return next((name for name, kind in kinds if kind != "values"), next(iter(self.outputs), None))

    @property
    def digest(self) -> str:
        """sha256 of the contract's canonical JSON without what is as it is by default: a setting that a later release
        adds leaves the digests of older contracts as they are. So a default, once released, must not change."""
        text = json.dumps(self.model_dump(mode="json", exclude_defaults=True), sort_keys=True, separators=(",", ":"))
        return hashlib.sha256(text.encode()).hexdigest()

    def path(self, relative: str) -> Path:
        return self.root / relative

    def with_outputs(self, outputs: Mapping[str, OutputSpec]) -> Contract:
        """The same contract with these outputs, checked anew (labels against the number of scores, and so on)."""
        parts = {name: getattr(self, name) for name in type(self).model_fields}
        return Contract(**{**parts, "outputs": dict(outputs)})

    @field_validator("root", mode="before")
    @classmethod
    def _root_is_no_setting(cls, root: object) -> object:
        if not isinstance(root, Path):
            raise ValueError("is no setting; it is the folder of the contract, a pathlib.Path in Python")
        return root

    @model_validator(mode="after")
    def _parts_fit(self) -> Contract:
        if faults := tuple(contradictions(self)):
            raise ContradictionError(faults)
        return self
