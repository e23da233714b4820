"""Multiply-accumulates counted, against what the layers' definitions say."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from prune_nets import Encoder, contract_for
from residual_net import built, digits_contract
from torch import Tensor, nn

from shipworthy.compress.reports import macs_of
from shipworthy.compress.sizes import bytes_of, parameters_of

pytestmark = pytest.mark.usefixtures("single_threaded")


def counted(module: nn.Module, shape: list[Any], batch: int = 2) -> int:
    return macs_of(module, contract_for(shape), {"x": torch.zeros(batch, *shape).numpy()})


@pytest.mark.parametrize(
    ("module", "shape", "macs"),
    [
        (nn.Linear(8, 5), [8], 40),
        (nn.Conv2d(3, 6, 3, padding=1), [3, 7, 9], 7 * 9 * 6 * 3 * 9),
        (nn.Conv2d(4, 8, 3, stride=2, padding=1, groups=4), [4, 8, 8], 4 * 4 * 8 * 1 * 9),
        (nn.Conv2d(6, 6, 3, padding=1, groups=6), [6, 5, 5], 5 * 5 * 6 * 9),
        (nn.ConvTranspose2d(3, 4, 2, 2), [3, 5, 5], 5 * 5 * 3 * 4 * 4),
        (nn.LSTM(6, 10, batch_first=True), [7, 6], 7 * 4 * 10 * (6 + 10)),
    ],
)
def test_operations_of_a_layer(module: nn.Module, shape: list[int], macs: int) -> None:
    assert counted(_First(module), shape) == macs
    assert counted(_First(module), shape, batch=5) == macs, "of one sample, whatever the batch"


class _First(nn.Module):
    """The first of several results."""

    def __init__(self, inner: nn.Module) -> None:
        super().__init__()
        self.inner = inner

    def forward(self, x: Tensor) -> Tensor:
        found = self.inner(x)
        return found[0] if isinstance(found, tuple) else found


def test_fused_attention_is_counted() -> None:
    tokens, width, inner = 9, 16, 32
    projections, attention = 4 * tokens * width * width, 2 * tokens * tokens * width
    around = tokens * 8 * width + 2 * tokens * width * inner + width * 3
    fast = torch.backends.mha.get_fastpath_enabled()
    assert counted(Encoder().eval(), [tokens, 8]) == projections + attention + around
    assert torch.backends.mha.get_fastpath_enabled() == fast
    assert torch.backends.mkldnn.flags is not None and torch._C._get_mkldnn_enabled()


def test_the_residual_net_by_hand() -> None:
    first, second, third = 16, 32, 64
    stem, blocks = 256 * first * 9, 256 * 2 * first * first * 9
    blocks += 64 * (first * second * 9 + second * second * 9 + first * second)
    blocks += 16 * (second * third * 9 + third * third * 9 + second * third)
    net = built((first, second, third))
    feeds = {"image": torch.zeros(2, 1, 16, 16).numpy()}
    assert macs_of(net, digits_contract(), feeds) == stem + blocks + third * 10
    assert parameters_of(net) == sum(p.numel() for p in net.parameters())
    assert bytes_of(net) == 4 * sum(p.numel() for p in net.parameters()) + sum(b.nbytes for b in net.buffers())
