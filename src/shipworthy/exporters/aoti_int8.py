"""AOTInductor in int8: what makes its lowering replace dequantized products by oneDNN's integer ones."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

from ..contract import Signature
from ..errors import MissingExtra
from .aoti import compile_program
from .job import Done, Job
from .program import to_program
from .routes import Route, first_agreeing


def export_aoti_int8(job: Job) -> Done:
    """model.pt2 of a module with fake quantization."""
    return first_agreeing(job, (Route("torch.export", _write),))


def _write(job: Job) -> tuple[()]:
    compile_int8(to_program(job), job.signature, job.directory / "model.pt2")
    return ()


def compile_int8(program: torch.export.ExportedProgram, signature: Signature, path: Path) -> None:
    """Compile a program with pairs of quantize and dequantize into the package at `path`.

    The patterns that see an integer product in such a pair match constant weights only. Without freezing they find
    none, and the package dequantizes and multiplies in fp32 without a word. Raises ExportError, MissingExtra."""
    try:
        # Its import registers the patterns, for Arm too.
        import torchao.quantization.pt2e.quantizer.x86_inductor_quantizer
    except ModuleNotFoundError as error:
        raise MissingExtra("compiling in int8", str(error.name), "build") from error
    _one_channel_in_float(program)
    compile_program(program, signature, path, options={"freezing": True})


def _one_channel_in_float(program: torch.export.ExportedProgram) -> None:
    """Write the quantization of the input of each convolution that sees one channel as arithmetic, which is not fused.

    With one channel a tensor is laid out channels-first and channels-last at once. Where the batch is dynamic, the
    compiler takes the output of an integer convolution of it for the one, and the routine writes the other."""
    graph = program.graph_module.graph
    for node in list(graph.nodes):
        if is_convolution(node) and channels_of(node) == 1 and is_dequantized(node.args[0]):
            pair = node.args[0]
            with graph.inserting_before(node):
                node.replace_input_with(pair, _as_arithmetic(graph, pair))
    graph.eliminate_dead_code()
    program.graph_module.recompile()


def _as_arithmetic(graph: torch.fx.Graph, pair: torch.fx.Node) -> torch.fx.Node:
    """`(clamp(round(x / scale) + zero_point, low, high) - zero_point) * scale`, as the pair computes it."""
    quantize = pair.args[0]
    assert isinstance(quantize, torch.fx.Node)
    value, scale, zero_point, low, high = quantize.args[:5]
    aten = torch.ops.aten
    steps: tuple[tuple[Any, ...], ...] = (
        (aten.mul.Tensor, 1.0 / float(scale)),  # type: ignore[arg-type]
        (aten.round.default,),
        (aten.add.Tensor, zero_point),
        (aten.clamp.default, low, high),
        (aten.sub.Tensor, zero_point),
        (aten.mul.Tensor, scale),
    )
    for target, *arguments in steps:
        value = graph.call_function(target, (value, *arguments))
        value.meta["val"] = pair.meta["val"]
    assert isinstance(value, torch.fx.Node)
    return value


def is_convolution(node: torch.fx.Node) -> bool:
    return node.op == "call_function" and str(node.target).startswith(("aten.conv1d", "aten.conv2d", "aten.conv3d"))


def is_dequantized(node: object) -> bool:
    """Whether a value was on a grid of integers just before."""
    return isinstance(node, torch.fx.Node) and str(node.target).startswith("quantized_decomposed.dequantize")


def channels_of(node: torch.fx.Node) -> int:
    """Input channels of a convolution."""
    weight, groups = node.args[1], node.args[6] if len(node.args) > 6 else node.kwargs.get("groups", 1)
    assert isinstance(weight, torch.fx.Node)
    assert isinstance(groups, int)
    return int(weight.meta["val"].shape[1]) * groups
