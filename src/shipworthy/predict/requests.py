"""The forms in which a caller may hand over instances: one, many, or a bare value."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from ..contract import Contract, TextEncode
from ..errors import InputError, Problem

MANY = "instances"


@dataclass(frozen=True, slots=True)
class Request:
    """Instances as the codec takes them, and whether the caller asked for many (which answers as a list)."""

    instances: Sequence[object]
    many: bool


def read_request(value: object, contract: Contract, fields: Sequence[str]) -> Request:
    """Tell the forms apart.

    * a mapping is one instance; `{"instances": [...]}` is many
    * a list of mappings is many
    * anything else is the value of the only field that can take it, where the model has one: one instance if it is
      nested as deep as the input (a text, an image's bytes, [4.9, 3.0]), many if it is one level deeper

    Raises InputError where the form is none of these, and where there is no instance."""
    request = _told_apart(value, contract, fields)
    if not request.instances:
        raise InputError([Problem(0, MANY, "there is none")])
    return request


def _told_apart(value: object, contract: Contract, fields: Sequence[str]) -> Request:
    if isinstance(value, Mapping):
        return _mapping(value, fields)
    if isinstance(value, list | tuple) and all(isinstance(item, Mapping) for item in value):
        return Request(value, many=True)
    field = _only_field(value, contract)
    if field is None:
        return Request([value], many=False)
    leaf, depth = _innermost(value)
    single = 0 if isinstance(leaf, str | bytes) else len(contract.inputs[next(iter(contract.inputs))].shape) - 1
    if depth == single + 1:
        items: Any = value
        return Request([{field: item} for item in items], many=True)
    return Request([{field: value}], many=False)


def _mapping(value: Mapping[Any, object], fields: Sequence[str]) -> Request:
    if MANY not in value or MANY in fields:
        return Request([value], many=False)
    others = sorted(str(key) for key in value if key != MANY)
    if others:
        raise InputError([Problem(0, others[0][:80], f"unknown field beside {MANY!r}")])
    instances = value[MANY]
    if not isinstance(instances, list | tuple):
        raise InputError([Problem(0, MANY, "expected a list of instances")])
    return Request(instances, many=True)


def _only_field(value: object, contract: Contract) -> str | None:
    """The field that a bare value is meant for."""
    texts = [name for name, encode in contract.encode.items() if isinstance(encode, TextEncode)]
    if isinstance(_innermost(value)[0], str) and len(texts) == 1:
        return texts[0]
    return next(iter(contract.inputs)) if len(contract.inputs) == 1 else None


def _innermost(value: object) -> tuple[object, int]:
    """The first item at the bottom of nested lists and arrays, and how deep it lies."""
    depth = 0
    while isinstance(value, list | tuple) and value:
        value, depth = value[0], depth + 1
    if isinstance(value, np.ndarray):
        return None, depth + value.ndim
    return (value, depth) if not isinstance(value, list | tuple) else (None, depth + 1)
