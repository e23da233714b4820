"""A request for an inference as both transports give it, and the rules that are the same for both."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ...contract import Array
from ...encode.faults import brief
from ..problems import TOO_LARGE, ProblemError
from .datatypes import malformed

MAX_DIMS = 32
MAX_TIMEOUT_US = 3_600_000_000
MAX_ID = 1024
"""Characters of a request's id, which comes back with the answer."""
_MAX_SPAN = 2**40
"""An array without elements has sizes too; NumPy refuses those whose product does not fit."""


@dataclass(slots=True)
class Tensor:
    """A tensor that was sent: its name, and its elements [..]."""

    name: str
    array: Array


@dataclass(frozen=True, slots=True)
class Asked:
    """An output that is asked for."""

    name: str
    binary: bool
    """As bytes behind the JSON, not in it. gRPC has no such choice."""
    classes: int = 0
    """The best so many classes of each row instead of the scores (classification extension); 0 for the scores."""


@dataclass(slots=True)
class InferRequest:
    """What is asked of a model."""

    id: str
    tensors: list[Tensor]
    asked: list[Asked] | None
    """None for all outputs."""
    binary: bool
    """Whether outputs that are not named come as bytes."""
    timeout_s: float | None = None


def check_shape(name: str, shape: Sequence[object]) -> int:
    """The number of elements of a shape. ProblemError where it is none."""
    if len(shape) > MAX_DIMS:
        raise malformed(f"{name}: a shape may have {MAX_DIMS} dimensions, got {len(shape)}")
    count = 1
    for size in shape:
        if type(size) is not int or not 0 <= size < 2**31:
            raise malformed(f"{name}: a shape is a list of whole numbers from 0 to {2**31 - 1}")
        count *= size
    if not count and math.prod(size for size in shape if isinstance(size, int) and size) > _MAX_SPAN:
        raise malformed(f"{name}: the shape is too large")
    return count


def check_elements(name: str, count: int, most: int) -> None:
    """A BYTES tensor has an element for each row, and so many rows may be sent at once."""
    if count > most:
        raise ProblemError(TOO_LARGE, f"{name}: a request may have {most} rows, got {count}")


def check_new(name: object, seen: set[str], what: str) -> str:
    """The name of a tensor, which must be none of those seen before."""
    if not isinstance(name, str) or not name:
        raise malformed(f"every {what} needs a name")
    if name in seen:
        raise malformed(f"{what} {brief(name)} is named twice")
    seen.add(name)
    return name


def check_id(given: object) -> str:
    if not isinstance(given, str) or len(given) > MAX_ID:
        raise malformed(f"id: expected a string of at most {MAX_ID} characters")
    return given


def timeout_of(parameters: Mapping[str, Any]) -> float | None:
    """Seconds of the parameter `timeout` (microseconds; 0 for none). Other parameters are ignored, as the protocol
    allows, but for those without which the answer would be another: sequences have a state, which no model has here."""
    if parameters.get("sequence_id") not in (None, 0, ""):
        raise malformed("sequence_id: the models have no state; send every request by itself")
    priority = parameters.get("priority", 0)
    if type(priority) is not int or priority < 0:
        raise malformed("priority: expected a whole number from 0")
    given = parameters.get("timeout", 0)
    if type(given) is not int or not 0 <= given <= MAX_TIMEOUT_US:
        raise malformed(f"timeout: expected microseconds from 0 to {MAX_TIMEOUT_US}")
    return given / 1e6 if given else None


def classes_of(name: str, parameters: Mapping[str, Any]) -> int:
    """The parameter `classification` of an output; 0 where it is not given."""
    given = parameters.get("classification", 0)
    if type(given) is not int or given < 0:
        raise malformed(f"{brief(name)}: classification: expected the number of classes")
    return given


def refuse_shared_memory(name: str, parameters: Mapping[str, Any]) -> None:
    """A client must not name memory of the server's machine."""
    if any(key.startswith("shared_memory_") for key in parameters):
        raise malformed(f"{brief(name)}: shared memory is not supported; send the data")
