"""Reading a contract: from a file, or from a mapping of the same keys."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Callable, Iterator, Mapping
from os import PathLike
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from ..errors import ContractError
from .faults import Fault, KeyPath, nearest
from .positions import Positions
from .refusal import refusal, refuse
from .spec import Contract

FILE_NAME = "shipworthy.toml"

_WHERE = re.compile(r" \(at (?:line (\d+), column (\d+)|end of document)\)$")
_REMEDIES = (
    ("Invalid value", 'texts stand in quotes, and every key has a value: key = "value"'),
    ("Expected '=' after a key", "write key = value"),
    ("Expected newline or end of document", "one key = value a line; quote texts, and lists stand in [ ]"),
    ("Cannot overwrite a value", "the key stands twice; remove one of them"),
    ("Duplicate inline table key", "the key stands twice; remove one of them"),
    ("Cannot declare", "the [table] stands twice; put its keys under one header"),
    ("Cannot mutate immutable namespace", "an inline table { } is whole; add the key inside its braces"),
    ("Cannot redefine namespace", "the key is already a table; put the new keys under its header"),
    ("Unclosed array", "close the list with ]"),
    ("Unclosed inline table", "close the inline table with } on the same line"),
    ("Unterminated string", "close the text with the quote that it began with"),
    ("Expected", "close the bracket or the quote that was opened"),
    ("Illegal character", "close the quote on the same line; write \\n for a line break inside a text"),
    ("Unescaped '\\'", "write \\\\ for a backslash, or put the text into single quotes"),
    ("Invalid initial character for a key part", "keys are letters, digits, _ and -; others stand in quotes"),
    ("Invalid statement", "write key = value, [table] or # comment"),
)


def read_contract(path: str | PathLike[str]) -> Contract:
    """Read a `shipworthy.toml`. The contract's root is the folder that it is in.

    Raises ContractError with the file, the line and the key of everything that is wrong."""
    file = Path(path)
    text = _text(file)
    try:
        mapping = tomllib.loads(text)
        positions = Positions(text)
    except RecursionError:
        raise ContractError(
            str(file), "lists or tables are nested too deeply", "a contract has at most 4 levels"
        ) from None
    except ValueError as error:
        raise _syntax(file, text, error) from None
    return parse_contract(mapping, str(file), file.absolute().parent, lines=positions.line)


def parse_contract(
    mapping: Mapping[str, Any],
    source: str = "contract",
    root: Path = Path(),
    *,
    lines: Callable[[KeyPath], int | None] | None = None,
) -> Contract:
    """Make a contract of a mapping with the keys of `shipworthy.toml`.

    `source` is the name that errors give it, `root` the folder that its paths start from, `lines` tells the line
    of a key where there is a file. Raises ContractError that names all that is wrong."""
    if not isinstance(mapping, Mapping):
        raise ContractError(source, f"expected a table of settings, got {type(mapping).__name__}")
    parts = dict(mapping)
    if "root" in parts:
        fault = Fault(("root",), 'there is no key "root" here', "paths start from the contract's own folder; remove it")
        raise refuse([fault], source, lines)
    try:
        contract = Contract.model_validate({**parts, "root": root})
    except ValidationError as error:
        raise refusal(error, source, lines) from None
    if missing := list(_missing_assets(contract)):
        raise refuse(missing, source, lines)
    return contract


def _missing_assets(contract: Contract) -> Iterator[Fault]:
    for name, encode in contract.encode.items():
        if encode.kind == "text" and not contract.path(encode.tokenizer).is_file():
            folder = contract.path(encode.tokenizer).parent
            near = nearest(Path(encode.tokenizer).name, [entry.name for entry in folder.glob("*.json")])
            remedy = f'there is "{near}"' if near else "save it with tokenizer.save(...) of the tokenizers library"
            path = ("encode", name, "tokenizer")
            yield Fault(path, f'there is no file "{encode.tokenizer}" in {contract.root.absolute()}', remedy)


def _text(file: Path) -> str:
    try:
        return file.read_text(encoding="utf-8-sig")
    except FileNotFoundError:
        raise ContractError(str(file), "there is no such file", _instead_of(file)) from None
    except IsADirectoryError:
        inner = file / FILE_NAME
        remedy = f"name the file in it: {inner}" if inner.is_file() else "name the contract's file"
        raise ContractError(str(file), "is a folder", remedy) from None
    except UnicodeDecodeError as error:
        reason = f"is not UTF-8 text (byte {error.start})"
        raise ContractError(str(file), reason, "save it as UTF-8; a contract is a TOML file") from None
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
        raise ContractError(str(file), f"cannot be read: {reason}", "check the path and its permissions") from None


def _instead_of(file: Path) -> str:
    if file.parent.is_dir():
        near = nearest(file.name, sorted(entry.name for entry in file.parent.glob("*.toml")))
        if near is not None:
            return f"there is {file.parent / near}"
    return "`shipworthy init` writes one"


def _syntax(file: Path, text: str, error: ValueError) -> ContractError:
    message = str(error)
    place = _WHERE.search(message)
    reason = _WHERE.sub("", message)
    if place is None:
        return ContractError(str(file), f"is not TOML: {reason}")
    line, column = place.groups()
    if line is None:
        line, column = str(text.count("\n") + 1), str(len(text.rpartition("\n")[2]) + 1)
    remedy = next((remedy for start, remedy in _REMEDIES if reason.startswith(start)), "")
    return ContractError(f"{file}:{line}:{column}", f"is not TOML: {reason}", remedy)
