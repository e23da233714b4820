"""The two kinds of .pt2, an ExportedProgram and an AOTInductor package. Both are read from their JSON and source, so
that neither a pickle is loaded nor a library opened, and torch is not needed."""

from __future__ import annotations

import json
import re
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from ...contract import BATCH, Dim, TensorSpec
from ...errors import EngineError
from ..aoti_source import compiled_kernels, wrapper_source
from .description import SIGNATURE_KEY, Description, signature_of, spec, stored_signature

_SCALAR = {1: "uint8", 2: "int8", 3: "int16", 4: "int32", 5: "int64", 6: "float16", 7: "float32", 8: "float64"}
_SCALAR |= {12: "bool", 13: "bfloat16"}
"""torch's ScalarType numbers, as the schema of ExportedProgram (major version 8) writes them."""


def describe_aoti(path: Path) -> Description:
    """The shared library inside is not opened, because opening it runs code."""
    with zipfile.ZipFile(path) as archive:
        texts = [archive.read(name) for name in archive.namelist() if name.endswith("_metadata.json")]
    metadata: dict[str, str] = {}
    for text in texts:
        metadata |= json.loads(text)
    signature = stored_signature(metadata.get(SIGNATURE_KEY), path)
    lines = [f"{key}: {value}" for key, value in sorted(metadata.items()) if key != SIGNATURE_KEY]
    lines += [f"{k.count} x {k.op} ({k.precision})" for k in compiled_kernels(path)]
    notes = ["the compiled library was not opened; this is read from the source that it was compiled from"]
    if signature is None:
        names = re.findall(r'(inputs|outputs)_info_\[\d+\]\.name = "(\w+)"', wrapper_source(path))
        lines = [f"{kind[:-1]} {name}" for kind, name in names] + lines
        notes.append("it stores neither dtypes nor shapes of its inputs")
    return Description(signature, "AOTInductor package", "\n".join(lines), tuple(notes))


def describe_exported(path: Path) -> Description:
    with zipfile.ZipFile(path) as archive:
        names = archive.namelist()
        program = json.loads(archive.read(next(n for n in names if "/models/" in n and n.endswith(".json"))))
        extra = next((n for n in names if n.endswith(f"/extra/{SIGNATURE_KEY}")), None)
        stored = stored_signature(archive.read(extra).decode() if extra else None, path)
    try:
        graph = _Graph(program)
        text = "\n".join(graph.lines())
        signature = stored or graph.signature()
    except (KeyError, TypeError, StopIteration) as error:
        version = program.get("schema_version")
        raise EngineError(str(path), f"its schema {version} is not known here", "save it with another torch") from error
    return Description(signature, f"ExportedProgram, torch {program.get('torch_version', '?')}", text)


class _Graph:
    def __init__(self, program: dict[str, Any]) -> None:
        self._graph = program["graph_module"]["graph"]
        self._signature = program["graph_module"]["signature"]
        self._ranges = program["range_constraints"]
        self._values = self._graph["tensor_values"]
        self._batch = self._first_symbol()

    def signature(self) -> Any:
        return signature_of(
            {name: self._spec(name) for name in self._inputs()},
            {name: self._spec(name) for name in self._outputs()},
        )

    def _inputs(self) -> list[str]:
        specs = self._signature["input_specs"]
        return [s["user_input"]["arg"]["as_tensor"]["name"] for s in specs if "as_tensor" in _arg(s, "user_input")]

    def _outputs(self) -> list[str]:
        specs = self._signature["output_specs"]
        return [s["user_output"]["arg"]["as_tensor"]["name"] for s in specs if "as_tensor" in _arg(s, "user_output")]

    def _first_symbol(self) -> str | None:
        """The symbol of the inputs' first dimension, which is the batch."""
        for name in self._inputs():
            sizes = self._values[name]["sizes"]
            if sizes and (symbol := _symbol(sizes[0])) is not None:
                return symbol
        return None

    def _spec(self, name: str) -> TensorSpec | None:
        value = self._values[name]
        return spec(_SCALAR.get(value["dtype"], "?"), [self._size(size) for size in value["sizes"]])

    def _size(self, size: dict[str, Any]) -> int | Dim | None:
        if "as_int" in size:
            return int(size["as_int"])
        symbol = _symbol(size)
        if symbol is None:
            return None
        limits = self._ranges.get(symbol, {})
        return Dim(
            BATCH if symbol == self._batch else symbol, max(limits.get("min_val") or 1, 1), limits.get("max_val")
        )

    def _show(self, name: str) -> str:
        value = self._values.get(name)
        if value is None:
            return name
        sizes = ", ".join(str(s["as_int"]) if "as_int" in s else _symbol(s) or "?" for s in value["sizes"])
        return f"{name}: {_SCALAR.get(value['dtype'], '?')} [{sizes}]"

    def lines(self) -> Iterator[str]:
        """The graph as one assignment per line."""
        yield f"inputs {', '.join(map(self._show, self._inputs()))}"
        for node in self._graph["nodes"]:
            outputs = ", ".join(self._show(_shown(output)) for output in node["outputs"]) or "_"
            operands = ", ".join(_shown(operand["arg"]) for operand in node["inputs"])
            yield f"{outputs} = {node['target']}({operands})"
        yield f"return {', '.join(self._outputs())}"


def _arg(entry: dict[str, Any], kind: str) -> dict[str, Any]:
    found: dict[str, Any] = entry.get(kind, {}).get("arg", {})
    return found


def _symbol(size: dict[str, Any]) -> str | None:
    match = re.fullmatch(r"Symbol\('(\w+)'.*\)|(\w+)", size.get("as_expr", {}).get("expr_str", ""))
    return match and (match[1] or match[2])


def _shown(arg: dict[str, Any]) -> str:
    """An argument of the schema's union, such as {"as_tensor": {"name": ...}} or {"as_ints": [1, 1]}."""
    kind, value = next(iter(arg.items()))
    if kind == "as_none":
        return "None"
    if isinstance(value, dict):
        if kind == "as_graph":
            return str(value.get("name", "graph"))
        return str(value.get("name") or value.get("as_name") or _shown(value))
    if isinstance(value, list):
        return f"[{', '.join(_shown(v) if isinstance(v, dict) and len(v) == 1 else str(_name(v)) for v in value)}]"
    return str(value)


def _name(value: Any) -> Any:
    return value.get("name", value) if isinstance(value, dict) else value
