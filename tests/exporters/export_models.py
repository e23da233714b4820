"""Models that exporters get wrong, or could."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor, nn


class SignBranch(nn.Module):
    """A branch on the values: a trace keeps the side that its example takes."""

    def __init__(self) -> None:
        super().__init__()
        self.warm, self.cold = nn.Linear(4, 8), nn.Linear(4, 8)

    def forward(self, x: Tensor) -> Tensor:
        if x.sum() > 0:
            return self.warm(x)
        return self.cold(x)


class RareBranch(SignBranch):
    """The other side is taken for values that no probe has."""

    def forward(self, x: Tensor) -> Tensor:
        if x.abs().max() > 1e6:
            return self.warm(x)
        return self.cold(x)


class UnscriptableRareBranch(SignBranch):
    """Tracing agrees with eager on all probes, scripting cannot take it."""

    def forward(self, x: Tensor) -> Tensor:
        layers = dict(self.named_children())
        return layers["warm" if x.abs().max() > 1e6 else "cold"](x)


class UnscriptableBranch(SignBranch):
    """Neither tracing nor scripting is right."""

    def forward(self, x: Tensor) -> Tensor:
        layers = dict(self.named_children())
        return layers["warm" if x.sum() > 0 else "cold"](x)


class LengthBranch(nn.Module):
    """A branch on a size."""

    def __init__(self) -> None:
        super().__init__()
        self.head = nn.Linear(3, 2)

    def forward(self, x: Tensor) -> Tensor:
        if x.size(1) > 10:
            return self.head(x.amax(1))
        return self.head(x.mean(1))


class FixedLength(nn.Module):
    """Works for the length 6 only, in a way that an export notices."""

    def __init__(self) -> None:
        super().__init__()
        self.head = nn.Linear(6, 2)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(x)


class Positions(nn.Module):
    """A table of 32 positions: longer inputs do not fit."""

    def __init__(self) -> None:
        super().__init__()
        self.table = nn.Parameter(torch.randn(32, 3))

    def forward(self, x: Tensor) -> Tensor:
        return (x + self.table[: x.size(1)]).mean(1)


class Pair(NamedTuple):
    mean: Tensor
    doubled: Tensor


@dataclass
class Record:
    doubled: Tensor
    mean: Tensor


class Shaped(nn.Module):
    """Returns two outputs in any of the ways that modules do."""

    def __init__(self, kind: str) -> None:
        super().__init__()
        self.kind = kind
        self.body = nn.Linear(4, 4)

    def forward(self, x: Tensor):  # type: ignore[no-untyped-def]
        y = self.body(x)
        if self.kind == "dict":
            return {"doubled": 2 * y, "mean": y.mean(1)}
        if self.kind == "named tuple":
            return Pair(y.mean(1), 2 * y)
        if self.kind == "dataclass":
            return Record(doubled=2 * y, mean=y.mean(1))
        return (y.mean(1), 2 * y)


class Passing(nn.Module):
    """One output is an input, under its name; another input is not used."""

    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Linear(4, 4)

    def forward(self, x: Tensor, spare: Tensor) -> dict[str, Tensor]:
        return {"x": x, "y": self.body(x)}


class Overwriting(nn.Module):
    """Writes into its input."""

    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Linear(4, 4)

    def forward(self, x: Tensor) -> Tensor:
        x.mul_(2)
        return self.body(x)


class Linear(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Linear(4, 3)

    def forward(self, x: Tensor) -> Tensor:
        return torch.relu(self.body(x))
