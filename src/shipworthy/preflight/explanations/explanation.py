"""What an explanation is, and how a message is recognised."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from re import Match


@dataclass(frozen=True, slots=True)
class Explanation:
    """Why an exception was raised, and what can be done about it."""

    kind: str
    """dtype, index, device, memory, weights, pickle, shape, mode, gradient, branch, size, export, call, shipworthy,
    or unknown."""
    cause: str
    remedy: str
    evidence: tuple[str, ...] = ()
    """What it was read from: the message itself, the line of the user's code, the layer."""

    def __str__(self) -> str:
        return "\n".join([self.cause, f"remedy: {self.remedy}", *(f"  {line}" for line in self.evidence)])


@dataclass(frozen=True, slots=True)
class Case:
    """A message that is known: its pattern, and what a match of it says (cause, remedy)."""

    kind: str
    pattern: re.Pattern[str]
    tell: Callable[[Match[str]], tuple[str, str]]


def case(kind: str, pattern: str, tell: Callable[[Match[str]], tuple[str, str]]) -> Case:
    return Case(kind, re.compile(pattern, re.DOTALL), tell)


def fixed(cause: str, remedy: str) -> Callable[[Match[str]], tuple[str, str]]:
    """What is said is the same for every match."""
    return lambda match: (cause, remedy)
