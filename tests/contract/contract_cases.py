"""Contracts that tests put together and break."""

from __future__ import annotations

from typing import Any

DIGITS = """\
name    = "digits"
model   = "train:build_model"

[inputs.image]
dtype  = "float32"
shape  = ["batch", 1, 8, 8]
accept = { kind = "image", size = [8, 8], mode = "L", scale = 0.0625 }

[outputs.logits]
dtype = "float32"
shape = ["batch", 10]
kind  = "logits"

[task]
kind   = "classification"
labels = ["0", "1", "2", "3", "4", "5", "6", "7", "8", "9"]

[data]
validation = "validation.npz"

[limits]
max_metric_drop = 0.005
confidence = 0.95
"""

NET: dict[str, Any] = {
    "name": "net",
    "model": "train:build_model",
    "inputs": {"x": {"dtype": "float32", "shape": ["batch", 4]}},
}
"""A small right contract; tests give it other parts."""

IDS: dict[str, Any] = {
    "ids": {"dtype": "int64", "shape": ["batch", "tokens:1..512"]},
    "mask": {"dtype": "int64", "shape": ["batch", "tokens:1..512"]},
}


def image(**accept: Any) -> dict[str, Any]:
    """The inputs of a model of 8 × 8 grey images."""
    given = {"kind": "image", "size": [8, 8], "mode": "L", **accept}
    return {"image": {"dtype": "float32", "shape": ["batch", 1, 8, 8], "accept": given}}
