"""The contract: read, checked with precise errors, and written."""

from .spec import (
    Contract,
    DataSpec,
    ImageAccept,
    InputSpec,
    Limits,
    OutputSpec,
    RecordEncode,
    SearchSpec,
    TargetSpec,
    TaskSpec,
    TextEncode,
)
from .tensors import BATCH, Array, Arrays, Dim, Signature, Strict, TensorSpec

__all__ = [
    "BATCH",
    "Array",
    "Arrays",
    "Contract",
    "DataSpec",
    "Dim",
    "ImageAccept",
    "InputSpec",
    "Limits",
    "OutputSpec",
    "RecordEncode",
    "SearchSpec",
    "Signature",
    "Strict",
    "TargetSpec",
    "TaskSpec",
    "TensorSpec",
    "TextEncode",
]
