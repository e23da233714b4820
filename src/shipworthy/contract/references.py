"""References to the user's own code, `module:callable`, told apart from files."""

from __future__ import annotations

import re
from dataclasses import dataclass

_NAME = r"[A-Za-z_]\w*(?:\.[A-Za-z_]\w*)*"
_REFERENCE = re.compile(rf"({_NAME}):({_NAME})", re.ASCII)

FILE_SUFFIXES = (".pt2", ".pt", ".pth", ".onnx", ".npz", ".safetensors", ".parquet")
"""What ends in one of these is a file, though it has a colon in it."""


@dataclass(frozen=True, slots=True)
class Reference:
    """`package.module:factory` or `module:Class.method`, not yet imported."""

    module: str
    attribute: str

    @classmethod
    def parse(cls, text: str) -> Reference | None:
        """The reference that `text` is, or None where it is a path or a plain word."""
        match = _REFERENCE.fullmatch(text)
        if match is None or text.lower().endswith(FILE_SUFFIXES):
            return None
        return cls(*match.groups())

    def __str__(self) -> str:
        return f"{self.module}:{self.attribute}"
