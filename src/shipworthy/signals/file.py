"""References as files: safetensors with one JSON text of metadata.

    scores             float64 [m, signals], sorted column by column
    constants/<name>   float64 or int64
    metadata           one key, `reference`: the format number, the signals, what was accepted

The rules of a format number never change; a change is a new number, and readers of older ones stay."""

from __future__ import annotations

import math
from dataclasses import asdict
from pathlib import Path
from typing import Literal

import numpy as np
from pydantic import Field, ValidationError

from ..contract import Array, Strict
from ..errors import PackageError, UnknownFormat
from .reference import FEWEST, MOST, Accepted, Reference
from .signal import Signal

FORMAT = 1
LARGEST = 64 << 20
"""Bytes of a file that is read."""
_KEY = "reference"
_CONSTANT = "constants/"
_AGAIN = "build the package again"


class _Signal(Strict):
    name: str = Field(min_length=1)
    kind: Literal["number", "class", "share"]
    about: Literal["answers", "inputs"]
    title: str
    unit: str = ""
    scored: bool = True
    classes: tuple[str, ...] = ()


class _Accepted(Strict):
    metric: str
    value: float = Field(allow_inf_nan=False)
    level: float = Field(allow_inf_nan=False)
    samples: int = Field(ge=1)


class _Header(Strict):
    """The metadata."""

    format: int
    signals: tuple[_Signal, ...]
    accepted: _Accepted | None = None
    sure: float | None = Field(default=None, allow_inf_nan=False)
    labels: tuple[int, ...] = ()
    origin: Literal["build", "production", "batch"] = "build"
    created: str = ""


def save_reference(reference: Reference, path: Path) -> Path:
    """Write a reference; the same one gives the same bytes."""
    from safetensors.numpy import save

    header = _Header(
        format=FORMAT,
        signals=tuple(_Signal(**asdict(signal)) for signal in reference.signals),
        accepted=None if reference.accepted is None else _Accepted(**asdict(reference.accepted)),
        sure=reference.sure,
        labels=reference.labels,
        origin=reference.origin,
        created=reference.created,
    )
    tensors = {"scores": reference.scores, **{_CONSTANT + name: array for name, array in reference.constants.items()}}
    # The library writes the buffer as it lies in memory, whatever the strides say.
    content = {name: np.require(array, requirements="C") for name, array in tensors.items()}
    path.write_bytes(save(content, {_KEY: header.model_dump_json()}))
    return path


def read_reference(path: Path, where: str) -> Reference:
    """Read a reference back; `where` names it in errors.

    Raises UnknownFormat for a number that this version cannot read, PackageError where anything else is wrong: the
    file is no safetensors file or too large, a table has another type or shape than it says, a column is not sorted."""
    from safetensors import SafetensorError, safe_open

    try:
        size = path.stat().st_size
        if size > LARGEST:
            raise PackageError(where, f"has {size} bytes; at most {LARGEST} are read", _AGAIN)
        with safe_open(path, framework="numpy") as file:
            text = (file.metadata() or {}).get(_KEY)
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - it is no mapping
    except (SafetensorError, OSError, ValueError, TypeError, KeyError, AttributeError) as error:
        raise PackageError(where, f"is no readable safetensors file: {error}", _AGAIN) from None
    header = _header(text, where)
    scores = tensors.pop("scores", None)
    constants = {name.removeprefix(_CONSTANT): array for name, array in tensors.items()}
    faults = [
        f"holds the tensor {name!r}, which is no part of it" for name in tensors if not name.startswith(_CONSTANT)
    ]
    faults += _score_faults(header, scores) + _constant_faults(constants)
    if faults:
        raise PackageError(where, faults[0], _AGAIN)
    assert scores is not None, "its absence is a fault"
    return Reference(
        signals=tuple(Signal(**signal.model_dump()) for signal in header.signals),
        scores=scores,
        constants=constants,
        accepted=None if header.accepted is None else Accepted(**header.accepted.model_dump()),
        sure=header.sure,
        labels=header.labels,
        origin=header.origin,
        created=header.created,
    )


def _header(text: str | None, where: str) -> _Header:
    if text is None:
        raise PackageError(where, f"has no {_KEY!r} in its metadata", _AGAIN)
    try:
        number = _Format.model_validate_json(text).format
        if number != FORMAT:
            raise UnknownFormat(where, f"has the format {number}; this version reads {FORMAT}", "update shipworthy")
        return _Header.model_validate_json(text)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        place = ".".join(str(part) for part in first["loc"])
        raise PackageError(where, f"its metadata are not valid: {place}: {first['msg']}", _AGAIN) from None


class _Format(Strict, extra="ignore"):
    """The one key that every format has."""

    format: int = Field(strict=True)


def _score_faults(header: _Header, scores: Array | None) -> list[str]:
    names = [signal.name for signal in header.signals]
    faults = [f"has the signal {name!r} twice" for name in names if names.count(name) > 1]
    faults += [f"has the class {signal.name!r} without classes" for signal in header.signals if _is_unnamed(signal)]
    if any(count < 0 for count in header.labels):
        faults.append("counts labels below 0")
    if scores is None or scores.dtype != np.float64 or scores.ndim != 2 or scores.shape[1] != len(names):
        got = "nothing" if scores is None else f"{scores.dtype} {list(scores.shape)}"
        return [*faults, f"scores: expected float64 [samples, {len(names)}], got {got}"]
    if not FEWEST <= len(scores) <= MOST:
        return [*faults, f"has {len(scores)} samples; a reference has {FEWEST} to {MOST}"]
    for signal, column in zip(header.signals, scores.T, strict=True):
        fault = _column_fault(signal, column)
        if fault is not None:
            faults.append(f"scores of {signal.name!r}: {fault}")
    return faults


def _is_unnamed(signal: _Signal) -> bool:
    return signal.kind == "class" and not signal.classes


def _column_fault(signal: _Signal, column: Array) -> str | None:
    present = column[: len(column) - int(np.isnan(column).sum())]
    if not np.isfinite(present).all():
        return "are not finite, with what is missing at the end"
    if (np.diff(present) < 0).any():
        return "are not sorted"
    if signal.kind == "share" and not np.isin(present, (0.0, 1.0)).all():
        return "are a share, and not all 0 or 1"
    last = len(signal.classes) - 1
    if signal.kind == "class" and (
        (present != np.trunc(present)).any() or (present < 0).any() or (present > last).any()
    ):
        return f"are classes, and not all whole numbers from 0 to {last}"
    return None


def _constant_faults(constants: dict[str, Array]) -> list[str]:
    faults = []
    for name, array in constants.items():
        if array.dtype not in (np.float64, np.int64) or array.ndim > 2:
            faults.append(f"the constant {name!r} is {array.dtype} {list(array.shape)}")
        elif math.prod(array.shape) and np.isnan(array).any():
            faults.append(f"the constant {name!r} is not a number everywhere")
    return faults
