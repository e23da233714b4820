"""One fault of a contract: where, why, and what to write instead."""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from dataclasses import dataclass
from typing import TypeAlias

KeyPath: TypeAlias = tuple[str | int, ...]

_SYNONYMS = {
    "bfloat16": "bf16",
    "classifier": "classification",
    "double": "float64",
    "float": "float32",
    "fp16": "float16",
    "fp64": "float64",
    "gpu": "cuda",
    "gray": "L",
    "grey": "L",
    "half": "float16",
    "inductor": "aoti",
    "int": "int64",
    "jit": "torchscript",
    "long": "int64",
    "multi-label": "multilabel",
    "onnx": "onnxruntime",
    "ort": "onnxruntime",
    "probs": "probabilities",
    "ptq": "static",
    "scores": "logits",
    "script": "torchscript",
    "softmax": "probabilities",
    "speed": "throughput",
    "x86_64": "x86-64",
    "amd64": "x86-64",
    "arm64": "aarch64",
}


@dataclass(frozen=True, slots=True)
class Fault:
    """`path` is the key's place in the contract; `reason` says what was expected and what was given."""

    path: KeyPath
    reason: str
    remedy: str = ""

    @property
    def key(self) -> str:
        """`inputs.image.shape[1]`."""
        text = ""
        for part in self.path:
            text += f"[{part}]" if isinstance(part, int) else f".{part}" if text else part
        return text


def nearest(word: str, valid: Iterable[str]) -> str | None:
    """The valid word that `word` was probably meant to be."""
    words = list(valid)
    folded = {candidate.casefold(): candidate for candidate in reversed(words)}
    meant = word.casefold().removeprefix("torch.")
    for guess in (meant, _SYNONYMS.get(meant, ""), "fp32" if meant == "float32" else ""):
        if guess.casefold() in folded:
            return folded[guess.casefold()]
    close = difflib.get_close_matches(meant, folded, n=1, cutoff=0.6)
    return folded[close[0]] if close else None


def quoted(words: Iterable[str], last: str = "or") -> str:
    """`"a", "b" or "c"`."""
    listed = [f'"{word}"' for word in words]
    if len(listed) < 2:
        return "".join(listed)
    return f"{', '.join(listed[:-1])} {last} {listed[-1]}"
