"""Precision words, and counting what executes."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable

from .protocol import Kernel

WORDS = {
    "float": "fp32",
    "float32": "fp32",
    "f32": "fp32",
    "double": "fp64",
    "float64": "fp64",
    "f64": "fp64",
    "bfloat16": "bf16",
    "half": "fp16",
    "float16": "fp16",
    "f16": "fp16",
    "float8_e4m3fn": "fp8",
    "float8_e5m2": "fp8",
    "i8": "int8",
    "u8": "int8",
    "int8": "int8",
    "uint8": "int8",
    "char": "int8",
    "signed char": "int8",
    "unsigned char": "int8",
    "qint8": "int8",
    "quint8": "int8",
    "int": "int32",
    "i32": "int32",
    "long": "int64",
    "long int": "int64",
    "i64": "int64",
}
"""What torch, ONNX Runtime, OpenVINO and C++ call a precision, and what a Kernel calls it."""

_KNOWN = frozenset(WORDS.values()) | {"bool"}
_NARROW = ("int8", "fp8", "fp16", "bf16")
_FLOAT = ("fp32", "fp64")


def word(name: str) -> str:
    """`c10::BFloat16`, `tensor(float)` or `u8` as a Kernel says it; an unknown name stays as it is."""
    plain = name.rsplit("::", 1)[-1].removeprefix("tensor(").removesuffix(")").lower()
    return WORDS.get(plain, plain)


def dtype_words(names: Iterable[str]) -> list[str]:
    """The precision words of those names that mean a dtype; lists and scalars among a call's arguments mean none."""
    return [found for name in names if (found := word(name)) in _KNOWN]


def precision_of(words: Iterable[str]) -> str:
    """The precision of an operation with such operands: the narrowest decides, floats before integers."""
    found = list(words)
    for candidate in (*_NARROW, *_FLOAT):
        if candidate in found:
            return candidate
    return found[0] if found else "unknown"


def tally(found: Iterable[tuple[str, str, bool]]) -> tuple[Kernel, ...]:
    """Kernels of (op, precision, heavy), heavy ones first, then the most frequent."""
    counts = Counter(found)
    order = sorted(counts.items(), key=lambda item: (not item[0][2], -item[1], item[0]))
    return tuple(Kernel(op=op, precision=word, count=count, heavy=heavy) for (op, word, heavy), count in order)
