"""Arrays by name from .npz and .safetensors files. Nothing in a file is executed."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from ..contract import Contract
from ..errors import DataError
from .dataset import Dataset
from .gather import TARGETS, gather, named


def read_npz(path: Path, contract: Contract) -> Dataset:
    """Arrays [n, ...] named like the inputs, and `label` or `target`. Raises DataError."""
    try:
        file = np.load(path, allow_pickle=False)
        if isinstance(file, np.ndarray):
            raise DataError(str(path), "holds one array without a name", "write it with np.savez(path, name=array)")
        with file:
            arrays = {name: file[name] for name in _wanted(file.files, contract)}
    except DataError:
        raise
    # NumPy's readers raise nearly anything for a damaged file: BadZipFile, EOFError, zlib.error, KeyError, SyntaxError.
    except Exception as error:
        pickled = "allow_pickle" in str(error)
        reason = "has Python objects, which could execute code when read" if pickled else f"cannot be read: {error}"
        remedy = "save arrays of numbers only, with np.savez(path, name=array, ...)"
        raise DataError(str(path), reason, remedy) from error
    return gather([named(arrays, contract, str(path))], contract, str(path))


def read_safetensors(path: Path, contract: Contract) -> Dataset:
    """Tensors [n, ...] named like the inputs, and `label` or `target`. Raises DataError."""
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, framework="numpy") as file:
            arrays = {name: file.get_tensor(name) for name in _wanted(list(file.keys()), contract)}
    except (SafetensorError, OSError, TypeError, AttributeError) as error:
        # bfloat16 and float8 tensors end in an AttributeError or a TypeError: NumPy has no such types.
        remedy = "save float32 and integer tensors, with safetensors.numpy.save_file"
        raise DataError(str(path), f"cannot be read: {error}", remedy) from error
    return gather([named(arrays, contract, str(path))], contract, str(path))


def _wanted(names: list[str], contract: Contract) -> list[str]:
    """Arrays that are not of this contract are not even read, unless a name is missing and they tell what is there."""
    known = [name for name in names if name in contract.inputs or name in TARGETS]
    return known if set(contract.inputs) <= set(known) else names
