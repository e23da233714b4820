"""Data from where the contract says that it is."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from ..contract import Contract, Reference
from ..contract.faults import nearest, quoted
from ..errors import DataError
from ..usercode import resolve, running
from .dataset import Dataset
from .files import read_npz, read_safetensors
from .folder import read_folder
from .live import as_dataset
from .table import read_parquet

READERS: dict[str, Callable[[Path, Contract], Dataset]] = {
    ".npz": read_npz,
    ".safetensors": read_safetensors,
    ".parquet": read_parquet,
}
"""By the end of the file's name."""


def read_data(source: str, contract: Contract) -> Dataset:
    """The data set that `source` names: a file, a folder of images, or `module:callable`; from the contract's root.

    Raises DataError where there is none, where it cannot be read, or where it does not fit the contract."""
    path = contract.path(source)
    reference = Reference.parse(source)
    if reference is not None and not path.exists():
        return _from_code(reference, contract)
    if path.is_dir():
        return read_folder(path, contract)
    reader = READERS.get(path.suffix.lower())
    if not path.exists():
        raise DataError(source, f"there is no such file or folder in {contract.root.absolute()}", _instead_of(path))
    if reader is None:
        remedy = f'give a file that ends in {quoted(READERS)}, a folder of images, or "module:callable"'
        raise DataError(source, "is of no kind that can be read", remedy)
    return reader(path, contract)


def _from_code(reference: Reference, contract: Contract) -> Dataset:
    found = resolve(str(reference), contract.root, DataError)
    if isinstance(found, type) or (callable(found) and not hasattr(found, "__getitem__")):
        with running(contract.root, str(reference), DataError):
            found = found()
    return as_dataset(found, contract, str(reference))


def _instead_of(path: Path) -> str:
    if path.parent.is_dir():
        near = nearest(path.name, sorted(entry.name for entry in path.parent.iterdir()))
        if near is not None:
            return f'there is "{near}"'
    return "check the path: it starts from the contract's folder"
