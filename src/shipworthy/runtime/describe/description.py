"""What a description holds."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, get_args

import pydantic

from ...contract import BATCH, Dim, Signature, TensorSpec
from ...contract.tensors import DType
from ...errors import EngineError
from ..kernels import word

SIGNATURE_KEY = "shipworthy.signature"
"""Where an export leaves its signature inside the file, as JSON: not every format can say names and bounds itself."""


@dataclass(frozen=True, slots=True)
class Description:
    signature: Signature | None
    """None where the file does not say it: TorchScript of other origin knows no shapes."""
    format: str
    text: str
    """The graph: operations with their operands, or source."""
    notes: tuple[str, ...] = field(default=())
    """What could not be read, and why."""


def stored_signature(text: str | None, path: Path) -> Signature | None:
    """The signature that an export left. Raises EngineError where it is damaged."""
    if not text:
        return None
    try:
        return Signature.model_validate_json(text)
    except pydantic.ValidationError as error:
        raise EngineError(str(path), "the signature stored in it cannot be read", "export the model again") from error


_FULL = {"fp32": "float32", "fp16": "float16", "fp64": "float64"}


def spec(dtype: str, sizes: list[Any]) -> TensorSpec | None:
    """A spec from an engine's own words. None where numpy has no such dtype.

    A size is a number, a Dim, or None where the file gives it no name; the first unnamed one is the batch."""
    name = _FULL.get(word(dtype), word(dtype))
    name = {"i8": "int8", "u8": "uint8", "i16": "int16", "boolean": "bool"}.get(dtype.lower(), name)
    if name not in get_args(DType):
        return None
    shape = [
        size if size is not None else Dim(BATCH if axis == 0 else f"dim_{axis}") for axis, size in enumerate(sizes)
    ]
    return TensorSpec.model_validate({"dtype": name, "shape": shape})


def signature_of(inputs: dict[str, TensorSpec | None], outputs: dict[str, TensorSpec | None]) -> Signature | None:
    """A signature, where every part of it is known."""
    known_in = {name: spec for name, spec in inputs.items() if spec is not None}
    known_out = {name: spec for name, spec in outputs.items() if spec is not None}
    complete = len(known_in) == len(inputs) and len(known_out) == len(outputs)
    return Signature(inputs=known_in, outputs=known_out) if complete else None
