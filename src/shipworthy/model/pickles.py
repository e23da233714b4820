"""What a pickle would import, read without unpickling anything."""

from __future__ import annotations

import pickletools
from dataclasses import dataclass

_TORCH_FORMAT = ("torch._utils.", "torch.storage.", "torch._tensor.", "torch.serialization.")
_HARMLESS = frozenset({"collections.OrderedDict", "torch.Size", "torch.device", "torch.nn.parameter.Parameter"})


@dataclass(frozen=True, slots=True)
class PickleContents:
    """What a pickle names: the callables it imports, in order, and whether it is an nn.Module as a whole."""

    imports: tuple[str, ...]
    whole_module: bool

    @property
    def foreign(self) -> tuple[str, ...]:
        """The imports that neither tensors nor plain containers need. For a pickled object, its class comes first."""
        return tuple(name for name in self.imports if not _is_format(name))


def _is_format(name: str) -> bool:
    storage = name.startswith("torch.") and name.endswith("Storage")
    dtype = name.startswith("torch.") and name.count(".") == 1 and name[6:7].islower()
    return name in _HARMLESS or storage or dtype or name.startswith(_TORCH_FORMAT)


def read_pickle_imports(data: bytes) -> PickleContents:
    """Scan one or several concatenated pickles.

    Raises ValueError where `data` is no pickle. An nn.Module is recognised by the attributes that each of them has."""
    imports: dict[str, None] = {}
    texts: set[str] = set()
    position = 0
    while position < len(data) and data[position : position + 1] == b"\x80":
        end = _scan(data[position:], imports, texts)
        position += end
    if position == 0:
        raise ValueError("not a pickle")
    return PickleContents(tuple(imports), {"_parameters", "_modules", "_buffers"} <= texts)


def _scan(data: bytes, imports: dict[str, None], texts: set[str]) -> int:
    """Collect what one pickle names; returns its length.

    STACK_GLOBAL takes the two strings pushed last, which may have come from the memo."""
    pushed: list[str] = []
    memo: dict[int, str] = {}
    last = ""
    length = 0
    for op, argument, offset in pickletools.genops(data):
        length = (offset or 0) + 1
        if op.name in ("GLOBAL", "INST"):
            imports[_qualified(*str(argument).split(" ", 1))] = None
        elif op.name == "STACK_GLOBAL" and len(pushed) >= 2:
            imports[_qualified(*pushed[-2:])] = None
        elif "UNICODE" in op.name or "STRING" in op.name:
            last = str(argument)
            pushed.append(last)
            texts.add(last)
        elif op.name == "MEMOIZE":
            memo[len(memo)] = last
        elif op.name in ("PUT", "BINPUT", "LONG_BINPUT"):
            memo[int(argument or 0)] = last
        elif op.name in ("GET", "BINGET", "LONG_BINGET"):
            pushed.append(memo.get(int(argument or 0), ""))
    return length


def _qualified(module: str, name: str) -> str:
    return f"{module}.{name}"
