"""Real sentences that every machine with these packages has: the first paragraphs of docstrings."""

from __future__ import annotations

import ast
import sysconfig
from collections.abc import Iterable, Iterator
from importlib.util import find_spec
from itertools import islice
from pathlib import Path

LABELS = ("numpy", "python", "sklearn", "torch")
EACH = 900
"""Sentences of each library; the largest would otherwise be the best guess."""


def corpus() -> tuple[list[str], list[int]]:
    """Texts, none twice, and for each the place in LABELS of the library that it documents."""
    texts: dict[str, int] = {}
    for number, label in enumerate(LABELS):
        new = (text for text in dict.fromkeys(paragraphs(modules(label))) if text not in texts)
        texts.update((text, number) for text in list(islice(new, EACH)))
    return list(texts), list(texts.values())


def modules(label: str) -> list[Path]:
    """The source files of a library, without tests; of torch, which is large, the parts that people import."""
    if label == "python":
        return sorted(Path(sysconfig.get_path("stdlib")).glob("*.py"))
    spec = find_spec(label)
    assert spec is not None and spec.origin is not None, f"{label} is a package that is installed"
    root = Path(spec.origin).parent
    folders = [root / name for name in ("distributions", "nn", "optim", "utils")] if label == "torch" else [root]
    return [path for folder in folders for path in sorted(folder.rglob("*.py")) if "tests" not in path.parts]


def paragraphs(files: Iterable[Path]) -> Iterator[str]:
    """The first paragraph of each docstring, where it has five words or more. Files are parsed and not imported."""
    for file in files:
        for node in ast.walk(ast.parse(file.read_bytes())):
            if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef):
                words = (ast.get_docstring(node) or "").split("\n\n")[0].split()
                if len(words) >= 5:
                    yield " ".join(words)
