"""What a model is, as a digest that is equal from process to process until something of the model changes."""

from __future__ import annotations

import hashlib
import inspect
import re
import secrets
import sys
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Set
from dataclasses import dataclass
from enum import Enum
from functools import partial
from logging import Logger
from pathlib import Path, PurePath
from types import BuiltinFunctionType, CodeType, FunctionType, MethodType, ModuleType
from typing import TYPE_CHECKING, Any
from weakref import ReferenceType

import numpy as np

from ..contract import Contract
from ..model import LoadedModel
from .origin import is_library, is_library_code, project_files

if TYPE_CHECKING:
    import torch

_PLAIN = (
    bool,
    int,
    float,
    complex,
    str,
    bytes,
    bytearray,
    range,
    slice,
    type(None),
    type(Ellipsis),
    type(NotImplemented),
)
_HOOKS = ("_forward_hooks", "_forward_pre_hooks")
_OF_TORCH = re.compile(r"^_(parameters|buffers|modules|non_persistent|is_full|compiled|\w*hooks)")
"""Attributes of every nn.Module that are told otherwise, or that no prediction depends on."""
_OF_A_CLASS = {"__dict__", "__weakref__", "__doc__", "__module__", "__annotations__", "__firstlineno__", "__qualname__"}
_MANGLED = re.compile(r"___torch_mangle_\d+\.")


@dataclass(frozen=True, slots=True)
class Fingerprint:
    digest: str
    unstable: tuple[str, ...] = ()
    """Parts that nothing stable can be said of; with any, the digest is another each time."""


def fingerprint(model: LoadedModel, contract: Contract) -> Fingerprint:
    """Of a graph file its bytes; of a live graph its text, constants and weights; of a module all that it holds.

    That is: every parameter and buffer, every other attribute, and the byte code of the user's own classes and
    functions, with every file under the contract's folder that they import. A pickle of the module would not do: its
    bytes may differ from run to run."""
    if model.source != "module" and model.path is not None:
        with model.path.open("rb") as stream:
            return Fingerprint(hashlib.file_digest(stream, "sha256").hexdigest())
    assert model.module is not None, "only a file has no module"
    digester = _Digester(contract.root.resolve())
    digester.add(model.module, "model")
    return digester.result()


def imported_digest(reference: str, root: Path) -> Fingerprint:
    """Of what `module:attribute` gave, with its file and those of the project that it imports.

    The code in memory counts as well as the file, which may have been edited since it was imported."""
    module, _, attribute = reference.partition(":")
    digester = _Digester(root.resolve())
    found: object = sys.modules[module]
    for part in attribute.split("."):
        found = getattr(found, part)
    digester.add(sys.modules[module], module)
    digester.add(found, attribute)
    return digester.result()


