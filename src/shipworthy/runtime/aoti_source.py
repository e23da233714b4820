"""What an AOTInductor package executes, read from the C++ that was compiled into it.

The generated wrapper is straight-line code: it allocates buffers of a fixed dtype and calls one routine after another.
What it calls, and the dtype of the buffers that it passes, are therefore what runs. Nothing is loaded for this."""

from __future__ import annotations

import re
import zipfile
from collections.abc import Iterator
from pathlib import Path

from ..errors import EngineError
from .kernels import precision_of, tally, word
from .protocol import Kernel

_CONSTANT = re.compile(r'constants_info_\[(\d+)\]\.(name|dtype) = (?:"([^"]*)"|static_cast<int32_t>\((.+)\)|(.+));')
_ALLOCATION = re.compile(r"aoti_torch_empty_strided\(.*?(?:cached_torch_dtype_)(\w+),.*&(\w+)\)")
_CAST = re.compile(r"\((?:const )?([\w:]+)\*\)\s*\((\w+)\.data_ptr\(\)\)")
_ALIAS = re.compile(r"^\s*(?:auto |RAIIAtenTensorHandle )?(\w+)(?: = |\()(.*)\)?;")
_ASSIGN = re.compile(r"aoti_torch_assign_tensors_out\((\w+), &(\w+)\)")
_CALL = re.compile(r"\baoti_torch_(?:cpu|cuda|proxy_executor)_(\w+)\((.*)\)")
_FUSED = re.compile(r"^\s*(?:kernels\.)?(cpp_\w+|triton_\w+)\((.*)\);")
_WORD = re.compile(r"\b[A-Za-z_]\w*\b")

_HEAVY = re.compile(
    r"^_?_?(?:add)?(?:b?mm|mv|bmm)(?:_out|_dtype)?$|^baddbmm|^_int_mm|conv|linear|_mm\b|rnn|lstm|gru|attention|gemm"
)
_PLUMBING = re.compile(r"^(?:resize|as_strided|view|copy_?$|clone|empty|fill)")


def wrapper_source(path: Path) -> str:
    """The generated wrapper of a package. Raises EngineError where there is none."""
    with zipfile.ZipFile(path) as archive:
        names = [name for name in archive.namelist() if name.endswith(".cpp") and "kernel.cpp" not in name]
        if not names:
            raise EngineError(str(path), "holds no generated source, so what it runs cannot be told", "export it again")
        return "\n".join(archive.read(name).decode() for name in sorted(names))


def compiled_kernels(path: Path) -> tuple[Kernel, ...]:
    return tally(_calls(wrapper_source(path)))


def _calls(source: str) -> Iterator[tuple[str, str, bool]]:
    dtypes = _constants(source)
    for line in source.splitlines():
        _learn(line, dtypes)
        if (fused := _FUSED.search(line)) is not None:
            casts = [word(dtype) for dtype, _ in _CAST.findall(fused[2])]
            yield fused[1], precision_of(casts), bool(re.search("gemm|bmm", fused[1]))
        elif (call := _CALL.search(line)) is not None and not _PLUMBING.match(call[1]):
            precision = precision_of(dtypes[name] for name in _WORD.findall(call[2]) if name in dtypes)
            heavy = bool(_HEAVY.search(call[1]))
            yield call[1].removesuffix("_out"), precision, heavy
            if heavy:
                _note(dtypes, re.findall(r"&(\w+)", call[2]), precision)


def _constants(source: str) -> dict[str, str]:
    """The dtype of each weight, by the name that the code gives it."""
    fields: dict[str, dict[str, str]] = {}
    for index, key, text, cast, plain in _CONSTANT.findall(source):
        fields.setdefault(index, {})[key] = text or cast or plain
    names = {field["name"]: field["dtype"] for field in fields.values() if len(field) == 2}
    return {name: word(dtype.removeprefix("cached_torch_dtype_")) for name, dtype in names.items()}


def _learn(line: str, dtypes: dict[str, str]) -> None:
    """Follow dtypes through allocations, casts, moves and views."""
    for dtype, handle in _ALLOCATION.findall(line):
        _note(dtypes, [handle], word(dtype))
    for dtype, name in _CAST.findall(line):
        _note(dtypes, [name], word(dtype))
    for origin, target in _ASSIGN.findall(line):
        if origin in dtypes:
            _note(dtypes, [target], dtypes[origin])
    if (alias := _ALIAS.match(line)) is not None and alias[1] not in dtypes:
        known = [dtypes[name] for name in _WORD.findall(alias[2]) if name in dtypes]
        if known:
            _note(dtypes, [alias[1]], known[0])


def _note(dtypes: dict[str, str], names: list[str], dtype: str) -> None:
    for name in names:
        dtypes[name] = dtypes[name.removesuffix("_handle")] = dtype
