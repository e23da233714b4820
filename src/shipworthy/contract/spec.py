"""The contract: what goes in, what comes out, how good it must stay, how fast and small it must be."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable
from pathlib import Path
from typing import Annotated, Literal, TypeAlias

from pydantic import Field, PositiveFloat, PositiveInt, field_validator, model_validator

from .tensors import BATCH, Dim, Signature, Strict, TensorSpec

Kind: TypeAlias = Literal["logits", "probabilities", "values"]
TaskKind: TypeAlias = Literal["classification", "multilabel", "regression", "embedding", "tensors"]
Precision: TypeAlias = Literal["fp32", "bf16", "int8"]
Share: TypeAlias = Annotated[float, Field(ge=0, lt=1)]


class ImageAccept(Strict):
    """An image that clients may send instead of a tensor, and how it becomes one."""

    kind: Literal["image"]
    size: tuple[PositiveInt, PositiveInt]
    """Height and width of the tensor, in pixels."""
    mode: Literal["L", "RGB"] = "RGB"
    """What the decoded image is converted to: grey or colour."""
    resize: Literal["stretch", "shorter", "exact"] = "stretch"
    """`stretch` to `size`; `shorter` side to `size` before `crop`; `exact` refuses another size."""
    crop: Literal["center"] | None = None
    """Cut the middle after a `shorter` resize."""
    scale: PositiveFloat = 1 / 255
    """Factor on the 0..255 pixel values, before mean and std."""
    mean: tuple[float, ...] = (0.0,)
    std: tuple[PositiveFloat, ...] = (1.0,)
    """Per channel, or one value for all: (scaled - mean) / std."""
    layout: Literal["CHW", "HWC"] = "CHW"

    @model_validator(mode="after")
    def _channels(self) -> ImageAccept:
        channels = {"L": 1, "RGB": 3}[self.mode]
        for name, values in (("mean", self.mean), ("std", self.std)):
            if len(values) not in (1, channels):
                raise ValueError(f"{name} has {len(values)} values; mode {self.mode!r} takes 1 or {channels}")
        if (self.crop is not None) != (self.resize == "shorter"):
            raise ValueError('crop = "center" and resize = "shorter" go together')
        return self


class TextEncode(Strict):
    """A text that clients may send; a `tokenizers` file turns it into the model's integer inputs."""

    kind: Literal["text"]
    tokenizer: str
    """Path of a tokenizer.json, relative to the contract."""
    feeds: tuple[str, ...] = ("input_ids",)
    """Inputs that are fed, of: token ids, attention mask, type ids (in this order)."""
    max_length: PositiveInt | None = None
    """Longer texts are truncated to this many tokens."""


class RecordEncode(Strict):
    """A record of named numbers that clients may send; the fields become the last axis of one input."""

    kind: Literal["record"]
    fields: tuple[str, ...] = Field(min_length=1)
    feeds: tuple[str, ...] | None = None
    """The input that is fed; the only one where there is one."""


Accept: TypeAlias = ImageAccept
Encode: TypeAlias = Annotated[TextEncode | RecordEncode, Field(discriminator="kind")]


class InputSpec(TensorSpec):
    accept: Accept | None = None
    """What clients may send instead of this tensor."""

    @field_validator("shape")
    @classmethod
    def _batch_first(cls, shape: tuple[int | Dim, ...]) -> tuple[int | Dim, ...]:
        if not shape or not isinstance(shape[0], Dim) or shape[0].name != BATCH:
            raise ValueError('the first dimension of an input is the dynamic dimension "batch"')
        return shape


class OutputSpec(TensorSpec):
    kind: Kind = "values"


class TaskSpec(Strict):
    kind: TaskKind = "tensors"
    labels: tuple[str, ...] | None = None
    """Names of the classes, in the order of the model's scores."""
    post: str | None = None
    """`module:callable` giving an nn.Module that is exported behind the model, as part of the graph."""


class DataSpec(Strict):
    """Where the data is: arrays named like the inputs, and `label` or `target`."""

    train: str | None = None
    calibration: str | None = None
    validation: str | None = None
    holdout: str | None = None
    metric: str | None = None
    """A built-in name, or `module:callable(outputs, targets) -> float` (higher is better)."""


