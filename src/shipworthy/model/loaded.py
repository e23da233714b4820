"""A model in memory, whatever it was loaded from."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Literal, TypeAlias

if TYPE_CHECKING:
    import torch

Source: TypeAlias = Literal["module", "torchscript", "exported", "onnx"]


@dataclass(frozen=True, slots=True)
class LoadedModel:
    """A model in evaluation mode on the CPU.

    `source` says what it is; `module` is callable with tensors in the order of the contract's inputs
    (None for an .onnx file, which `path` names)."""

    source: Source
    module: torch.nn.Module | None
    path: Path | None = None
    mended: tuple[str, ...] = field(default=())
    """Key prefixes that were taken off the state_dict."""
