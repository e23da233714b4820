"""Programs with pairs of quantize and dequantize, and what Inductor would make wrong of them."""

from __future__ import annotations

from typing import Any

import torch

_VIEWS = ("aten.view", "aten.reshape", "aten.flatten")
_Step = tuple[Any, ...]
"""An operator, and its arguments after the first."""


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


def mend(program: torch.export.ExportedProgram) -> None:
    """Rewrite, in place, what would be compiled to another function than the program is."""
    graph = program.graph_module.graph
    for node in list(graph.nodes):
        if is_convolution(node) and channels_of(node) == 1 and is_dequantized(node.args[0]):
            _unfuse_input(graph, node)
        elif str(node.target) == "quantized_decomposed.choose_qparams.tensor":
            _include_zero(graph, node)
        elif str(node.target).startswith(_VIEWS) and str(node.args[0]).startswith("dequantize_per_tensor"):
            _dequantize_behind(graph, node)
    graph.eliminate_dead_code()
    program.graph_module.recompile()


def _dequantize_behind(graph: torch.fx.Graph, view: torch.fx.Node) -> None:
    """Let the integers be viewed: a product is fused with what dequantizes its operand, and with no view in between."""
    pair = view.args[0]
    assert isinstance(pair, torch.fx.Node)
    with graph.inserting_before(view):
        moved = graph.call_function(view.target, (pair.args[0], *view.args[1:]), dict(view.kwargs))  # type: ignore[arg-type]
        made = graph.call_function(pair.target, (moved, *pair.args[1:]), dict(pair.kwargs))  # type: ignore[arg-type]
    made.meta["val"] = view.meta["val"]
    view.replace_all_uses_with(made)


def _unfuse_input(graph: torch.fx.Graph, node: torch.fx.Node) -> None:
    """Write the quantization of the one channel that a convolution sees as arithmetic, which is not fused.

    With one channel a tensor is laid out channels-first and channels-last at once. Where the batch is dynamic, the
    compiler takes the output of an integer convolution of it for the one, and the routine writes the other."""
    aten, pair = torch.ops.aten, node.args[0]
    assert isinstance(pair, torch.fx.Node)
    quantize = pair.args[0]
    assert isinstance(quantize, torch.fx.Node)
    value, scale, zero_point, low, high = quantize.args[:5]
    with graph.inserting_before(node):
        made = _chained(
            graph,
            value,
            (aten.mul.Tensor, 1.0 / float(scale)),  # type: ignore[arg-type]
            (aten.round.default,),
            (aten.add.Tensor, zero_point),
            (aten.clamp.default, low, high),
            (aten.sub.Tensor, zero_point),
            (aten.mul.Tensor, scale),
        )
    made.meta["val"] = pair.meta["val"]
    node.replace_input_with(pair, made)


def _include_zero(graph: torch.fx.Graph, node: torch.fx.Node) -> None:
    """Compute the range of a tensor so that it spans 0, as the operator itself does.

    Inductor's own decomposition leaves that out: values that are all positive are cut off at the width of their range.
    scale = max((hi - lo) / (high - low), eps) and zero_point = clamp(low - round(lo / scale), low, high)."""
    aten = torch.ops.aten
    value, low, high, eps = node.args[:4]
    assert isinstance(low, int)
    assert isinstance(high, int)
    with graph.inserting_before(node):
        lowest = _chained(graph, value, (aten.amin.default,), (aten.clamp_max.default, 0.0))
        highest = _chained(graph, value, (aten.amax.default,), (aten.clamp_min.default, 0.0))
        scale = _chained(
            graph,
            highest,
            (aten.sub.Tensor, lowest),
            (aten.mul.Tensor, 1.0 / (high - low)),
            (aten.clamp_min.default, eps),
            (aten.reshape.default, [1]),
        )
        zero_point = _chained(
            graph,
            lowest,
            (aten.div.Tensor, scale),
            (aten.round.default,),
            (aten.neg.default,),
            (aten.add.Tensor, low),
            (aten.clamp.default, low, high),
        )
        results = (
            graph.call_function(aten._to_copy.default, (scale,), {"dtype": torch.float64}),
            graph.call_function(aten._to_copy.default, (zero_point,), {"dtype": torch.int64}),
        )
    for user in list(node.users):
        made = results[int(user.args[1])]  # type: ignore[arg-type]
        made.meta["val"] = user.meta["val"]
        user.replace_all_uses_with(made)


def _chained(graph: torch.fx.Graph, value: Any, *steps: _Step) -> torch.fx.Node:
    for target, *arguments in steps:
        value = graph.call_function(target, (value, *arguments))
    assert isinstance(value, torch.fx.Node)
    return value
