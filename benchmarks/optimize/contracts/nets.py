"""The models of the benchmark, built from code: nothing is downloaded. Each maps tensors to one tensor."""

from __future__ import annotations

import itertools
from typing import Any

import torch
from torch import nn


class Classifier(nn.Module):
    """A model of transformers that classifies pictures, with its logits as the only output."""

    def __init__(self, net: nn.Module) -> None:
        super().__init__()
        self.net = net

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        """Pictures [batch, 3, 224, 224] to scores [batch, classes]."""
        logits: torch.Tensor = self.net(pixel_values=image).logits
        return logits


class Encoder(nn.Module):
    """BERT with the states of its last layer as the only output."""

    def __init__(self, net: nn.Module) -> None:
        super().__init__()
        self.net = net

    def forward(self, input_ids: torch.Tensor, attention_mask: torch.Tensor) -> torch.Tensor:
        """Token ids and mask [batch, tokens] to states [batch, tokens, 768]."""
        states: torch.Tensor = self.net(input_ids=input_ids, attention_mask=attention_mask).last_hidden_state
        return states


def _of_transformers(model: str, config: str, **settings: Any) -> nn.Module:
    import transformers

    torch.manual_seed(0)
    net: nn.Module = getattr(transformers, model)(getattr(transformers, config)(**settings))
    return net.eval()


def resnet50() -> nn.Module:
    """25.6 M parameters."""
    return Classifier(_of_transformers("ResNetForImageClassification", "ResNetConfig", num_labels=1000)).eval()


def mobilenet_v2() -> nn.Module:
    """3.5 M parameters."""
    net = _of_transformers("MobileNetV2ForImageClassification", "MobileNetV2Config", num_labels=1000)
    return Classifier(net).eval()


def vit_b16() -> nn.Module:
    """86.6 M parameters."""
    return Classifier(_of_transformers("ViTForImageClassification", "ViTConfig", num_labels=1000)).eval()


def bert_base() -> nn.Module:
    """109 M parameters; the pooler, which nothing reads, is left out."""
    import transformers

    torch.manual_seed(0)
    return Encoder(transformers.BertModel(transformers.BertConfig(), add_pooling_layer=False)).eval()


class Digits(nn.Module):
    """Digits [batch, 1, 8, 8] of 0..1 to scores [batch, 10]."""

    def __init__(self, body: nn.Module) -> None:
        super().__init__()
        self.body = body

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        scores: torch.Tensor = self.body(image)
        return scores


def digits_cnn() -> nn.Module:
    """Three convolutions, 123 k parameters."""
    torch.manual_seed(0)
    body = nn.Sequential(
        nn.Conv2d(1, 32, 3, padding=1),
        nn.BatchNorm2d(32),
        nn.ReLU(),
        nn.Conv2d(32, 64, 3, padding=1),
        nn.BatchNorm2d(64),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Conv2d(64, 64, 3, padding=1),
        nn.ReLU(),
        nn.Flatten(),
        nn.Linear(64 * 4 * 4, 64),
        nn.ReLU(),
        nn.Linear(64, 10),
    )
    return Digits(body).eval()


class Block(nn.Module):
    """Two convolutions beside a shortcut (He et al. 2016)."""

    def __init__(self, inner: int, outer: int, stride: int) -> None:
        super().__init__()
        self.body = nn.Sequential(
            nn.Conv2d(inner, outer, 3, stride=stride, padding=1, bias=False),
            nn.BatchNorm2d(outer),
            nn.ReLU(),
            nn.Conv2d(outer, outer, 3, padding=1, bias=False),
            nn.BatchNorm2d(outer),
        )
        self.shortcut: nn.Module = nn.Identity()
        if stride != 1 or inner != outer:
            self.shortcut = nn.Sequential(nn.Conv2d(inner, outer, 1, stride=stride, bias=False), nn.BatchNorm2d(outer))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.relu(self.body(x) + self.shortcut(x))


class Residual(nn.Module):
    """Digits [batch, 1, 32, 32] of 0..1 to scores [batch, 10]: three stages of `blocks` blocks."""

    def __init__(self, widths: tuple[int, int, int], blocks: int) -> None:
        super().__init__()
        layers: list[nn.Module] = [nn.Conv2d(1, widths[0], 3, padding=1, bias=False), nn.BatchNorm2d(widths[0])]
        inner = widths[0]
        for stage, outer in enumerate(widths):
            for number in range(blocks):
                layers.append(Block(inner, outer, stride=2 if stage and not number else 1))
                inner = outer
        self.body = nn.Sequential(*layers)
        self.head = nn.Linear(inner, 10)

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        scores: torch.Tensor = self.head(self.body(image).mean(dim=(2, 3)))
        return scores


def residual() -> nn.Module:
    """19 convolutions, 1.1 M parameters."""
    torch.manual_seed(0)
    return Residual((32, 64, 128), 3).eval()


def residual_student() -> nn.Module:
    """What learns from `residual` where a search may distil: 7 convolutions, 43 k parameters."""
    torch.manual_seed(1)
    return Residual((12, 24, 48), 1).eval()


class Tabular(nn.Module):
    """Thirty standardised measurements [batch, 30] to scores [batch, 2]."""

    def __init__(self, width: int) -> None:
        super().__init__()
        sizes = (30, width, width, width)
        hidden = [nn.Sequential(nn.Linear(inner, outer), nn.ReLU()) for inner, outer in itertools.pairwise(sizes)]
        self.hidden = nn.Sequential(*hidden)
        self.head = nn.Linear(width, 2)

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        scores: torch.Tensor = self.head(self.hidden(features))
        return scores


def tabular() -> nn.Module:
    """Three hidden layers of 256, 140 k parameters."""
    torch.manual_seed(0)
    return Tabular(256).eval()


def gemm() -> nn.Module:
    """Four products of [batch, 2048] with [2048, 2048], and nothing else: the matrix peak of an engine."""
    torch.manual_seed(0)
    return nn.Sequential(*(nn.Linear(2048, 2048, bias=False) for _ in range(4))).eval()
