"""Every setting of a contract: its key, its type, its default and what it says; read from the models themselves."""

from __future__ import annotations

import ast
import functools
import inspect
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from types import NoneType, UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin

from annotated_types import Ge, Gt, Le, Lt
from pydantic import BaseModel
from pydantic.fields import FieldInfo

from . import spec, tensors
from .faults import KeyPath
from .tensors import Dim

NAMED = "NAME"
"""Stands in a key for a name that the contract's author chooses."""


@dataclass(frozen=True, slots=True)
class Setting:
    """One key that a contract may have."""

    path: KeyPath
    type: str
    """Such as `text`, `whole number > 0`, `"cpu" or "cuda"`, `list of numbers`."""
    default: object
    """`...` where there is none: the key is required."""
    doc: str

    @property
    def key(self) -> str:
        return ".".join(map(str, self.path))


@dataclass(frozen=True, slots=True)
class Node:
    """A place in a contract: its path as the author wrote it, and the keys that may stand beside it."""

    path: KeyPath
    siblings: tuple[str, ...]


@functools.cache
def settings() -> tuple[Setting, ...]:
    """All settings in the order of the file. A kind of encoder is written `encode.NAME (text)`."""
    return tuple(_settings(spec.Contract, ()))


def summary(path: KeyPath) -> str:
    """What the table at `path`, as in a setting's path, is for: the first paragraph of its model's docstring."""
    node: Any = spec.Contract
    for part in path:
        if part == NAMED:
            continue
        word, _, tag = str(part).partition(" (")
        if word != NAMED:
            node = _bare(_child(node, word)[1])
            node = _bare(get_args(node)[1]) if get_origin(node) is dict else node
        if isinstance(node, tuple) and tag:
            node = next(member for member in node if tag.rstrip(")") in _tags(member))
    return " ".join(documentation(node)[""].split())


def sections_of(key: str) -> list[KeyPath]:
    """The tables in which `key` is a setting."""
    return [setting.path[:-1] for setting in settings() if setting.path[-1] == key and NAMED not in setting.path]


def node_at(loc: Sequence[str | int]) -> Node:
    """The place that pydantic calls `loc`, without the tags of unions that stand in it."""
    path: list[str | int] = []
    siblings: tuple[str, ...] = ()
    annotation: Any = spec.Contract
    for part in loc:
        annotation = _bare(annotation)
        if isinstance(annotation, tuple):
            annotation = next((member for member in annotation if part in _tags(member)), None)
        elif part != "[key]":
            path.append(part)
            siblings, annotation = _child(annotation, part)
    return Node(tuple(path), siblings)


def _child(annotation: Any, part: str | int) -> tuple[tuple[str, ...], Any]:
    if _is_model(annotation):
        fields = {name: field.annotation for name, field in _fields(annotation)}
        return tuple(fields), fields.get(str(part))
    if get_origin(annotation) is dict:
        return (), get_args(annotation)[1]
    return (), next(iter(get_args(annotation)), None)


def _bare(annotation: Any) -> Any:
    """Without Annotated and None; a tuple of models for a union of models."""
    if get_origin(annotation) is Annotated:
        return _bare(get_args(annotation)[0])
    if get_origin(annotation) in (Union, UnionType):
        members = tuple(member for member in get_args(annotation) if member is not NoneType)
        return _bare(members[0]) if len(members) == 1 else members
    return annotation


def _is_model(annotation: Any) -> bool:
    return isinstance(annotation, type) and issubclass(annotation, BaseModel)


def _tags(model: type[BaseModel]) -> tuple[str, ...]:
    return get_args(model.model_fields["kind"].annotation)


def _fields(model: type[BaseModel]) -> Iterator[tuple[str, FieldInfo]]:
    yield from ((name, field) for name, field in model.model_fields.items() if not field.exclude)


def _settings(model: type[BaseModel], path: KeyPath) -> Iterator[Setting]:
    for name, field in _fields(model):
        inner = _bare(field.annotation)
        here: KeyPath = (*path, name)
        if get_origin(inner) is dict:
            inner, here = _bare(get_args(inner)[1]), (*here, NAMED)
        if isinstance(inner, tuple) and all(map(_is_model, inner)):
            for member in inner:
                yield from _settings(member, (*here[:-1], f"{here[-1]} ({_tags(member)[0]})"))
        elif _is_model(inner):
            yield from _settings(inner, here)
        else:
            default = ... if field.is_required() else field.default
            yield Setting(here, _type(field.annotation, field.metadata), default, documentation(model)[name])


@functools.cache
def documentation(model: type[BaseModel]) -> dict[str, str]:
    """The docstring under each field of a model, its bases' included; the key "" has the model's own."""
    docs: dict[str, str] = {}
    for owner in reversed(model.__mro__):
        if owner.__module__.startswith(__package__ or "") and owner is not tensors.Strict:
            body = ast.parse(inspect.getsource(owner)).body[0]
            assert isinstance(body, ast.ClassDef)
            docs |= _docstrings(body)
    return docs


def _docstrings(body: ast.ClassDef) -> dict[str, str]:
    docs = {"": inspect.cleandoc(ast.get_docstring(body) or "")}
    for statement, following in zip(body.body, body.body[1:], strict=False):
        if isinstance(statement, ast.AnnAssign) and isinstance(statement.target, ast.Name):
            text = following.value if isinstance(following, ast.Expr) else None
            if isinstance(text, ast.Constant) and isinstance(text.value, str):
                docs[statement.target.id] = " ".join(text.value.split())
    return docs


def _type(annotation: Any, metadata: Sequence[Any] = ()) -> str:
    if get_origin(annotation) is Annotated:
        inner, *more = get_args(annotation)
        return _type(inner, [*metadata, *more])
    if get_origin(annotation) in (Union, UnionType):
        members = [member for member in get_args(annotation) if member is not NoneType]
        if Dim in members:
            return "number or name"
        return " or ".join(_type(member, metadata) for member in members)
    if get_origin(annotation) is Literal:
        return " or ".join(f'"{word}"' for word in get_args(annotation))
    if get_origin(annotation) is tuple:
        inner, *rest = get_args(annotation)
        return f"list of {len(rest) + 1}: {_type(inner)}" if rest != [...] else f"list of: {_type(inner)}"
    words: dict[Any, str] = {str: "text", int: "whole number", float: "number"}
    return words[annotation] + _bounds(metadata)


def _bounds(metadata: Sequence[Any]) -> str:
    flat = [item for entry in metadata for item in (getattr(entry, "metadata", None) or [entry])]
    signs = {Gt: (">", "gt"), Ge: ("≥", "ge"), Lt: ("<", "lt"), Le: ("≤", "le")}
    bounds = [
        (sign, getattr(item, name)) for kind, (sign, name) in signs.items() for item in flat if type(item) is kind
    ]
    shown = [f"{sign} {bound:g}" for sign, bound in bounds if bound < 2**31]
    return f" {', '.join(shown)}" if shown else ""
