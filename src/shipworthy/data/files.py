"""Arrays by name from .npz and .safetensors files. Nothing in a file is executed."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from ..contract import Contract
from ..errors import DataError
from .dataset import Dataset
from .gather import TARGETS, gather, named

_NUMPY = frozenset(["BOOL", "U8", "I8", "I16", "U16", "I32", "U32", "I64", "U64", "F16", "F32", "F64"])
"""Types of safetensors that NumPy has by itself. Others depend on what else the process has imported."""


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

    remedy = "save float and integer tensors, with safetensors.numpy.save_file"
    try:
        with safe_open(path, framework="numpy") as file:
            names = _wanted(list(file.keys()), contract)
            foreign = {name: kind for name in names if (kind := file.get_slice(name).get_dtype()) not in _NUMPY}
            if foreign:
                name, kind = next(iter(foreign.items()))
                raise DataError(f"{path}: {name}", f"is {kind}, which NumPy does not have", remedy)
            arrays = {name: file.get_tensor(name) for name in names}
    except (SafetensorError, OSError) as error:
        raise DataError(str(path), f"cannot be read: {error}", remedy) from error
    return gather([named(arrays, contract, str(path))], contract, str(path))


def _wanted(names: list[str], contract: Contract) -> list[str]:
    """Arrays that are not of this contract are not even read, unless a name is missing and they tell what is there."""
    known = [name for name in names if name in contract.inputs or name in TARGETS]
    return known if set(contract.inputs) <= set(known) else names
