"""The ways to compress, as frozen settings: the type of a method selects what carries it out."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Annotated, Any, Literal, TypeAlias

from pydantic import Field, ValidationError

from ..contract import Strict
from ..errors import CompressError

if TYPE_CHECKING:
    import torch

    TrainStep: TypeAlias = Callable[[torch.nn.Module, dict[str, torch.Tensor], torch.Tensor], torch.Tensor]
else:
    TrainStep: TypeAlias = Any
"""`train_step(model, inputs, targets) -> loss`: tensors by input name, a scalar loss that can be differentiated."""

Share: TypeAlias = Annotated[float, Field(gt=0, lt=1)]
Samples: TypeAlias = Annotated[int, Field(gt=0)]


class Settings(Strict):
    """Frozen settings. Raises CompressError that names every one that cannot be."""

    if not TYPE_CHECKING:

        def __init__(self, **settings: Any) -> None:
            try:
                super().__init__(**settings)
            except ValidationError as error:
                raise _refusal(type(self).__name__, error) from None

        # Says to pydantic that this initialiser only words the errors.
        __init__.__pydantic_base_init__ = True


def _refusal(name: str, error: ValidationError) -> CompressError:
    faults = [f"{'.'.join(map(str, fault['loc']))}: {fault['msg'].lower()}" for fault in error.errors()]
    given = [f", got {fault['input']!r}" if fault["type"] != "missing" else "" for fault in error.errors()]
    return CompressError(name, "; ".join(map("".join, zip(faults, given, strict=True))), "correct the settings")


class Dynamic(Settings):
    """Weights in int8 ahead of time, activations at run time: no calibration."""

    kind: Literal["dynamic"] = "dynamic"
    to: Literal["int8", "fp8"] = "int8"
    """fp8 is for GPUs."""


class Static(Settings):
    """Weights and activations in int8, with ranges from calibration data."""

    kind: Literal["static"] = "static"
    samples: Samples = 300
    """Calibration samples at most."""
    rest: Literal["fp32", "bf16"] = "fp32"
    """What the operations that stay in float are executed in."""
    keep_float: tuple[str, ...] = ()
    """Names of operations in the engine's graph that stay in float."""


class Rest(Settings):
    """A graph that is int8 already; what was left in float is executed in another precision."""

    kind: Literal["rest"] = "rest"
    rest: Literal["bf16"] = "bf16"


class AccuracyAware(Settings):
    """Static, and then the most damaging operations back to float until the drop is within the limit."""

    kind: Literal["accuracy-aware"] = "accuracy-aware"
    max_drop: Annotated[float, Field(ge=0)]
    """Absolute, of the metric on the validation data."""
    samples: Samples = 300
    rest: Literal["fp32", "bf16"] = "fp32"


class Training(Settings):
    """How a model is trained further."""

    epochs: Annotated[int, Field(ge=0)] = 10
    batch: Samples = 32
    """Samples of a step."""
    lr: Annotated[float, Field(gt=0, allow_inf_nan=False)] = 1e-3
    """Of AdamW with a cosine schedule, where no optimiser is given."""
    patience: Annotated[int, Field(gt=0)] | None = 4
    """Epochs without a better validation metric after which it ends; None: never. The best weights are kept."""
    seed: Annotated[int, Field(ge=0)] = 0


class Qat(Settings):
    """Fake quantization in training, and then conversion."""

    kind: Literal["qat"] = "qat"
    samples: Samples = 300
    training: Training = Training(epochs=3, lr=1e-4)


class Unstructured(Settings):
    """The weights of least magnitude become zero."""

    kind: Literal["unstructured"] = "unstructured"
    share: Share
    """Of the weights of all convolutions and linear layers."""
    scope: Literal["layer", "global"] = "global"
    """The same share of each layer, or the smallest weights of all."""
    training: Training | None = Training()
    """Fine-tuning afterwards, where there is training data."""


class Structured(Settings):
    """Whole channels are removed, with everything that depends on them."""

    kind: Literal["structured"] = "structured"
    share: Share
    """Of the multiply-accumulate operations of the model: 0.5 leaves half of them."""
    norm: Literal[1, 2] = 2
    """Of a channel's weights, by which the least important ones are found."""
    training: Training | None = Training()


class Distill(Settings):
    """A smaller model learns from this one: alpha * T² * KL(student ‖ teacher, both softened by T) + (1 - alpha) *
    the task's own loss (Hinton et al. 2015)."""

    kind: Literal["distill"] = "distill"
    temperature: Annotated[float, Field(gt=0)] = 4.0
    alpha: Annotated[float, Field(ge=0, le=1)] = 0.7
    training: Training = Training(epochs=30)


Quantization: TypeAlias = Dynamic | Static | AccuracyAware | Qat
Pruning: TypeAlias = Unstructured | Structured
Reshaping: TypeAlias = Annotated[Unstructured | Structured | Distill | Qat, Field(discriminator="kind")]
"""What changes the module itself, once for all engines."""
GraphQuantization: TypeAlias = Annotated[Dynamic | Static | Rest | AccuracyAware, Field(discriminator="kind")]
"""What changes the graph of one engine."""
