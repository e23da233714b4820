"""Data sets: read, checked against the contract, split, and made into probes."""

from .cases import read_cases, read_dataset, write_cases, write_dataset
from .dataset import Chunk, Dataset
from .live import as_dataset
from .probes import probes
from .read import read_data
from .splits import Splits, load_splits

__all__ = [
    "Chunk",
    "Dataset",
    "Splits",
    "as_dataset",
    "load_splits",
    "probes",
    "read_cases",
    "read_data",
    "read_dataset",
    "write_cases",
    "write_dataset",
]
