"""The contract: read, checked with precise errors, and written."""

from .accept import ImageAccept, RecordEncode, TextEncode
from .faults import KeyPath
from .read import FILE_NAME, parse_contract, read_contract
from .references import Reference
from .spec import (
    Contract,
    DataSpec,
    InputSpec,
    Limits,
    OutputSpec,
    SearchSpec,
    TargetSpec,
    TaskSpec,
)
from .tensors import BATCH, Array, Arrays, Dim, Signature, Strict, TensorSpec
from .write import contract_toml

__all__ = [
    "BATCH",
    "FILE_NAME",
    "Array",
    "Arrays",
    "Contract",
    "DataSpec",
    "Dim",
    "ImageAccept",
    "InputSpec",
    "KeyPath",
    "Limits",
    "OutputSpec",
    "RecordEncode",
    "Reference",
    "SearchSpec",
    "Signature",
    "Strict",
    "TargetSpec",
    "TaskSpec",
    "TensorSpec",
    "TextEncode",
    "contract_toml",
    "parse_contract",
    "read_contract",
]
