"""Layers and operations that engines cannot take over."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from functools import lru_cache
from typing import TYPE_CHECKING, Any

from ...evidence import Finding
from ..context import Context
from ..explanations import explain

if TYPE_CHECKING:
    from torch.fx import Node

_OWN = (
    "aten",
    "prims",
    "prim",
    "higher_order",
    "_operator",
    "math",
    "quantized",
    "torchvision",
    "inductor",
    "sym_size",
)


def exportable(context: Context) -> Iterator[Finding]:
    """torch.export makes a graph of the model."""
    error = context.export.error
    if error is None:
        return
    told = explain(error)
    if told.kind in ("branch", "size"):
        # The rules on branches and on sizes tell of these.
        return
    where = next((line.removeprefix("at ") for line in told.evidence if line.startswith("at ")), "the model itself")
    yield Finding(
        rule="exportable",
        severity="warning",
        where=where,
        why=f"torch.export makes no graph of it ({told.evidence[0][:200]}); onnxruntime, openvino and aoti need one",
        remedy=told.remedy
        if told.kind != "unknown"
        else "write what is named with tensor operations; TorchScript remains",
    )


def custom_autograd(context: Context) -> Iterator[Finding]:
    """No layer computes with a torch.autograd.Function of its own."""
    import torch

    found: dict[str, str] = {}

    def look(path: str, out: object) -> None:
        for name in _custom_functions(out):
            found.setdefault(name, path or "the model itself")

    handles = [
        layer.register_forward_hook(lambda _, args, out, path=path: look(path, out))
        for path, layer in context.module.named_modules()
        if not isinstance(layer, torch.jit.ScriptModule)
    ]
    try:
        with torch.enable_grad():
            inputs = [t.requires_grad_() if t.is_floating_point() else t for t in context.tensors(context.probes[0])]
            context.module(*inputs)
    finally:
        for handle in handles:
            handle.remove()
    for name, path in found.items():
        yield Finding(
            rule="unsupported",
            severity="warning",
            where=path,
            why=f"{name} is an autograd function of its own: scripting refuses it, and a graph keeps only what its "
            "forward does with tensors",
            remedy="write its forward with tensor operations, and keep the function for training",
        )


def _custom_functions(out: object) -> set[str]:
    """Names of the Python autograd functions in the graph behind a result."""
    from torch import Tensor
    from torch.autograd.function import BackwardCFunction
    from torch.utils._pytree import tree_iter

    pending: list[Any] = [leaf.grad_fn for leaf in tree_iter(out) if isinstance(leaf, Tensor)]
    seen: set[Any] = set()
    names = set()
    while pending:
        node = pending.pop()
        if node is None or node in seen:
            continue
        seen.add(node)
        if isinstance(node, BackwardCFunction):
            names.add(type(node).__name__.removesuffix("Backward"))
        pending += [following for following, _ in node.next_functions]
    return names


def unsupported(context: Context) -> Iterator[Finding]:
    """Every operation of the exported graph has a counterpart in ONNX; none is the user's own."""
    program = context.export.program
    if program is None:
        return
    custom = {}
    for node in program.graph.nodes:
        namespace = _namespace(node)
        if namespace is not None and namespace not in _OWN:
            custom[str(node.target)] = _layer(node)
    for op, layer in custom.items():
        yield Finding(
            rule="unsupported",
            severity="error",
            where=layer,
            why=f"{op.removesuffix('.default')} is an operator of your own: no engine but eager torch knows it",
            remedy="write it with tensor operations, or move it out of the model",
        )
    if custom:
        return
    registered, table = _onnx_support()
    missing = {
        str(node.target).removesuffix(".default"): _layer(node)
        for node in program.run_decompositions(table).graph.nodes
        if _namespace(node) is not None and not registered(node.target) and not _is_assertion(node)
    }
    for op, layer in missing.items():
        yield Finding(
            rule="unsupported",
            severity="warning",
            where=layer,
            why=f"ONNX has no counterpart of {op}: onnxruntime cannot run it, and openvino hardly",
            remedy="compute it by other operators, or move it out of the model; torchscript and aoti can run it",
        )


def _namespace(node: Node) -> str | None:
    """Of an operator (`aten`); None for anything else in a graph."""
    return getattr(node.target, "namespace", None) if node.op == "call_function" else None


def _is_assertion(node: Node) -> bool:
    """What torch.export adds to check its own assumptions; the ONNX exporter takes it out."""
    return "assert" in str(node.target) or "sym_constrain" in str(node.target)


def _layer(node: Node) -> str:
    stack = node.meta.get("nn_module_stack") or {}
    path = str(list(stack.values())[-1][0]) if stack else ""
    return path or "the model itself"


@lru_cache(maxsize=1)
def _onnx_support() -> tuple[Any, Any]:
    """Whether the ONNX exporter knows an operator, and the decompositions that it applies first.

    The exporter has no public way to ask. Where a release moves this, the rule says that it could not be run."""
    from torch.onnx._internal.exporter import _decomp, _registration

    logger = logging.getLogger(_registration.__name__)
    before = logger.level
    logger.setLevel(logging.ERROR)
    try:
        registry = _registration.ONNXRegistry.from_torchlib()
        known = set(_decomp.get_onnx_implemented_overloads(registry))
        return registry.is_registered, _decomp.create_onnx_friendly_decomposition_table(known)
    finally:
        logger.setLevel(before)
