"""Folders of images: one folder for each class, named by its label."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from ..contract import Array, Contract
from ..contract.faults import nearest, quoted
from ..encode import Codec
from ..errors import DataError, InputError
from .dataset import Dataset
from .gather import Entry, gather

SUFFIXES = (".png", ".jpg", ".jpeg")


def read_folder(path: Path, contract: Contract) -> Dataset:
    """Images in folders named by the labels, or images without targets; read as clients' images are.

    They stand in the order of the labels, then of the files' names. Raises DataError."""
    name = _image_input(path, contract)
    folders = sorted(entry for entry in path.iterdir() if entry.is_dir() and not entry.name.startswith("."))
    codec = Codec(contract, contract.root)
    if not folders:
        images = [_read(codec, name, file) for file in _images(path)]
        return gather(_batch(name, images, None, path), contract, str(path))
    labels = _labels(path, folders, contract)
    files = [(number, file) for number, label in enumerate(labels) for file in _images(path / label)]
    images = [_read(codec, name, file) for _, file in files]
    targets = np.array([number for number, _ in files], dtype=np.int64)
    return gather(_batch(name, images, targets, path), contract, str(path))


def _image_input(path: Path, contract: Contract) -> str:
    accepting = [name for name, spec in contract.inputs.items() if spec.accept is not None]
    if len(contract.inputs) != 1 or not accepting:
        remedy = 'add accept = { kind = "image", ... } to the only input, or give a .npz file'
        raise DataError(str(path), "a folder of images needs a model whose one input accepts images", remedy)
    return accepting[0]


def _labels(path: Path, folders: list[Path], contract: Contract) -> tuple[str, ...]:
    """All labels in their order; a folder that is named by none is refused, a label may have no folder."""
    names = [folder.name for folder in folders]
    labels = contract.task.labels
    if contract.task.kind != "classification" or labels is None:
        remedy = f'write kind = "classification" and labels = [{quoted(names, ",")}] in [task], in the model\'s order'
        raise DataError(str(path), "folders of classes need a classification with labels", remedy)
    for name in names:
        if name not in labels:
            near = nearest(name, labels)
            remedy = f'rename it to "{near}"' if near else "rename it, or take it away"
            raise DataError(str(path / name), "is named by no label", remedy)
    return labels


def _images(folder: Path) -> list[Path]:
    if not folder.is_dir():
        return []
    return sorted(file for file in folder.iterdir() if file.suffix.lower() in SUFFIXES and file.is_file())


def _read(codec: Codec, name: str, file: Path) -> Array:
    try:
        return codec.image(name, file.read_bytes())
    except InputError as error:
        raise DataError(str(file), error.problems[0].reason, "replace it or take it away") from error
    except OSError as error:
        raise DataError(str(file), f"cannot be read: {error.strerror}", "check its permissions") from error


def _batch(name: str, images: list[Array], targets: Array | None, path: Path) -> list[Entry]:
    if not images:
        raise DataError(str(path), f"has no images ({quoted(SUFFIXES)})", "put them into folders named by the labels")
    return [Entry({name: np.stack(images)}, targets)]
