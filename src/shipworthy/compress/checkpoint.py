"""What a training needs to go on after it was killed: written whole after each epoch, read without executing code."""

from __future__ import annotations

import hashlib
import os
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any, TypeAlias

import torch
from torch import nn

from ..data import Dataset
from ..errors import CompressError

State: TypeAlias = dict[str, Any]
"""Tensors, numbers, texts, lists and dicts only."""

FORMAT = 1
_KEYS = {"format", "digest", "epochs", "module", "optimizer", "scheduler", "best", "stale", "generators"}


def identity(module: nn.Module, data: object, *settings: str) -> str:
    """sha256 of all that decides a training: the weights that it starts with, the data, the settings.

    Of a loader only the type is known, since reading it would spend it."""
    digest = hashlib.sha256()
    for part in (*_tensors(module), *_samples(data), *settings):
        # Lengths keep ("ab", "c") and ("a", "bc") apart.
        raw = part.encode() if isinstance(part, str) else part
        digest.update(len(raw).to_bytes(8, "little"))
        digest.update(raw)
    return digest.hexdigest()


def _tensors(module: nn.Module) -> Iterator[str | bytes]:
    for name, value in (*module.named_parameters(), *module.named_buffers()):
        plain = value.detach().cpu().contiguous()
        yield f"{name} {plain.dtype} {tuple(plain.shape)} {value.requires_grad}"
        yield plain.flatten().view(torch.uint8).numpy().tobytes()


def _samples(data: object) -> Iterator[str | bytes]:
    if not isinstance(data, Dataset):
        yield f"{type(data).__module__}.{type(data).__qualname__}"
        return
    for chunk in data.chunks:
        for name, array in (*chunk.inputs.items(), (" targets", chunk.targets)):
            if array is not None:
                yield f"{name} {array.dtype} {array.shape}"
                yield array.tobytes()


def save_checkpoint(path: Path, state: State) -> None:
    """Write `state` so that the file is always a whole one, the one before or this."""
    path.parent.mkdir(parents=True, exist_ok=True)
    unfinished = path.with_name(f"{path.name}.{os.getpid()}.part")
    try:
        torch.save({"format": FORMAT, **state}, unfinished)
        unfinished.replace(path)
    finally:
        unfinished.unlink(missing_ok=True)


def load_checkpoint(path: Path, digest: str) -> State | None:
    """The state in `path`; None where there is no such file.

    Raises CompressError where it is no checkpoint, or belongs to a training of other weights, data or settings."""
    if not path.exists():
        return None
    try:
        with warnings.catch_warnings(action="ignore"):
            state = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as exc:  # a file that is something else fails in ways of its own
        first = (str(exc).strip().split("\n") or [""])[0]
        raise CompressError(str(path), f"is no checkpoint that can be read ({first[:200]})", _REMEDY) from exc
    if not isinstance(state, dict) or _KEYS - state.keys() or state["format"] != FORMAT:
        raise CompressError(str(path), f"is no checkpoint of format {FORMAT}", _REMEDY)
    if state["digest"] != digest:
        raise CompressError(str(path), "is of another training: other weights, data or settings", _REMEDY)
    return state


_REMEDY = "delete it to start anew, or name another file"
