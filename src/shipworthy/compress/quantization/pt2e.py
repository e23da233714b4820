"""A program with pairs of quantize and dequantize, made by torchao's PT2E for Inductor."""

from __future__ import annotations

import dataclasses
from collections.abc import Collection, Sequence
from typing import Any

import torch

from ...contract import Arrays, Contract
from ...errors import CompressError, MissingExtra
from ...exporters.int8_program import channels_of, is_convolution, is_dequantized
from ...model.dynamic import dynamic_axes
from ...model.run import to_tensors
from ...runtime import Host
from ...runtime.guarded import first_line
from .scheme import Scheme

_PRODUCTS = ("linear", "addmm", "mm.", "bmm", "matmul", "baddbmm", "scaled_dot_product", "conv", "lstm", "gru")


def quantized_program(
    program: torch.export.ExportedProgram,
    contract: Contract,
    feeds: Sequence[Arrays],
    host: Host,
    scheme: Scheme,
    *,
    dynamic: bool = False,
    keep_float: Collection[str] = (),
) -> torch.export.ExportedProgram:
    """`program` with every product and convolution between integers, calibrated on `feeds`; `dynamic` takes linear
    layers alone, whose ranges are found in each run.

    Raises CompressError where PT2E cannot follow the program, MissingExtra."""
    prepare, convert = _need_torchao()
    quantizer = _quantizer(host, scheme, dynamic=dynamic, keep_float=frozenset(keep_float))
    signature = contract.signature
    try:
        with torch.no_grad():
            prepared = prepare(program.module(), quantizer)
            for feed in feeds:
                prepared(*to_tensors(signature, feed))
            converted = convert(prepared)
            example = program.example_inputs
            assert example is not None
            # The graph names each tensor, where the module that it was made of takes any number of them.
            return torch.export.export(converted, example[0], dynamic_shapes=dynamic_axes(signature))
    except Exception as error:  # PT2E and torch.export raise dozens of classes
        remedy = "use the engine openvino or onnxruntime for int8"
        raise CompressError("torchao PT2E", first_line(error), remedy) from error


def _need_torchao() -> tuple[Any, Any]:
    try:
        from torchao.quantization.pt2e.quantize_pt2e import convert_pt2e, prepare_pt2e
    except ModuleNotFoundError as error:
        raise MissingExtra("quantizing for AOTInductor", str(error.name), "build") from error
    return prepare_pt2e, convert_pt2e


def _quantizer(host: Host, scheme: Scheme, *, dynamic: bool, keep_float: frozenset[str]) -> Any:
    quantizer, config = (_arm if host.arch == "aarch64" else _x86)(scheme, dynamic, keep_float)
    if dynamic:
        # Dynamic ranges of a convolution are found and then not used: it executes in float.
        return quantizer.set_function_type_qconfig(torch.nn.functional.linear, config)
    return quantizer.set_global(config)


def _x86(scheme: Scheme, dynamic: bool, keep_float: frozenset[str]) -> tuple[Any, Any]:
    from torchao.quantization.pt2e.quantizer import x86_inductor_quantizer as x86

    class Choosing(x86.X86InductorQuantizer):  # type: ignore[misc]
        def annotate(self, model: Any) -> Any:
            return _without(super().annotate(model), keep_float)

    config = x86.get_default_x86_inductor_quantization_config(is_dynamic=dynamic, reduce_range=scheme.narrow_weights)
    return Choosing(), config


def _arm(scheme: Scheme, dynamic: bool, keep_float: frozenset[str]) -> tuple[Any, Any]:
    from torchao.quantization.pt2e.quantizer import arm_inductor_quantizer as arm

    class Choosing(arm.ArmInductorQuantizer):  # type: ignore[misc]
        def annotate(self, model: Any) -> Any:
            return _without(super().annotate(model), keep_float)

    return Choosing(), arm.get_default_arm_inductor_quantization_config(is_dynamic=dynamic)


def _without(model: Any, keep_float: frozenset[str]) -> Any:
    for node in model.graph.nodes:
        if node.name in keep_float:
            node.meta.pop("quantization_annotation", None)
    return model


@dataclasses.dataclass(frozen=True, slots=True)
class Product:
    """A heavy operation of a quantized program."""

    name: str
    op: str
    int8: bool
    reason: str


def products(program: torch.export.ExportedProgram, keep_float: Collection[str] = ()) -> tuple[Product, ...]:
    """The products and convolutions of a program, and which of them are between integers."""
    found = []
    for node in program.graph.nodes:
        op = str(node.target).removeprefix("aten.")
        if node.op == "call_function" and op.startswith(_PRODUCTS):
            reason = _float_reason(node, keep_float)
            found.append(Product(node.name, op.split(".")[0], not reason, reason))
    return tuple(found)


def _float_reason(node: torch.fx.Node, keep_float: Collection[str]) -> str:
    if node.name in keep_float:
        return "it was asked for in float"
    if is_convolution(node) and channels_of(node) == 1:
        return "one channel: the compiler mistakes the layout of its output"
    operands = [value for value in node.args[:2] if isinstance(value, torch.fx.Node)]
    return "" if all(is_dequantized(value) for value in operands) else "Inductor has no integer kernel for it here"
