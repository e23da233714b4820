"""Pydantic's errors, said in the contract's words: where, what was expected, what was given, what was meant."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from pydantic import ValidationError
from pydantic_core import ErrorDetails

from ..errors import ContractError
from .crosscheck import ContradictionError
from .faults import Fault, KeyPath, nearest, quoted
from .settings import Node, node_at, sections_of
from .write import show

_EXPECTED: dict[str, Callable[[Mapping[str, Any]], str]] = {
    "string_type": lambda ctx: "a text in quotes",
    "int_type": lambda ctx: "a whole number",
    "float_type": lambda ctx: "a number",
    "finite_number": lambda ctx: "a finite number",
    "tuple_type": lambda ctx: "a list",
    "dict_type": lambda ctx: "a table",
    "model_type": lambda ctx: "a table",
    "model_attributes_type": lambda ctx: "a table",
    "greater_than": lambda ctx: f"a number above {ctx['gt']:g}",
    "greater_than_equal": lambda ctx: f"a number of at least {ctx['ge']:g}",
    "less_than": lambda ctx: f"a number below {ctx['lt']:g}",
    "less_than_equal": lambda ctx: f"a number of at most {ctx['le']:g}",
    "too_short": lambda ctx: f"at least {ctx['min_length']} of them",
    "too_long": lambda ctx: f"at most {ctx['max_length']} of them",
    "literal_error": lambda ctx: quoted(_words(ctx["expected"])),
    "union_tag_invalid": lambda ctx: f"kind = {quoted(_words(ctx['expected_tags']))}",
}
_PATTERNS = {
    "name": 'lower-case letters, digits, ".", "_" and "-", starting with a letter or digit, at most 63',
    "budget": 'a time such as "90s", "10min" or "1.5h"',
}


def refusal(error: ValidationError, source: str, lines: Callable[[KeyPath], int | None] | None = None) -> ContractError:
    """All faults of a contract as one error."""
    return refuse([fault for item in _leaves(error) for fault in _faults(item)], source, lines)


def refuse(faults: Sequence[Fault], source: str, lines: Callable[[KeyPath], int | None] | None = None) -> ContractError:
    """The first fault in the order of the file is the error; the others stand below it, one a line."""
    placed = [(lines(fault.path) if lines else None, fault) for fault in faults]
    placed.sort(key=lambda pair: pair[0] or 0)
    culprits = [_culprit(source, line, fault) for line, fault in placed]
    first = placed[0][1]
    more = [
        f"\n{culprit}: {fault.reason}" + (f"; {fault.remedy}" if fault.remedy else "")
        for culprit, (_, fault) in zip(culprits[1:], placed[1:], strict=True)
    ]
    if first.remedy:
        return ContractError(culprits[0], first.reason, first.remedy + "".join(more))
    return ContractError(culprits[0], first.reason + "".join(more))


def _culprit(source: str, line: int | None, fault: Fault) -> str:
    place = source if line is None else f"{source}:{line}"
    return f"{place}: {fault.key}" if fault.path else place


def _leaves(error: ValidationError) -> Iterator[ErrorDetails]:
    """The errors without those that only follow from another one below them."""
    items = error.errors(include_url=False)
    for item in items:
        below = any(other["loc"][: len(item["loc"])] == item["loc"] and other is not item for other in items)
        if not (item["type"] == "too_short" and below):
            yield item


def _faults(item: ErrorDetails) -> Iterator[Fault]:
    context = item.get("ctx", {})
    if isinstance(cause := context.get("error"), ContradictionError):
        yield from cause.faults
        return
    node = node_at(item["loc"])
    kind, given = item["type"], item["input"]
    if kind == "extra_forbidden":
        yield _unknown(node)
    elif kind == "missing":
        yield _missing(node)
    elif kind == "union_tag_not_found":
        yield Fault(node.path, "does not say its kind", 'add kind = "text" or kind = "record"')
    elif kind == "value_error":
        yield Fault(node.path, str(cause))
    elif kind == "string_pattern_mismatch":
        yield _pattern(node, str(given))
    elif kind in _EXPECTED:
        yield _misfit(node, _EXPECTED[kind](context), kind, given, context)
    else:
        yield Fault(node.path, f"{item['msg']}, got {show(given)}")


def _misfit(node: Node, expected: str, kind: str, given: object, context: Mapping[str, Any]) -> Fault:
    remedy = ""
    if kind == "union_tag_invalid":
        given = context["tag"]
    if kind in ("literal_error", "union_tag_invalid") and isinstance(given, str):
        near = nearest(given, _words(context.get("expected") or context["expected_tags"]))
        remedy = f'write "{near}"' if near else ""
    elif kind == "string_type" and isinstance(given, int | float):
        remedy = f'write "{show(given)}"'
    elif kind in ("int_type", "float_type") and isinstance(given, str) and re.fullmatch(r"-?\d+(\.\d+)?", given):
        remedy = f"write {given} without quotes"
    elif kind == "tuple_type" and isinstance(given, str | int | float):
        remedy = f"write [{show(given)}]"
    return Fault(node.path, f"expected {expected}, got {show(given)}", remedy)


def _pattern(node: Node, given: str) -> Fault:
    key = str(node.path[-1])
    remedy = ""
    if key == "name" and (slug := re.sub(r"[^a-z0-9._-]+", "-", given.lower()).strip("-._")[:63]):
        remedy = f'write "{slug}"'
    return Fault(node.path, f"expected {_PATTERNS[key]}, got {show(given)}", remedy)


def _unknown(node: Node) -> Fault:
    word = str(node.path[-1])
    sections = [section for section in sections_of(word) if section != node.path[:-1]]
    if near := nearest(word, node.siblings):
        return Fault(node.path, f'there is no key "{word}" here', f'write "{near}"')
    if sections:
        where = ".".join(map(str, sections[0]))
        remedy = f"move it into [{where}]" if where else "move it to the top, above the first [table]"
        return Fault(node.path, f'there is no key "{word}" here', remedy)
    return Fault(node.path, f'there is no key "{word}" here; the keys are {quoted(node.siblings, "and")}')


def _missing(node: Node) -> Fault:
    remedies = {
        "inputs": "add [inputs.NAME] with dtype and shape, or let `shipworthy init` write the contract",
        "name": 'add name = "my-model"',
        "dtype": 'add dtype = "float32"',
        "shape": 'add shape = ["batch", ...]',
        "size": "add size = [height, width]",
        "tokenizer": 'add tokenizer = "tokenizer.json"',
        "fields": 'add fields = ["first", "second", ...]',
    }
    return Fault(node.path, "is missing", remedies.get(str(node.path[-1]), "add it"))


def _words(listed: str) -> list[str]:
    """The words of pydantic's "'a', 'b' or 'c'"."""
    return re.findall(r"'([^']*)'", listed)
