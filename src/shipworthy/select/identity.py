"""What measurements depend on, as digests that are equal from run to run."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
from collections.abc import Iterable
from functools import cache
from pathlib import Path

import numpy as np

from ..contract import Array, Arrays
from ..data import Dataset

_ASIDE = ("cli", "server", "demo", "monitor", "rollout", "pages", "select/report")
"""Rooms whose code decides nothing of a result."""

_DIGITS = 3
"""Decimals of what is kept of eager's outputs: its last bits may differ from process to process."""


def digest(value: object) -> str:
    """sha256 of the canonical JSON of plain values."""
    text = json.dumps(value, sort_keys=True, separators=(",", ":"), default=str)
    return hashlib.sha256(text.encode()).hexdigest()


def arrays_digest(cases: Iterable[Arrays]) -> str:
    state = hashlib.sha256()
    for case in cases:
        for name, array in case.items():
            state.update(f"{name} {array.dtype} {array.shape}\n".encode())
            state.update(
                np.ascontiguousarray(array).tobytes() if array.dtype != object else repr(array.tolist()).encode()
            )
    return state.hexdigest()


def data_digest(data: Dataset | None) -> str | None:
    """Of inputs and targets, in order."""
    if data is None:
        return None
    chunks = ({**c.inputs, **({} if c.targets is None else {" targets": c.targets})} for c in data.chunks)
    return arrays_digest(chunks)


@cache
def code_digest() -> str:
    """Of all sources that decide a result: a changed rule makes an old result void."""
    package = Path(__file__).resolve().parents[1]
    state = hashlib.sha256()
    for path in sorted(package.rglob("*.py")):
        name = path.relative_to(package).as_posix()
        if not name.startswith(tuple(f"{room}/" for room in _ASIDE)):
            state.update(name.encode() + b"\0" + path.read_bytes())
    return state.hexdigest()


def outputs_digest(runs: Iterable[Arrays]) -> str:
    """Of what a model answers: names, dtypes, shapes, and of the values a few sums, to three digits."""
    return digest([[[name, str(a.dtype), a.shape, _sums(a)] for name, a in run.items()] for run in runs])


def _sums(array: Array) -> list[str]:
    if array.dtype.kind not in "fiub":
        return [repr(array.tolist())]
    values = array.astype(np.float64).ravel()
    weights = np.cos(np.arange(values.size))
    with np.errstate(all="ignore"):
        sums = (np.abs(values).sum(), (values * (1 + weights)).sum(), (np.abs(values) * (1 + weights)).sum())
    return [f"{total:.{_DIGITS}e}" for total in sums]


def toolchain(engine: str) -> list[str] | None:
    """The compiler that an engine's export calls, as its path and version; None for an engine that calls none."""
    return list(_compiler()) if engine == "aoti" else None


@cache
def _compiler() -> tuple[str, ...]:
    names = [name for name in (os.environ.get("CXX"), "g++", "clang++", "c++") if name]
    path = next((found for name in names if (found := shutil.which(name))), None)
    if path is None:
        return ("none",)
    try:
        said = subprocess.run([path, "--version"], capture_output=True, text=True, timeout=20, check=False).stdout
    except (OSError, subprocess.TimeoutExpired) as error:
        return (path, type(error).__name__)
    return (path, said.split("\n")[0])
