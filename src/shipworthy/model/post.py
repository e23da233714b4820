"""Put the contract's `task.post` behind a model, as one module."""

from __future__ import annotations

import warnings
from typing import Any

import torch
from torch import Tensor, nn

from ..contract import Contract, Dim
from ..errors import ModelError
from .imports import raised_at
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
    module that can be exported again. Raises ModelError for ONNX, and where post cannot be traced."""
    if model.module is None:
        raise ModelError(
            f"task.post = {contract.task.post!r}",
            "cannot be put behind an .onnx file",
            "merge it into the graph with onnx.compose, or give the PyTorch model",
        )
    inner = getattr(model.module, "graph_module", model.module) if model.source == "exported" else model.module
    whole: nn.Module = WithPost(inner, post.eval())
    if model.source == "torchscript":
        whole = _trace(whole, contract)
        return LoadedModel("torchscript", whole, notes=model.notes)
    if model.source == "module":
        whole.eval()
    return LoadedModel("module", whole, None, model.mended, model.notes, model.training, model.devices)


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