class _Digester:
    """Walks over a value of any kind; each object once, for it may contain itself."""

    def __init__(self, root: Path) -> None:
        self._root = root
        self._state = hashlib.sha256()
        self._seen: dict[int, int] = {}
        self._alive: list[object] = []
        self._files: set[str] = set()
        self._unstable: list[str] = []

    def result(self) -> Fingerprint:
        if self._unstable:
            self._write("salt", secrets.token_hex(16))
        return Fingerprint(self._state.hexdigest(), tuple(dict.fromkeys(self._unstable)))

    def add(self, value: object, path: str) -> None:
        if isinstance(value, _PLAIN):
            self._write(type(value).__name__, repr(value))
            return
        # Python shares equal constants when it likes, so that only what can be changed is one with itself.
        if not isinstance(value, tuple | frozenset | CodeType):
            number = self._seen.get(id(value))
            if number is not None:
                self._write("again", str(number))
                return
            self._seen[id(value)] = len(self._seen)
            # An id is only an object's own while the object lives.
            self._alive.append(value)
        self._write("is", _name_of(type(value)))
        try:
            self._way(value)(value, path)
        except Exception:  # noqa: BLE001  a user's attribute may refuse in any way; then it counts as always new
            self._unstable.append(path)

    def _way(self, value: object) -> Callable[[Any, str], None]:
        import torch
        from torch.export import ExportedProgram

        ways: tuple[tuple[type | tuple[type, ...], Callable[[Any, str], None]], ...] = (
            (torch.Tensor, self._tensor),
            (torch.jit.ScriptModule, self._script),
            (torch.fx.GraphModule, self._graph_module),
            (ExportedProgram, self._program),
            (torch.nn.Module, self._module),
            ((torch.dtype, torch.device, torch.layout, torch.memory_format), self._repr),
            ((np.ndarray, np.generic), self._array),
            (Enum, self._member),
            (PurePath, self._text),
            (Mapping, self._mapping),
            (Set, self._set),
            ((list, tuple, deque), self._items),
            (FunctionType, self._function),
            ((MethodType, partial), self._bound),
            (BuiltinFunctionType, self._builtin),
            ((staticmethod, classmethod, property), self._descriptor),
            (CodeType, self._code),
            (ModuleType, self._imports),
            (type, self._class),
            (Logger, self._logger),
            (ReferenceType, self._reference),
        )
        return next((way for kind, way in ways if isinstance(value, kind)), self._object)

    def _write(self, *parts: str | bytes) -> None:
        for part in parts:
            data = part if isinstance(part, bytes) else part.encode("utf-8", "surrogatepass")
            self._state.update(len(data).to_bytes(8, "little") + data)

    def _repr(self, value: object, _: str) -> None:
        self._write(repr(value))

    def _text(self, value: object, _: str) -> None:
        self._write(str(value))

    def _member(self, value: Enum, _: str) -> None:
        self._write(value.name)

    def _logger(self, value: Logger, _: str) -> None:
        self._write(value.name)

    def _reference(self, value: ReferenceType[object], path: str) -> None:
        self.add(value(), path)

    def _builtin(self, value: Any, path: str) -> None:
        self._write(value.__qualname__)
        if value.__self__ is not None and not isinstance(value.__self__, ModuleType):
            self.add(value.__self__, path)

    def _tensor(self, value: torch.Tensor, _: str) -> None:
        import torch

        plain = value.detach().cpu().resolve_conj().resolve_neg().contiguous()
        self._write(str(plain.dtype), repr(tuple(plain.shape)), plain.reshape(-1).view(torch.uint8).numpy().tobytes())

    def _array(self, value: Any, path: str) -> None:
        array = np.asarray(value)
        self._write(str(array.dtype), repr(array.shape))
        if array.dtype.hasobject:
            self._items(array.tolist() if array.ndim else [array.item()], path)
        else:
            self._write(np.ascontiguousarray(array).tobytes())

    def _items(self, values: Any, path: str) -> None:
        self._write(str(len(values)))
        for number, value in enumerate(values):
            self.add(value, f"{path}[{number}]")

    def _mapping(self, values: Mapping[Any, Any], path: str) -> None:
        """In its own order, on which a loop over it depends."""
        self._write(str(len(values)))
        for key, value in values.items():
            self.add(key, f"{path} (a key)")
            self.add(value, f"{path}[{key!r}]" if isinstance(key, _PLAIN) else path)

    def _set(self, values: Set[Any], path: str) -> None:
        """In an order of its own: that of a set changes from process to process."""
        self._write(*sorted(self._alone(value, path) for value in values))

    def _alone(self, value: object, path: str) -> str:
        digester = _Digester(self._root)
        digester.add(value, path)
        self._unstable.extend(digester._unstable)
        return digester._state.hexdigest()

    def _bound(self, value: Any, path: str) -> None:
        parts = (value.__func__, value.__self__) if isinstance(value, MethodType) else value.__reduce__()[1:]
        for part in parts:
            self.add(part, path)

    def _descriptor(self, value: Any, path: str) -> None:
        parts = (value.fget, value.fset) if isinstance(value, property) else (value.__func__,)
        for part in parts:
            self.add(part, path)

    def _function(self, value: FunctionType, path: str) -> None:
        """A library's by its name, for its version is known; the user's by byte code, defaults, closure and globals."""
        self._write(value.__module__ or "", value.__qualname__)
        home = sys.modules.get(value.__module__ or "")
        if is_library_code(value.__code__) and "<locals>" not in value.__qualname__:
            return
        self.add(value.__code__, path)
        self.add((value.__defaults__, value.__kwdefaults__), f"the defaults of {path}")
        for name, cell in zip(value.__code__.co_freevars, value.__closure__ or (), strict=True):
            self.add(_content(cell), f"{name} in {path}")
        if is_library_code(value.__code__):
            return
        for name in sorted(set(_global_names(value.__code__)) & set(value.__globals__)):
            self._write(name)
            self.add(value.__globals__[name], f"the global {name}")
        if home is not None:
            self._imports(home, path)

    def _code(self, value: CodeType, path: str) -> None:
        self._write(value.co_code, repr(value.co_names), repr(value.co_varnames))
        for constant in value.co_consts:
            self.add(constant, path)

    def _class(self, kind: type, path: str) -> None:
        self._write(_name_of(kind))
        for base in kind.__mro__[1:]:
            self.add(base, path)
        if is_library(kind.__module__):
            return
        for name, value in vars(kind).items():
            if name not in _OF_A_CLASS and not inspect.isgetsetdescriptor(value) and not name.startswith("_abc_"):
                self._write(name)
                self.add(value, f"{kind.__qualname__}.{name}")
        home = sys.modules.get(kind.__module__)
        if home is not None:
            self._imports(home, path)

    def _imports(self, module: ModuleType, _: str) -> None:
        self._write(module.__name__)
        self._write(*project_files(module, self._root, self._files))

    def _object(self, value: object, path: str) -> None:
        """As pickle takes it apart. What cannot be pickled, such as a lock, raises, and so counts as always new."""
        self.add(type(value), path)
        reduced = value.__reduce_ex__(4)
        if isinstance(reduced, str):
            self._write(reduced)
            return
        for number, part in enumerate(reduced):
            self.add(part if number < 3 or part is None else list(part), path)

    def _module(self, module: torch.nn.Module, path: str) -> None:
        from ..model.graphs import ExportedModule

        if isinstance(module, ExportedModule):
            self.add(module.program, path)
            return
        self.add(type(module), path)
        self._held(module, path)
        for name, value in sorted(vars(module).items()):
            if name in _HOOKS:
                self._items(list(value.values()), f"a hook of {path}")
            elif not _OF_TORCH.match(name):
                self._write(name)
                self.add(value, f"{path}.{name}")

    def _held(self, module: torch.nn.Module, path: str) -> None:
        for held in (module._parameters, module._buffers, module._modules):
            for name, value in held.items():
                self._write(name)
                self.add(value, f"{path}.{name}")

    def _graph_module(self, module: torch.fx.GraphModule, path: str) -> None:
        import torch

        self._write(module.code)
        self._held(module, path)
        for name, value in sorted(vars(module).items()):
            if isinstance(value, (torch.Tensor, torch.ScriptObject)):
                self._write(name)
                self.add(value, f"{path}.{name}")

    def _program(self, program: Any, path: str) -> None:
        """The graph with those of its branches, what it reads, and the sizes that it allows."""
        import torch

        for part in program.graph_module.modules():
            if isinstance(part, torch.fx.GraphModule):
                self._write(part.code)
        self._write(str(program.graph_signature), str(program.range_constraints))
        self.add(dict(program.state_dict), path)
        self.add(dict(program.constants), path)

    def _script(self, module: Any, path: str) -> None:
        """The graph of forward with all that it calls, and what it reads: weights, constants, attributes."""
        graph = module.inlined_graph
        self._write(_MANGLED.sub("", graph.str(False)))
        for node in graph.findAllNodes("prim::Constant"):
            if "value" in node.attributeNames() and node.kindOf("value") == "t":
                self.add(node.t("value"), f"a constant of {path}")
        for node in graph.findAllNodes("prim::GetAttr"):
            value = _attribute(module, node)
            if not _is_script(value):
                self.add(value, f"{path}.{node.s('name')}")
        for name, value in (*module.named_parameters(), *module.named_buffers()):
            self._write(name)
            self.add(value, f"{path}.{name}")


def _attribute(module: Any, node: Any) -> Any:
    """What a GetAttr of the graph reads, along its chain from the module itself."""
    giver = next(iter(node.inputs())).node()
    owner = _attribute(module, giver) if giver.kind() == "prim::GetAttr" else module
    return getattr(owner, node.s("name"))


def _is_script(value: object) -> bool:
    import torch

    return isinstance(value, torch.jit.ScriptModule)


def _content(cell: Any) -> object:
    try:
        return cell.cell_contents
    except ValueError:
        return "an empty cell"


def _global_names(code: CodeType) -> Iterator[str]:
    yield from code.co_names
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            yield from _global_names(constant)


def _name_of(kind: type) -> str:
    return f"{kind.__module__}.{kind.__qualname__}"
