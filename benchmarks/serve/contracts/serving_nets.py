"""The models that are served, built from code: nothing is downloaded."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

MEAN = (0.485, 0.456, 0.406)
DEVIATION = (0.229, 0.224, 0.225)
"""Of the red, green and blue of photographs, as those who train ResNet-50 take them out."""


class Iris(nn.Module):
    """Four lengths in centimetres [batch, 4] to probabilities [batch, 3]."""

    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Sequential(nn.Linear(4, 16), nn.ReLU(), nn.Linear(16, 16), nn.ReLU(), nn.Linear(16, 3))

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        return torch.softmax(self.body(features), dim=1)


def iris() -> nn.Module:
    """403 parameters."""
    torch.manual_seed(0)
    return Iris().eval()


class Normalised(nn.Module):
    """Normalised pictures [batch, 3, 224, 224] to scores [batch, 1000]."""

    def __init__(self, net: nn.Module) -> None:
        super().__init__()
        self.net = net

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        logits: torch.Tensor = self.net(pixel_values=image).logits
        return logits


class Pixels(nn.Module):
    """Pictures [batch, 3, 224, 224] of 0..255 to scores [batch, 1000]: the graph casts and normalises."""

    mean: torch.Tensor
    deviation: torch.Tensor

    def __init__(self, net: nn.Module) -> None:
        super().__init__()
        self.net = net
        self.register_buffer("mean", torch.tensor(MEAN).reshape(1, 3, 1, 1), persistent=False)
        self.register_buffer("deviation", torch.tensor(DEVIATION).reshape(1, 3, 1, 1), persistent=False)

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        scaled = (image.float() / 255 - self.mean) / self.deviation
        logits: torch.Tensor = self.net(pixel_values=scaled).logits
        return logits


def resnet50() -> nn.Module:
    """25.6 M parameters."""
    return Normalised(_resnet50()).eval()


def resnet50_pixels() -> nn.Module:
    """The same, with the same weights, for pictures as a decoder gives them."""
    return Pixels(_resnet50()).eval()


def _resnet50() -> Any:
    import transformers

    torch.manual_seed(0)
    return transformers.ResNetForImageClassification(transformers.ResNetConfig(num_labels=1000))
