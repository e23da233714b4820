"""Weights and constants on another device than the rest."""

from __future__ import annotations

import ast
from collections.abc import Iterator

from torch import Tensor

from ...evidence import Finding
from ...usercode import describe_line
from ..context import Context
from ..source import forward_nodes, user_classes

_ACCELERATORS = ("cuda", "mps", "xpu")


def device(context: Context) -> Iterator[Finding]:
    """Everything of the model moves with it, and forward names no device."""
    if context.model.devices:
        yield Finding(
            rule="device",
            severity="note",
            where="the model itself",
            why=f"its weights were on {', '.join(context.model.devices)}; a copy on the CPU is checked",
            remedy="nothing, if it is to be served on the CPU; else set target.device",
        )
    yield from _hidden_tensors(context)
    yield from _named_devices(context)


def _hidden_tensors(context: Context) -> Iterator[Finding]:
    known = {id(tensor) for tensor in (*context.module.parameters(), *context.module.buffers())}
    for path, layer in context.module.named_modules():
        for name, value in vars(layer).items():
            for tensor in _tensors(value, known):
                full = f"{path}.{name}".lstrip(".")
                moved = "" if tensor.device.type == "cpu" else f" and is on {tensor.device}"
                yield Finding(
                    rule="device",
                    severity="error" if moved else "warning",
                    where=full,
                    why=f"a tensor is kept as a plain attribute{moved}: it does not move with .to(device), "
                    "and is not in the state_dict",
                    remedy=f"self.register_buffer({name!r}, tensor)",
                )
                break


def _tensors(value: object, known: set[int]) -> list[Tensor]:
    """The tensors of an attribute that are not parameters or buffers (a recurrent layer keeps a list of its own)."""
    items = value if isinstance(value, list | tuple) else [value]
    return [item for item in items if isinstance(item, Tensor) and id(item) not in known]


def _named_devices(context: Context) -> Iterator[Finding]:
    for path, kind in user_classes(context.module):
        for node, file, line in forward_nodes(kind):
            if _names_device(node):
                yield Finding(
                    rule="device",
                    severity="warning",
                    where=path or "the model itself",
                    why=f"a device is written into the model, at {describe_line(file, line)}",
                    remedy="take the device from the input: x.device",
                )


def _names_device(node: ast.AST) -> bool:
    if isinstance(node, ast.Constant):
        return isinstance(node.value, str) and node.value.split(":")[0] in _ACCELERATORS
    return isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr in _ACCELERATORS
