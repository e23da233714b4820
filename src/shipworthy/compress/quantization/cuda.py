"""Linear layers in int8 or fp8 on a GPU: weights ahead of time, activations row by row in each run.

torchao's tensors stand in the module for the weights; torch.export takes their parts out, and AOTInductor compiles the
integer or fp8 products. All that stays in float is bf16."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias

import torch
from torch import Tensor, nn
from torch.nn import functional

from ...contract import Signature
from ...errors import CompressError, MissingExtra
from ...evidence import QuantizedOperation
from ...exporters.aoti import compile_program
from ...exporters.job import enlarged
from ...exporters.noise import collected
from ...exporters.positional import Lowered
from ...exporters.program import program_of
from ...runtime import Artifact, compiler_isa
from ...runtime.cuda import CUDA, need_cuda
from ..made import Quantized
from ..methods import Static
from .graph import GraphJob
from .report import compression

Narrow: TypeAlias = Literal["int8", "fp8"]

_LEAST_CAPABILITY: dict[Narrow, tuple[int, int]] = {"int8": (8, 0), "fp8": (8, 9)}
"""8.0: bf16 beside the integers. 8.9: the first GPUs that multiply fp8."""
_MULTIPLES: dict[Narrow, int] = {"int8": 8, "fp8": 16}
"""What both sizes of a weight must be multiples of, for torch._int_mm and torch._scaled_mm."""
_SPARE_ROWS = 16
"""torch._int_mm refuses 16 rows and fewer: with as many more, one row is enough."""


def dynamic(job: GraphJob) -> Quantized:
    """`job.directory`/model.pt2 for aoti on cuda in int8.

    Raises CompressError where no layer can be quantized or this GPU cannot multiply in int8, EngineError where there
    is no GPU, ExportError where AOTInductor fails, MissingExtra without torchao."""
    return _dynamic(job, "int8")


def dynamic_fp8(job: GraphJob) -> Quantized:
    """The same in fp8 (e4m3)."""
    return _dynamic(job, "fp8")


def static(job: GraphJob, method: Static) -> Quantized:
    """Always raises CompressError: ranges of activations are found in each run here."""
    raise CompressError("aoti on cuda", f"has no {method.kind} quantization", 'use the method "dynamic"')


def _dynamic(job: GraphJob, precision: Narrow) -> Quantized:
    need_cuda("aoti", job.host)
    found = torch.cuda.get_device_capability()
    if (refusal := capability_refusal(precision, found)) is not None:
        raise refusal
    if job.model.module is None or job.model.source != "module":
        reason = f"layers of a model of the kind {job.model.source!r} cannot be replaced one by one"
        raise CompressError(f"aoti {precision} on cuda", reason, "give the nn.Module that it was made from")
    signature = job.contract.signature
    job.directory.mkdir(parents=True, exist_ok=True)
    with collected():
        made = quantized_module(job.model.module, tuple(signature.outputs), precision, CUDA, found)
        compile_program(program(made, signature, job, CUDA), signature, job.directory / "model.pt2")
    artifact = Artifact("aoti", precision, job.directory, signature, CUDA)
    notes = (
        f"linear layers in {precision}: weights with a scale per output, activations with one per row, in each run",
        "everything else in bf16",
    )
    report = compression(job, "dynamic", artifact, operations=made.operations, notes=notes)
    return Quantized(artifact, report, arch=job.host.arch, isa=compiler_isa(job.host, CUDA))


def capability_refusal(precision: Narrow, found: tuple[int, int]) -> CompressError | None:
    """Why a GPU of this compute capability cannot do it, or None."""
    least = _LEAST_CAPABILITY[precision]
    if found >= least:
        return None
    return CompressError(
        f"aoti {precision} on cuda",
        f"needs a GPU of compute capability {least[0]}.{least[1]}, this one has {found[0]}.{found[1]}",
        'write precisions = ["fp32", "fp16"]' if found < (8, 0) else 'write "int8" or "bf16"',
    )


@dataclass(frozen=True, slots=True)
class QuantizedModule:
    """A module with torchao's weights in its linear layers; takes and gives what a Positional does."""

    module: nn.Module
    operations: tuple[QuantizedOperation, ...]


