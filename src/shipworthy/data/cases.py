"""Cases between processes: named groups of arrays in one uncompressed .npz, read and written one at a time."""

from __future__ import annotations

import os
import zipfile
from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np

from ..contract import Array, Arrays
from .dataset import Chunk, Dataset

_TARGETS = " targets"
"""No input has a space in its name."""


def write_cases(path: Path, cases: Iterable[tuple[str, Arrays]]) -> Path:
    """Write each case's arrays under `case/name.npy`; the file appears whole or not at all. A generator will do."""
    path.parent.mkdir(parents=True, exist_ok=True)
    unfinished = path.with_name(f"{path.name}.{os.getpid()}.part")
    with zipfile.ZipFile(unfinished, "w", zipfile.ZIP_STORED) as archive:
        for case, arrays in cases:
            for name, array in arrays.items():
                with archive.open(f"{case}/{name}.npy", "w", force_zip64=True) as member:
                    np.lib.format.write_array(member, np.asanyarray(array), allow_pickle=False)
    unfinished.replace(path)
    return path


def read_cases(path: Path, only: Iterable[str] | None = None) -> Iterator[tuple[str, dict[str, Array]]]:
    """The cases in the order in which they were written; one case at a time is in memory."""
    wanted = None if only is None else set(only)
    with zipfile.ZipFile(path) as archive:
        members: dict[str, list[str]] = {}
        for member in archive.namelist():
            members.setdefault(member.split("/", 1)[0], []).append(member)
        for case, names in members.items():
            if wanted is None or case in wanted:
                yield case, {_name(member): _array(archive, member) for member in names}


def write_dataset(path: Path, data: Dataset) -> Path:
    """A data set as a file of cases: one case for each chunk, with its targets."""
    chunks = ({**c.inputs, **({} if c.targets is None else {_TARGETS: c.targets})} for c in data.chunks)
    return write_cases(path, ((f"{number:06d}", arrays) for number, arrays in enumerate(chunks)))


def read_dataset(path: Path) -> Dataset:
    """What `write_dataset` has written."""
    return Dataset(tuple(Chunk(arrays, arrays.pop(_TARGETS, None)) for _, arrays in read_cases(path)))


def _name(member: str) -> str:
    return member.split("/", 1)[1].removesuffix(".npy")


def _array(archive: zipfile.ZipFile, member: str) -> Array:
    with archive.open(member) as stream:
        return np.asarray(np.lib.format.read_array(stream, allow_pickle=False))
