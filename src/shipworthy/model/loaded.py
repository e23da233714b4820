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
    """The file that holds the whole of `module`; None for a live module, and where a `task.post` was put behind it."""
    mended: tuple[str, ...] = field(default=())
    """Key prefixes that were taken off the state_dict."""
    notes: tuple[str, ...] = ()
    """What was changed or is worth knowing: unwrapped, moved, cast, left out."""
    training: tuple[str, ...] = ()
    """Paths of the dropout and normalisation layers that were in training mode when a live module was handed over."""
    devices: tuple[str, ...] = ()
    """Devices other than the CPU that the weights were on when a live module was handed over."""
