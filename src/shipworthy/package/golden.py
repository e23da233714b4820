"""Golden cases: inputs with eager's answers to them, kept in a package and replayed wherever a variant is opened."""

from __future__ import annotations

import time
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ..contract import Array, Arrays, Signature, TensorSpec
from ..errors import GoldenMismatch, PackageError
from ..runtime.protocol import Runner
from .manifest import Variant

_ROLES = ("inputs", "outputs")


@dataclass(frozen=True, slots=True)
class GoldenCase:
    """Inputs [batch, ...] by name, and the outputs that eager fp32 gave for them."""

    inputs: dict[str, Array]
    outputs: dict[str, Array]


@dataclass(frozen=True, slots=True)
class Golden:
    """The cases of a package, at several batch sizes."""

    cases: tuple[GoldenCase, ...]


@dataclass(frozen=True, slots=True)
class ReplayReport:
    """How far a variant was from the golden answers: the largest |Δ| of each output over all cases."""

    variant: str
    cases: int
    max_abs: dict[str, float]
    seconds: float


def replay(runner: Runner, variant: Variant, golden: Golden) -> ReplayReport:
    """Run every golden case.

    Raises GoldenMismatch where an output is further from eager's than the variant's tolerance; one without a stated
    tolerance must be equal. NaN equals NaN, and infinities of one sign are equal."""
    start = time.perf_counter()
    worst: dict[str, float] = {}
    for number, case in enumerate(golden.cases):
        got = runner.run(case.inputs)
        for name, expected in case.outputs.items():
            delta = _distance(variant.id, number, name, got, expected)
            allowed = variant.tolerance.get(name, 0.0)
            if not delta <= allowed:
                raise GoldenMismatch(
                    f"variant {variant.id!r}",
                    f"golden case {number}, output {name!r}: differs by {delta:.3g}, allowed are {allowed:.3g}",
                    "this host computes it differently than the one it was built on; build it again here",
                )
            worst[name] = max(worst.get(name, 0.0), delta)
    return ReplayReport(variant.id, len(golden.cases), worst, time.perf_counter() - start)


def _distance(variant: str, number: int, name: str, outputs: Arrays, expected: Array) -> float:
    got = outputs.get(name)
    if got is None or got.shape != expected.shape or got.dtype != expected.dtype:
        found = "nothing" if got is None else f"{got.dtype} {list(got.shape)}"
        raise GoldenMismatch(
            f"variant {variant!r}",
            f"golden case {number}, output {name!r}: expected {expected.dtype} {list(expected.shape)}, got {found}",
            "build the package again",
        )
    same = got == expected
    if np.issubdtype(expected.dtype, np.floating):
        same |= np.isnan(got) & np.isnan(expected)
    if same.all():
        return 0.0
    difference = np.abs(got[~same].astype(np.float64) - expected[~same].astype(np.float64))
    if not np.issubdtype(expected.dtype, np.floating):
        # Large integers may round to one float64, but they differ.
        return max(1.0, float(difference.max()))
    return float("inf") if np.isnan(difference).any() else float(difference.max())


def save_golden(golden: Golden, path: Path) -> None:
    """Write the cases as one safetensors file; the keys are `case/inputs/name` and `case/outputs/name`."""
    from safetensors.numpy import save

    tensors = {}
    for number, case in enumerate(golden.cases):
        for role, arrays in zip(_ROLES, (case.inputs, case.outputs), strict=True):
            for name, array in arrays.items():
                # The library writes the buffer as it lies in memory, whatever the strides say.
                tensors[f"{number:06d}/{role}/{name}"] = np.require(array, requirements="C")
    path.write_bytes(save(tensors))


def read_golden(path: Path, where: str, signature: Signature) -> Golden:
    """Read the cases back. Raises PackageError where they are unreadable or do not fit the signature."""
    from safetensors import SafetensorError
    from safetensors.numpy import load_file

    try:
        tensors = load_file(path)
    except (SafetensorError, OSError, KeyError) as error:
        raise PackageError(where, f"is no readable safetensors file: {error}") from None
    cases: dict[str, GoldenCase] = {}
    for key in sorted(tensors):
        number, _, rest = key.partition("/")
        role, _, name = rest.partition("/")
        if role not in _ROLES:
            raise PackageError(where, f"holds the tensor {key!r}, which is no golden input or output")
        case = cases.setdefault(number, GoldenCase({}, {}))
        (case.inputs if role == "inputs" else case.outputs)[name] = tensors[key]
    golden = Golden(tuple(cases.values()))
    check_golden(golden, where, signature)
    return golden


def check_golden(golden: Golden, where: str, signature: Signature) -> None:
    """Raise PackageError where a case lacks a tensor, has one too many, or has one that does not fit."""
    if not golden.cases:
        raise PackageError(where, "holds no golden case", "give at least one, better several batch sizes")
    for number, case in enumerate(golden.cases):
        for reason in _misfits(case, signature):
            raise PackageError(where, f"golden case {number}: {reason}")


def _misfits(case: GoldenCase, signature: Signature) -> Iterable[str]:
    sides: tuple[tuple[str, Arrays, dict[str, TensorSpec]], ...] = (
        ("inputs", case.inputs, signature.inputs),
        ("outputs", case.outputs, signature.outputs),
    )
    for role, arrays, specs in sides:
        if set(arrays) != set(specs):
            yield f"its {role} are {sorted(arrays)}, the signature has {sorted(specs)}"
            continue
        for name, spec in specs.items():
            reason = spec.misfit(arrays[name])
            if reason is not None:
                yield f"{name}: {reason}"