def quantized_module(
    module: nn.Module, outputs: tuple[str, ...], precision: Narrow, device: str, capability: tuple[int, int]
) -> QuantizedModule:
    """A copy of `module` in bf16 on `device`, with every linear layer that its sizes allow in `precision`.

    Raises CompressError where there is none, MissingExtra without torchao."""
    lowered = Lowered(module, outputs, torch.bfloat16).eval().to(device)
    operations = tuple(_judged(name, layer, precision) for name, layer in lowered.named_modules() if _linear(layer))
    chosen = {operation.name for operation in operations if operation.precision == precision}
    if not chosen:
        reason = f"there is no linear layer whose sizes are multiples of {_MULTIPLES[precision]}"
        raise CompressError(f"aoti {precision} on cuda", reason, "keep the model in bf16 or fp16")
    _quantize(lowered, chosen, precision, capability)
    return QuantizedModule(lowered, operations)


def _linear(layer: nn.Module) -> bool:
    """No subclasses: what else they do with their weight is not known."""
    return type(layer) is nn.Linear


def _judged(name: str, layer: nn.Module, precision: Narrow) -> QuantizedOperation:
    assert isinstance(layer, nn.Linear)
    step = _MULTIPLES[precision]
    fits = layer.in_features % step == 0 and layer.out_features % step == 0
    reason = "" if fits else f"{layer.in_features} × {layer.out_features} are not both multiples of {step}"
    return QuantizedOperation(name=name, op="Linear", precision=precision if fits else "bf16", reason=reason)


class _SpareRows(nn.Linear):
    """A linear layer whose product has some rows more than are asked for."""

    def forward(self, input: Tensor) -> Tensor:  # noqa: A002  the base class' own name
        flat = input.reshape(-1, self.in_features)
        padded = functional.pad(flat, (0, 0, 0, _SPARE_ROWS))
        product = functional.linear(padded, self.weight, self.bias)[: flat.shape[0]]
        return product.reshape(*input.shape[:-1], self.out_features)


def _quantize(module: nn.Module, chosen: Collection[str], precision: Narrow, capability: tuple[int, int]) -> None:
    try:
        from torchao.quantization import quantize_
    except ModuleNotFoundError as error:
        raise MissingExtra("quantizing for a GPU", str(error.name), "build") from error
    with torch.no_grad():
        quantize_(module, _config(precision, capability), filter_fn=lambda _, name: name in chosen)
    if precision == "int8":
        for name in chosen:
            module.get_submodule(name).__class__ = _SpareRows


def _config(precision: Narrow, capability: tuple[int, int]) -> Any:
    """Without torchao's settings for Inductor: among them is one that turns TF32 on for all of the process."""
    from torchao.quantization import (
        Float8DynamicActivationFloat8WeightConfig,
        Int8DynamicActivationInt8WeightConfig,
        PerRow,
        PerTensor,
    )

    if precision == "int8":
        return Int8DynamicActivationInt8WeightConfig(set_inductor_config=False)
    # cuBLAS has products with a scale per row since 9.0.
    granularity = PerRow() if capability >= (9, 0) else PerTensor()
    return Float8DynamicActivationFloat8WeightConfig(granularity=granularity, set_inductor_config=False)


def program(made: QuantizedModule, signature: Signature, job: GraphJob, device: str) -> torch.export.ExportedProgram:
    """As an ExportedProgram that was made on `device`: the products are chosen by it."""
    if not job.probes:
        raise CompressError(job.contract.name, "there is no probe to export with", "give data.probes(contract)")
    arrays = enlarged(signature, job.probes[0])
    example = tuple(torch.from_numpy(array.copy()).to(device) for array in arrays.values())
    return program_of(made.module, example, signature)
