"""Samples as a file: safetensors, with what is no number as JSON in the metadata. No pickle."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from pydantic import Field, ValidationError
from safetensors import SafetensorError
from safetensors.numpy import load, save

from ..contract import Array, Contract, Strict
from ..errors import MonitorError
from .samples import Reason, Sample

FORMAT = 1
_KEY = "samples"
_REMEDY = "remove it; it is written again"


class _One(Strict):
    id: str = Field(min_length=1, max_length=200)
    at: float = Field(allow_inf_nan=False)
    reason: Reason
    priority: float = Field(allow_inf_nan=False)


class _Header(Strict):
    format: int
    signals: tuple[str, ...]
    contract: str
    """As JSON, without what is as it is by default."""
    samples: tuple[_One, ...]


@dataclass(frozen=True, slots=True)
class Kept:
    """What a file of samples has."""

    samples: list[Sample]
    signals: tuple[str, ...]
    contract: str
    """As JSON."""


def write_samples(samples: Sequence[Sample], signals: Sequence[str], contract: Contract) -> bytes:
    """The bytes that `read_samples` reads."""
    header = _Header(
        format=FORMAT,
        signals=tuple(signals),
        contract=contract.model_dump_json(exclude_defaults=True),
        samples=tuple(_One(id=one.id, at=one.at, reason=one.reason, priority=one.priority) for one in samples),
    )
    arrays: dict[str, Array] = {"values": np.array([one.values for one in samples]).reshape(len(samples), len(signals))}
    for place, one in enumerate(samples):
        arrays |= {f"{place}/feeds/{name}": array for name, array in one.feeds.items()}
        arrays |= {f"{place}/outputs/{name}": array for name, array in one.outputs.items()}
    # The library writes the buffer as it lies in memory, whatever the strides say.
    plain = {name: np.require(array, requirements="C") for name, array in arrays.items()}
    return save(plain, {_KEY: header.model_dump_json()})


def read_samples(data: bytes, where: str) -> Kept:
    """Raises MonitorError where the bytes are no samples."""
    text, arrays = tensors_of(data, _KEY, where)
    try:
        header = _Header.model_validate_json(text)
    except ValidationError as error:
        raise MonitorError(where, f"is damaged: {error.error_count()} faults in its header", _REMEDY) from None
    if header.format != FORMAT:
        raise MonitorError(where, f"has the format {header.format}; this version reads {FORMAT}", "update shipworthy")
    values = arrays.get("values")
    if values is None or values.dtype != np.float64 or values.shape != (len(header.samples), len(header.signals)):
        raise MonitorError(where, "is damaged: its values do not fit its header", _REMEDY)
    parts: dict[str, dict[str, Array]] = {}
    for key, array in arrays.items():
        row, _, rest = key.partition("/")
        what, _, name = rest.partition("/")
        parts.setdefault(f"{row}/{what}", {})[name] = array
    found = []
    for place, one in enumerate(header.samples):
        feeds, outputs = (parts.get(f"{place}/{what}", {}) for what in ("feeds", "outputs"))
        found.append(Sample(one.id, one.at, one.reason, feeds, outputs, values[place].copy(), one.priority))
    return Kept(found, header.signals, header.contract)


def tensors_of(data: bytes, key: str, where: str) -> tuple[str, dict[str, Array]]:
    """The text of the metadata and the tensors by name. Raises MonitorError where the bytes are no such file."""
    try:
        length = int.from_bytes(data[:8], "little")
        # The library reads the tensors, and leaves out the metadata.
        metadata = _Metadata.model_validate_json(data[8 : 8 + length]).metadata if length < len(data) else None
        arrays = load(data)
    # NumPy has no bfloat16, and a hostile header may have any type and any shape.
    except (SafetensorError, ValidationError, ValueError, TypeError, KeyError, AttributeError, OverflowError) as error:
        reason = " ".join(str(error).split())[:200]
        raise MonitorError(where, f"is damaged: {reason}", _REMEDY) from None
    text = None if metadata is None else metadata.get(key)
    if text is None:
        raise MonitorError(where, f"is damaged: it has no {key!r}", _REMEDY)
    return text, arrays


class _Metadata(Strict, extra="ignore"):
    metadata: dict[str, str] = Field(alias="__metadata__")
