"""What is watched of a model: one number for each answer, or for what was asked."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, Protocol, TypeAlias

from ..contract import Array, Arrays

Kind: TypeAlias = Literal["number", "class", "share"]
"""A continuous number; the index of a class; 0 or 1, of which the mean is a share."""
About: TypeAlias = Literal["answers", "inputs"]


@dataclass(frozen=True, slots=True)
class Signal:
    """One column of what is computed for a row."""

    name: str
    """Such as `margin`, `class`, `image.mean`, `record.width`."""
    kind: Kind
    about: About
    title: str
    """In words, for a person: `brightness of image`."""
    unit: str = ""
    """Of its numbers; empty where they have none."""
    scored: bool = True
    """Whether the sequential detector bets on it; the windowed test takes all."""
    classes: tuple[str, ...] = ()
    """Names, where it is a class."""


class Part(Protocol):
    """Signals that are computed together."""

    @property
    def signals(self) -> tuple[Signal, ...]: ...

    def of(self, feeds: Arrays, outputs: Arrays) -> Array:
        """float64 [n, signals] of n rows. What is not finite is taken as missing by the caller."""
        ...
