"""What measurements depend on, as digests that are equal from run to run."""

from __future__ import annotations

import hashlib
import inspect
import json
import sys
from collections.abc import Iterable, Iterator
from functools import cache
from pathlib import Path
from types import CodeType, ModuleType
from typing import TYPE_CHECKING, Any

import numpy as np

from ..contract import Arrays, Contract
from ..data import Dataset

if TYPE_CHECKING:
    import torch

    from ..model import LoadedModel

_ROOMS = ("contract", "data", "model", "exporters", "runtime", "measure")
"""Rooms whose code decides what a measurement is."""


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


def file_digest(path: Path) -> str:
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


@cache
def code_digest() -> str:
    """Of the sources of the rooms that measure: a changed rule makes an old result void."""
    package = Path(__file__).resolve().parents[1]
    state = hashlib.sha256()
    for path in sorted(file for room in _ROOMS for file in (package / room).rglob("*.py")):
        state.update(path.relative_to(package).as_posix().encode() + b"\0" + path.read_bytes())
    return state.hexdigest()


def model_digest(model: LoadedModel, contract: Contract) -> str:
    """Of a graph file's bytes; of a live module its weights, its plain attributes and the source of its classes.

    A pickle of the module would not do: its bytes may differ from run to run."""
    if model.source != "module" and model.path is not None:
        return file_digest(model.path)
    assert model.module is not None, "only a file has no module"
    state = hashlib.sha256()
    for part in (*_structure(model.module), *_sources(model.module, contract.root.resolve())):
        state.update(part.encode() + b"\0")
    for name, tensor in model.module.state_dict().items():
        state.update(_tensor_bytes(name, tensor))
    return state.hexdigest()


def _tensor_bytes(name: str, tensor: Any) -> bytes:
    import torch

    if not isinstance(tensor, torch.Tensor):
        return f"{name} {tensor!r}\n".encode()
    plain = tensor.detach().cpu().contiguous()
    return (
        f"{name} {plain.dtype} {tuple(plain.shape)}\n".encode() + plain.reshape(-1).view(torch.uint8).numpy().tobytes()
    )


def _structure(module: torch.nn.Module) -> Iterator[str]:
    for name, part in module.named_modules():
        yield f"{name}: {type(part).__module__}.{type(part).__qualname__}"
        for attribute, value in sorted(vars(part).items()):
            if not attribute.startswith("_") and _is_plain(value):
                yield f"{name}.{attribute} = {value!r}"


def _is_plain(value: object) -> bool:
    """Whether its repr is equal from run to run."""
    if isinstance(value, tuple | list):
        return all(map(_is_plain, value))
    return isinstance(value, int | float | str | type(None))


def _sources(module: torch.nn.Module, root: Path) -> Iterator[str]:
    """The sources of the user's classes, with every file under the contract's folder that they import.

    `__main__` may be a script, or a program such as a notebook's kernel that runs the user's code: its classes are
    the user's in both cases."""
    seen: set[str] = set()
    for kind in sorted(
        {type(part) for part in module.modules()}, key=lambda kind: (kind.__module__, kind.__qualname__)
    ):
        home = sys.modules.get(kind.__module__)
        if home is None or home.__name__ == "__main__" or not _is_library(home):
            yield _class_source(kind)
            if home is not None:
                yield from _files(home, root, seen)


def _files(module: ModuleType, root: Path, seen: set[str]) -> Iterator[str]:
    if module.__name__ in seen:
        return
    seen.add(module.__name__)
    if not _is_library(module):
        yield f"{module.__name__} {file_digest(Path(str(module.__file__)))}"
    homes = {_home(value) for value in vars(module).values()} - {None}
    for home in sorted(filter(None, homes)):
        other = sys.modules.get(home)
        file = getattr(other, "__file__", None)
        if other is not None and file and Path(file).resolve().is_relative_to(root) and not _is_library(other):
            yield from _files(other, root, seen)


def _home(value: object) -> str | None:
    name = value.__name__ if isinstance(value, ModuleType) else getattr(value, "__module__", None)
    return name if isinstance(name, str) else None


def _is_library(module: ModuleType) -> bool:
    file = getattr(module, "__file__", None)
    if file is None:
        return True
    path = Path(file).resolve()
    return "site-packages" in path.parts or path.is_relative_to(Path(json.__file__).resolve().parents[1])


def _class_source(kind: type) -> str:
    """Its text; where there is none (a notebook's cell may be gone), the byte code of its functions."""
    try:
        return inspect.getsource(kind)
    except (OSError, TypeError):
        functions = sorted((name, value) for name, value in vars(kind).items() if inspect.isfunction(value))
        return "\n".join(f"{name}: {_code_text(function.__code__)}" for name, function in functions)


def _code_text(code: CodeType) -> str:
    constants = [_code_text(part) if isinstance(part, CodeType) else repr(part) for part in code.co_consts]
    return f"{code.co_code.hex()} {code.co_names} {constants}"
