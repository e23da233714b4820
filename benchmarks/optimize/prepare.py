"""Writes a model's weights and data, once: random weights with lifelike statistics, or weights trained here."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from .samples import Arrays, digits, measurements, pictures, split, texts
from .subject import Subject

if TYPE_CHECKING:
    import torch
    from torch import nn

EPOCHS = {"digits-cnn": 15, "residual": 14, "tabular": 20}
_CALIBRATION = 96
"""Pictures or texts; the trained models take rows of their training data."""


def prepare(subject: Subject) -> None:
    """Do nothing where the files are there already."""
    if not (subject.folder / "weights.safetensors").exists():
        with _whole(subject.folder) as folder:
            _write(replace(subject, folder=folder))


@contextmanager
def _whole(folder: Path) -> Iterator[Path]:
    """A folder that appears with everything in it, or not at all."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder.parent, prefix=f".{folder.name}-") as unfinished:
        inner = Path(unfinished) / "new"
        inner.mkdir()
        yield inner
        shutil.rmtree(folder, ignore_errors=True)
        inner.rename(folder)


def _write(subject: Subject) -> None:
    import torch
    from safetensors.torch import save_file

    torch.manual_seed(0)
    for name, arrays in _sets(subject).items():
        np.savez(subject.folder / f"{name}.npz", **arrays)  # type: ignore[arg-type]
    module = subject.bare()
    if subject.classes is None:
        _settle(module, subject)
    else:
        _train(module, subject)
    save_file({name: tensor.contiguous() for name, tensor in module.state_dict().items()}, _weights(subject))


def _weights(subject: Subject) -> Path:
    return subject.folder / "weights.safetensors"


def _sets(subject: Subject) -> dict[str, Arrays]:
    if subject.classes is None:
        return {"calibration": _random(subject)}
    if "image" in subject.inputs:
        return split(digits(subject.inputs["image"].shape[-1]))
    sets = split(measurements())
    known = sets["train"]["features"].astype(np.float64)
    mean, deviation = known.mean(axis=0), known.std(axis=0)
    for arrays in sets.values():
        arrays["features"] = ((arrays["features"].astype(np.float64) - mean) / deviation).astype(np.float32)
    return sets


def _random(subject: Subject) -> Arrays:
    if "input_ids" in subject.inputs:
        return texts(_CALIBRATION)
    if "image" in subject.inputs:
        return pictures(_CALIBRATION)
    (name, one), *_ = subject.inputs.items()
    return {name: np.random.default_rng(0).standard_normal((512, *one.shape)).astype(np.float32)}


def _settle(module: nn.Module, subject: Subject) -> None:
    """Let batch normalisation take the mean and deviation of pictures.

    With those that it is initialised with, the activations of random weights vanish or explode from layer to layer,
    which no trained model's do."""
    import torch

    layers = [layer for layer in module.modules() if isinstance(layer, torch.nn.BatchNorm2d)]
    if not layers:
        return
    for layer in layers:
        layer.train()
        layer.momentum = None
    with torch.no_grad():
        for start in range(0, 32, 16):
            module(*(torch.from_numpy(rows[start : start + 16]) for rows in subject.rows("calibration").values()))
    module.eval()


def _train(module: nn.Module, subject: Subject) -> None:
    """AdamW with a cosine schedule; digits are moved by up to an eighth of their size."""
    import torch

    (rows,) = (torch.from_numpy(array) for array in subject.rows("train").values())
    labels = torch.from_numpy(subject.labels("train"))
    epochs, size = EPOCHS[subject.name], 32
    optimizer = torch.optim.AdamW(module.parameters(), lr=2e-3, weight_decay=0.01)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, epochs * -(-len(labels) // size))
    module.train()
    for _ in range(epochs):
        for chosen in torch.split(torch.randperm(len(labels)), size):
            optimizer.zero_grad()
            loss = torch.nn.functional.cross_entropy(module(_moved(rows[chosen])), labels[chosen])
            loss.backward()  # type: ignore[no-untyped-call]
            optimizer.step()
            schedule.step()
    module.eval()


def _moved(rows: torch.Tensor) -> torch.Tensor:
    """Pictures moved by a few pixels, each batch by its own step; other rows as they are."""
    import torch

    if rows.dim() != 4:
        return rows
    most = rows.shape[-1] // 8
    down, right = torch.randint(-most, most + 1, (2,)).tolist()
    padded = torch.nn.functional.pad(rows, (most,) * 4)
    height, width = rows.shape[-2:]
    return padded[..., most + down : most + down + height, most + right : most + right + width]
