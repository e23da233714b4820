"""Small nets, each with something that makes removing channels hard."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from shipworthy.contract import Contract


def contract_for(shape: list[Any], **more: Any) -> Contract:
    inputs = {"x": {"dtype": "float32", "shape": ["batch", *shape]}}
    return Contract.model_validate({"name": "net", "inputs": inputs, **more})


class Mixed(nn.Module):
    """Depthwise, grouped and transposed convolutions, group normalisation, a residual sum, a concatenation."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 16, 3, padding=1)
        self.wide = nn.Conv2d(16, 40, 1)
        self.depth = nn.Conv2d(40, 40, 3, padding=1, groups=40)
        self.norm = nn.BatchNorm2d(40)
        self.back = nn.Conv2d(40, 16, 1)
        self.grouped = nn.Conv2d(16, 16, 3, groups=4, padding=1)
        self.grouped_norm = nn.GroupNorm(4, 16)
        self.side = nn.Conv2d(16, 8, 1)
        self.up = nn.ConvTranspose2d(24, 12, 2, 2)
        self.head = nn.Linear(12, 5)

    def forward(self, x: Tensor) -> Tensor:
        x = torch.relu(self.stem(x))
        x = x + self.back(torch.relu(self.norm(self.depth(torch.relu(self.wide(x))))))
        both = torch.cat([torch.relu(self.grouped_norm(self.grouped(x))), self.side(x)], 1)
        return self.head(torch.relu(self.up(both)).mean((2, 3)))


class Attention(nn.Module):
    """Heads that are cut out of the width; `told` has their number fixed, else it follows from the width."""

    def __init__(self, width: int = 32, heads: int = 4, *, told: bool = False) -> None:
        super().__init__()
        self.query, self.key, self.value, self.out = (nn.Linear(width, width) for _ in range(4))
        self.num_heads, self.head_size, self.told = heads, width // heads, told

    def forward(self, x: Tensor) -> Tensor:
        batch, tokens, _ = x.shape
        shape = (batch, tokens, self.num_heads if self.told else -1, self.head_size)
        query, key, value = (f(x).view(shape).transpose(1, 2) for f in (self.query, self.key, self.value))
        found = nn.functional.scaled_dot_product_attention(query, key, value)
        return self.out(found.transpose(1, 2).reshape(batch, tokens, -1))


class Words(nn.Module):
    """One transformer layer over [batch, tokens, 8]."""

    def __init__(self, *, told: bool = False) -> None:
        super().__init__()
        self.embed = nn.Linear(8, 32)
        self.attention = Attention(told=told)
        self.norm = nn.LayerNorm(32)
        self.inner, self.outer = nn.Linear(32, 64), nn.Linear(64, 32)
        self.head = nn.Linear(32, 3)

    def forward(self, x: Tensor) -> Tensor:
        x = self.embed(x)
        x = self.norm(x + self.attention(x))
        x = x + self.outer(torch.relu(self.inner(x)))
        return self.head(x.mean(1))


class Encoder(nn.Module):
    """torch's own encoder layer, whose heads share the width."""

    def __init__(self) -> None:
        super().__init__()
        self.embed = nn.Linear(8, 16)
        self.layer = nn.TransformerEncoderLayer(16, 4, 32, batch_first=True)
        self.head = nn.Linear(16, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.layer(self.embed(x)).mean(1))


class FixedView(nn.Module):
    """A width that is written into forward."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Conv2d(3, 16, 3, padding=1)
        self.second = nn.Conv2d(16, 16, 3, padding=1)
        self.head = nn.Linear(16 * 64, 5)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(torch.relu(self.second(torch.relu(self.first(x)))).view(-1, 16 * 64))


class Classes(nn.Module):
    """An answer without a gradient, from which nothing can be traced."""

    def __init__(self) -> None:
        super().__init__()
        self.body, self.head = nn.Linear(8, 16), nn.Linear(16, 4)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(torch.relu(self.body(x))).argmax(-1)


class Plain(nn.Module):
    """Two hidden layers over [batch, 8]."""

    def __init__(self, first: int = 16, second: int = 16) -> None:
        super().__init__()
        self.first, self.second, self.head = nn.Linear(8, first), nn.Linear(first, second), nn.Linear(second, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(torch.relu(self.second(torch.relu(self.first(x)))))