class Limits(Strict):
    """What is not stated is not judged."""

    max_metric_drop: Annotated[float, Field(ge=0)] | None = None
    """Absolute, against eager fp32."""
    confidence: Annotated[float, Field(gt=0.5, lt=1)] | None = None
    """If given, the drop must be proven at this level on the holdout."""
    p99_ms: PositiveFloat | None = None
    size_mb: PositiveFloat | None = None
    """Of the variant's files, in 10^6 bytes."""
    rss_mb: PositiveFloat | None = None
    """Peak resident memory of a process that runs the variant, in 10^6 bytes."""


class TargetSpec(Strict):
    device: Literal["cpu", "cuda"] = "cpu"
    threads: PositiveInt = 2
    objective: Literal["throughput", "latency", "size"] = "throughput"
    arch: Literal["x86-64", "aarch64"] | None = None
    """Where it differs from this host's."""
    opset: Annotated[int, Field(ge=18)] | None = None
    """ONNX opset, where it differs from the exporter's."""


class SearchSpec(Strict):
    precisions: tuple[Precision, ...] = Field(default=("fp32", "bf16"), min_length=1)
    engines: tuple[str, ...] | None = None
    """Default: every engine that is installed."""
    quantize: tuple[Literal["dynamic", "static", "accuracy-aware", "qat"], ...] = ()
    train_step: str | None = None
    prune: tuple[Share, ...] = ()
    distill: str | None = None
    budget: Annotated[str, Field(pattern=r"^\d+(\.\d+)?\s*(s|min|h)$")] | None = None
    seed: int = 0

    @property
    def budget_s(self) -> float | None:
        if self.budget is None:
            return None
        number = self.budget.rstrip("smihn ")
        return float(number) * {"s": 1, "min": 60, "h": 3600}[self.budget[len(number) :].strip()]


class Contract(Strict):
    """What Shipworthy needs to know of a model; written as `shipworthy.toml`."""

    name: Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9._-]{0,62}$")]
    model: str | None = None
    """`module:callable` that returns an nn.Module, or a path: .pt2, .pt (TorchScript), .onnx. None for a live module."""
    weights: str | None = None
    """A state_dict: .safetensors, or .pt read with weights_only=True."""
    inputs: dict[str, InputSpec] = Field(min_length=1)
    encode: dict[str, Encode] = Field(default_factory=dict)
    outputs: dict[str, OutputSpec] = Field(default_factory=dict)
    """Found by running the model once where they are not given."""
    task: TaskSpec = TaskSpec()
    data: DataSpec = DataSpec()
    limits: Limits = Limits()
    target: TargetSpec = TargetSpec()
    search: SearchSpec = SearchSpec()
    root: Path = Field(default=Path("."), exclude=True, repr=False)
    """The folder that relative paths and `module:callable` start from; not part of the contract's text."""

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
        """sha256 of the contract's canonical JSON."""
        text = json.dumps(self.model_dump(mode="json", exclude_none=True), sort_keys=True, separators=(",", ":"))
        return hashlib.sha256(text.encode()).hexdigest()

    def path(self, relative: str) -> Path:
        return self.root / relative

    @model_validator(mode="after")
    def _parts_fit(self) -> Contract:
        for name, encode in self.encode.items():
            for fed in encode.feeds or ():
                if fed not in self.inputs:
                    raise ValueError(f"encode.{name} feeds {fed!r}, which is not an input; the inputs are {_words(self.inputs)}")
            if isinstance(encode, RecordEncode) and encode.feeds is None and len(self.inputs) > 1:
                raise ValueError(f"encode.{name} must say which input it feeds; the inputs are {_words(self.inputs)}")
        if "qat" in self.search.quantize and self.search.train_step is None and self.task.kind not in ("classification", "regression"):
            raise ValueError('search.quantize has "qat", which needs search.train_step for this task')
        return self


def _words(names: Iterable[str]) -> str:
    return ", ".join(repr(name) for name in names)
