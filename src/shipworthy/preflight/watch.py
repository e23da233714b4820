"""Watch a forward pass: which layer runs, and which operations it makes."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_iter

ROOT = "the model itself"


@dataclass(slots=True)
class LayerStack:
    """The layers whose forward is running, the outermost first."""

    running: list[str] = field(default_factory=list)

    @property
    def current(self) -> str:
        return (self.running and self.running[-1]) or ROOT


@contextmanager
def layers_of(module: nn.Module) -> Iterator[LayerStack]:
    """Follow which layer runs. The inside of TorchScript cannot be followed; it counts as the layer around it."""
    stack = LayerStack()
    handles = []
    for path, layer in module.named_modules():
        if isinstance(layer, torch.jit.ScriptModule):
            continue
        handles.append(layer.register_forward_pre_hook(_entering(stack, path)))
        handles.append(layer.register_forward_hook(_leaving(stack), always_call=True))
    try:
        yield stack
    finally:
        for handle in handles:
            handle.remove()


def _entering(stack: LayerStack, path: str) -> Callable[..., None]:
    return lambda *_: stack.running.append(path)


def _leaving(stack: LayerStack) -> Callable[..., None]:
    def leave(*_: object) -> None:
        stack.running.pop()

    return leave


@dataclass(frozen=True, slots=True)
class Op:
    """One operation as PyTorch's dispatcher sees it."""

    name: str
    tags: tuple[Any, ...]
    inputs: tuple[Tensor, ...]
    outputs: tuple[Tensor, ...]
    layer: str


class OpWatch(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Calls `see` after every operation, and `before` ahead of it."""

    def __init__(self, stack: LayerStack, see: Callable[[Op], None], before: Callable[[], None] | None = None) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self._stack = stack
        self._see = see
        self._before = before

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if self._before is not None:
            self._before()
        out = func(*args, **(kwargs or {}))
        name = str(func).removesuffix(".default")
        self._see(Op(name, tuple(func.tags), _tensors((args, kwargs)), _tensors(out), self._stack.current))
        return out


def _tensors(tree: object) -> tuple[Tensor, ...]:
    return tuple(leaf for leaf in tree_iter(tree) if isinstance(leaf, Tensor))


@contextmanager
def ops_of(module: nn.Module, see: Callable[[Op], None], before: Callable[[], None] | None = None) -> Iterator[None]:
    """See every operation of a forward pass in this context, without gradients.

    Inference mode would hide what composite operations are made of; no_grad does not."""
    with torch.no_grad(), layers_of(module) as stack, OpWatch(stack, see, before):
        yield
