"""Contracts and arrays that the tests of the data room read."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from shipworthy.contract import Array, Contract, parse_contract

LABELS = ["cat", "dog", "owl"]


def contract(inputs: dict[str, Any], root: Path = Path(), **parts: Any) -> Contract:
    specs = {name: {"dtype": dtype, "shape": ["batch", *shape]} for name, (dtype, *shape) in inputs.items()}
    return parse_contract({"name": "net", "inputs": specs, **parts}, root=root)


def tabular(root: Path = Path(), **parts: Any) -> Contract:
    """Three classes of four numbers."""
    return contract({"x": ("float32", 4)}, root, **{"task": {"kind": "classification", "labels": LABELS}, **parts})


def text(root: Path = Path(), **parts: Any) -> Contract:
    """Token ids with their mask."""
    return contract({"ids": ("int64", "tokens"), "mask": ("int64", "tokens")}, root, **parts)


def images(root: Path = Path(), **parts: Any) -> Contract:
    """Three classes of grey images of 4 × 6 pixels."""
    accept = {"kind": "image", "size": [4, 6], "mode": "L", "scale": 1.0}
    inputs = {"image": {"dtype": "float32", "shape": ["batch", 1, 4, 6], "accept": accept}}
    task = {"kind": "classification", "labels": LABELS}
    return parse_contract({"name": "net", "inputs": inputs, "task": task, **parts}, root=root)


def rows(count: int, seed: int = 0) -> Array:
    """[count, 4] float32, no two rows equal."""
    return np.random.default_rng(seed).standard_normal((count, 4)).astype(np.float32)
