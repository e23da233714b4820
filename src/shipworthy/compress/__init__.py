"""Make a model smaller and faster: quantize, prune, distill. Each returns what it made and a frozen report.

The verbs are loaded at their first use: they bring torch, and the methods alone are enough to plan with."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

from .methods import AccuracyAware, Distill, Dynamic, Qat, Static, Structured, Training, Unstructured
from .methods import Rest as Rest  # for plans of builds; no verb takes it

if TYPE_CHECKING:
    from .distillation import distill
    from .made import Quantized, Reshaped
    from .pruning.verb import prune
    from .quantization.verb import quantize
    from .reshaping import reshape

_FILE_OF = {
    "Quantized": "made",
    "Reshaped": "made",
    "distill": "distillation",
    "prune": "pruning.verb",
    "quantize": "quantization.verb",
    "reshape": "reshaping",
}

__all__ = [
    "AccuracyAware",
    "Distill",
    "Dynamic",
    "Qat",
    "Quantized",
    "Reshaped",
    "Static",
    "Structured",
    "Training",
    "Unstructured",
    "distill",
    "prune",
    "quantize",
    "reshape",
]


def __getattr__(name: str) -> object:
    if name not in _FILE_OF:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f".{_FILE_OF[name]}", __name__), name)
