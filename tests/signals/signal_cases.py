"""Contracts and batches whose signals are computed."""

from __future__ import annotations

from typing import Any

import numpy as np

from shipworthy.contract import Array, Arrays, Contract, Dim, TensorSpec
from shipworthy.signals import Signals


def contract(
    inputs: dict[str, list[Any]] | None = None,
    outputs: dict[str, list[Any]] | None = None,
    *,
    task: str = "tensors",
    kind: str = "values",
    **parts: Any,
) -> Contract:
    """Of shapes by name; a name before the shape is the dtype."""
    task_parts = {"kind": task, **parts.pop("task_parts", {})}
    first = next(iter(outputs), None) if outputs else None
    return Contract(
        name="net",
        inputs={name: _spec(shape) for name, shape in (inputs or {"x": ["batch", 4]}).items()},
        outputs={
            name: {**_spec(shape), **({"kind": kind} if name == first else {})}
            for name, shape in (outputs or {"y": ["batch", 3]}).items()
        },
        task=task_parts,
        **parts,
    )


def _spec(shape: list[Any]) -> dict[str, Any]:
    dtype, shape = (shape[0], shape[1:]) if shape[0] != "batch" else ("float32", shape)
    return {"dtype": dtype, "shape": shape}


def classifier(classes: int = 3, kind: str = "logits", **parts: Any) -> Contract:
    return contract(outputs={"scores": ["batch", classes]}, task="classification", kind=kind, **parts)


def batch(specs: dict[str, TensorSpec], rows: int, random: np.random.Generator, size: int = 5) -> dict[str, Array]:
    """Arrays [rows, ...] that fit; every dynamic dimension has `size`."""
    made = {}
    for name, spec in specs.items():
        shape = [size if isinstance(dim, Dim) else dim for dim in spec.shape]
        if spec.batched:
            shape[0] = rows
        numbers = random.normal(size=shape) * 3
        made[name] = (
            numbers > 0 if spec.dtype == "bool" else np.abs(numbers) if "int" in spec.dtype else numbers
        ).astype(spec.numpy)
    return made


def both(what: Contract, rows: int, seed: int = 0) -> tuple[dict[str, Array], dict[str, Array]]:
    """Inputs and outputs of a contract."""
    random = np.random.default_rng(seed)
    signature = what.signature
    return batch(signature.inputs, rows, random), batch(signature.outputs, rows, random)


def column(signals: Signals, feeds: Arrays, outputs: Arrays, name: str) -> Array:
    """One signal by its name, [n]."""
    places = [signal.name for signal in signals.signals]
    found: Array = signals.of(feeds, outputs)[:, places.index(name)]
    return found


def names(signals: Signals, *, scored: bool | None = None) -> list[str]:
    return [signal.name for signal in signals.signals if scored is None or signal.scored == scored]
