"""Put the contract's `task.post` behind a model, as one module."""

from __future__ import annotations

import warnings
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn

from ..contract import Contract, Dim
from ..errors import ModelError
from ..usercode import raised_at
from .loaded import LoadedModel


class WithPost(nn.Module):
    """A model and what is done with its result, exported as one graph.

    A tuple or list of outputs is spread over the arguments of `post`; a tensor or a dict is one argument."""

    def __init__(self, model: nn.Module, post: nn.Module) -> None:
        super().__init__()
        self.model = model
        self.post = post

    def forward(self, *args: Tensor) -> Any:
        result = self.model(*args)
        if isinstance(result, (tuple, list)):
            return self.post(*result)
        return self.post(result)


def put_behind(model: LoadedModel, post: nn.Module, contract: Contract) -> LoadedModel:
    """`model` with `post` behind it.

    TorchScript stays TorchScript (post is traced, the model's own control flow is kept). An ExportedProgram becomes a
    module that can be exported again. Raises ModelError where post cannot be traced."""
    assert model.module is not None, "a contract has no post behind an .onnx file"
    whole = WithPost(model.module, post).eval()
    if model.source == "torchscript":
        return replace(model, module=_trace(whole, contract), path=None)
    return replace(model, source="module", module=whole, path=None)


def _trace(module: nn.Module, contract: Contract) -> nn.Module:
    try:
        with warnings.catch_warnings(), torch.no_grad():
            warnings.simplefilter("ignore", DeprecationWarning)
            example = tuple(map(_zeros, contract.inputs.values()))
            traced: nn.Module = torch.jit.trace(module, example, check_trace=False)  # type: ignore[no-untyped-call]
            return traced
    except Exception as exc:  # tracing runs the user's code
        raise ModelError(
            f"task.post = {contract.task.post!r}",
            f"fails behind the model: {raised_at(exc)}",
            "try it on the model's result",
        ) from exc


def _zeros(spec: Any) -> Tensor:
    sizes = [max(2, size.min) if isinstance(size, Dim) else size for size in spec.shape]
    sizes = [
        min(n, size.max) if isinstance(size, Dim) and size.max else n for n, size in zip(sizes, spec.shape, strict=True)
    ]
    return torch.zeros(sizes, dtype=getattr(torch, spec.dtype))
