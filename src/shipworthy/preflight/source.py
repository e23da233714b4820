"""The user's source of a model's layers."""

from __future__ import annotations

import ast
import inspect
import textwrap
from collections.abc import Iterator
from types import FunctionType

from torch import nn

from ..usercode import is_user_file


def user_classes(module: nn.Module) -> Iterator[tuple[str, type[nn.Module]]]:
    """The layers' classes that the user wrote, each once, with the path of the first layer of it."""
    seen: set[type] = set()
    for path, layer in module.named_modules():
        for kind in type(layer).__mro__:
            if kind not in seen and any(is_user_file(f.__code__.co_filename) for f in methods(kind)):
                seen.add(kind)
                yield path, kind


def methods(kind: type) -> list[FunctionType]:
    return [value for value in vars(kind).values() if isinstance(value, FunctionType)]


def forward_nodes(kind: type[nn.Module]) -> Iterator[tuple[ast.AST, str, int]]:
    """Every node of the methods but __init__, with its file and line; nothing where the source is gone."""
    for method in methods(kind):
        if method.__name__ == "__init__":
            continue
        try:
            lines, start = inspect.getsourcelines(method)
            tree = ast.parse(textwrap.dedent("".join(lines)))
        except (OSError, TypeError, SyntaxError):
            continue
        for node in ast.walk(tree):
            if isinstance(node, ast.expr | ast.stmt):
                yield node, method.__code__.co_filename, start + node.lineno - 1
