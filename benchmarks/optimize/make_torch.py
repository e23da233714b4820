"""The rows that stay in PyTorch."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import torch

from .subject import Subject

Said = dict[str, Any]


def tensors(subject: Subject, batch: int) -> tuple[torch.Tensor, ...]:
    """Example inputs in the order of forward's arguments."""
    return tuple(torch.from_numpy(array) for array in subject.feeds(batch).values())


def nothing(subject: Subject, folder: Path, name: str) -> Said:
    """The weights are the artifact: eager, and torch.compile, which compiles at its first calls."""
    return {"size_mb": (subject.folder / "weights.safetensors").stat().st_size / 1e6, "precision": "fp32"}


def torchscript(subject: Subject, folder: Path, name: str) -> Said:
    with warnings.catch_warnings(), torch.no_grad():
        warnings.simplefilter("ignore")
        traced = torch.jit.trace(subject.module(), tensors(subject, 2), check_trace=False)  # type: ignore[no-untyped-call]
        torch.jit.save(torch.jit.freeze(traced), folder / "model.pt")
    return {"size_mb": (folder / "model.pt").stat().st_size / 1e6, "precision": "fp32"}


def aoti(subject: Subject, folder: Path, name: str) -> Said:
    package = folder / "model.pt2"
    with torch.no_grad():
        program = exported(subject)
        torch._inductor.aoti_compile_and_package(
            program, package_path=str(package), inductor_configs={"freezing": True}
        )
    return {"size_mb": package.stat().st_size / 1e6, "precision": "fp32"}


def exported(subject: Subject) -> torch.export.ExportedProgram:
    """With a free batch size; the example has two samples, because a size of one would be taken for fixed."""
    batch = torch.export.Dim("batch", min=1, max=max(subject.batches))
    shapes = tuple({0: batch} for _ in subject.inputs)
    return torch.export.export(subject.module(), tensors(subject, 2), dynamic_shapes=shapes)
