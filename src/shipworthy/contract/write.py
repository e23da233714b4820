"""A contract as TOML that people read: a table for each part, defaults left out."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from datetime import date, datetime, time
from typing import Any

from .faults import KeyPath
from .spec import Contract

_BARE = re.compile(r"[A-Za-z0-9_-]+")
_WIDTH = 110


def contract_toml(contract: Contract, comments: Mapping[KeyPath, str] | None = None) -> str:
    """The contract's text. `parse_contract(tomllib.loads(text))` gives an equal contract.

    `comments` are written above the key or table that they are for."""
    body = contract.model_dump(mode="json", exclude_defaults=True)
    return "\n".join(_table(body, (), comments or {})).strip() + "\n"


def _table(body: Mapping[str, Any], path: KeyPath, comments: Mapping[KeyPath, str]) -> Iterator[str]:
    # Values first: in TOML a key below a [header] belongs to that header.
    tables = {key: value for key, value in body.items() if _has_header(value, path)}
    for key, value in body.items():
        if key not in tables:
            yield from _comment(comments.get((*path, key)))
            yield f"{_key(key)} = {_wrapped(_key(key), value)}"
    for key, value in tables.items():
        here = (*path, key)
        if any(not _has_header(inner, here) for inner in value.values()):
            yield ""
            yield from _comment(comments.get(here))
            yield f"[{'.'.join(_key(str(part)) for part in here)}]"
        yield from _table(value, here, comments)


def _has_header(value: object, path: KeyPath) -> bool:
    """A table of its own down to [inputs.image]; below that, one line reads better."""
    return isinstance(value, dict) and bool(value) and len(path) < 2


def _comment(text: str | None) -> Iterator[str]:
    yield from (f"# {line}" for line in (text or "").splitlines())


def _wrapped(key: str, value: object) -> str:
    line = inline(value)
    if len(key) + len(line) + 3 <= _WIDTH or not isinstance(value, list):
        return line
    rows, row = [], ""
    for item in map(inline, value):
        if row and len(row) + len(item) > _WIDTH:
            rows.append(row)
            row = ""
        row += f"{item}, "
    return "[\n" + "".join(f"    {row.rstrip()}\n" for row in [*rows, row]) + "]"


def inline(value: object) -> str:
    """A value on one line, as TOML."""
    if isinstance(value, Mapping):
        pairs = (f"{_key(str(key))} = {inline(inner)}" for key, inner in value.items())
        return f"{{ {', '.join(pairs)} }}" if value else "{}"
    if isinstance(value, list | tuple):
        return f"[{', '.join(map(inline, value))}]"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int):
        return str(value) if value.bit_length() < 1024 else hex(value)
    if isinstance(value, float):
        return repr(value)
    if isinstance(value, datetime | date | time):
        return value.isoformat()
    return _string(str(value))


def show(value: object) -> str:
    """A value as an error shows it: TOML, cut short."""
    if value is None:
        return "nothing"
    text = inline(value)
    return text if len(text) <= 80 else f"{text[:76]} ..."


def _key(key: str) -> str:
    return key if _BARE.fullmatch(key) else _string(key)


def _string(text: str) -> str:
    return json.dumps(text, ensure_ascii=False).replace("\x7f", "\\u007f")
