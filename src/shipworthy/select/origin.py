"""Whose code it is: the user's, or an installed library's, which its version tells."""

from __future__ import annotations

import hashlib
import json
import sys
from collections.abc import Iterator
from pathlib import Path
from types import CodeType, ModuleType


def is_library_code(code: CodeType) -> bool:
    """By the file that the code is from: a decorator's wrapper bears the name of what it wraps."""
    file = Path(code.co_filename)
    return file.is_absolute() and _is_installed(file)


def is_library(name: str) -> bool:
    """`__main__` may be a script, or a program such as a notebook's kernel that runs the user's code: its classes are
    the user's in both cases."""
    module = sys.modules.get(name)
    if name == "__main__" or module is None:
        return False
    file = getattr(module, "__file__", None)
    return file is None or _is_installed(Path(file))


def _is_installed(file: Path) -> bool:
    path = file.resolve()
    here = Path(__file__).resolve().parents[1]
    standard = Path(json.__file__).resolve().parents[1]
    return "site-packages" in path.parts or path.is_relative_to(standard) or path.is_relative_to(here)


def project_files(module: ModuleType, root: Path, seen: set[str]) -> Iterator[str]:
    """Digests of a module's file and of every file under `root` that it imports."""
    if module.__name__ in seen:
        return
    seen.add(module.__name__)
    file = getattr(module, "__file__", None)
    if file is None or _is_installed(Path(file)):
        return
    if module.__name__ != "__main__" and Path(file).is_file():
        yield f"{module.__name__} {hashlib.sha256(Path(file).read_bytes()).hexdigest()}"
    for home in sorted(filter(None, {_home(value) for value in list(vars(module).values())})):
        other = sys.modules.get(home)
        at = getattr(other, "__file__", None)
        if other is not None and at and Path(at).resolve().is_relative_to(root):
            yield from project_files(other, root, seen)


def _home(value: object) -> str | None:
    name = value.__name__ if isinstance(value, ModuleType) else getattr(value, "__module__", None)
    return name if isinstance(name, str) else None
