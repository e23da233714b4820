"""Fake quantization whose ranges are trained with the weights."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor, nn

from ...exporters.fake_quantize import FakeQuantize
from .scheme import Scheme


class TrainedRange(nn.Module):
    """A quantizer with a learned step size (Esser et al. 2020): the rounding passes gradients through, and the scale
    has the gradient of the rounding error, times 1 / sqrt(values * steps).

    What is learned is the logarithm of the scale over its first value, so that an optimiser's step is a share of the
    range, whatever its size, and weight decay draws it back to the calibrated range. Zero points stay."""

    def __init__(self, grid: FakeQuantize) -> None:
        super().__init__()
        self.grid = grid
        self.stretch = nn.Parameter(torch.zeros_like(grid.scale))
        self.low, self.high = (-64, 63) if grid.narrow else (grid.low, grid.high)

    def forward(self, x: Tensor) -> Tensor:
        scale, zero_point = self.grid.scale * self.stretch.exp(), self.grid.zero_point.to(x.dtype)
        factor = 1 / math.sqrt(max(1, x.numel() // scale.numel()) * self.high)
        if self.grid.axis is None:
            return torch._fake_quantize_learnable_per_tensor_affine(
                x, scale.reshape(1), zero_point.reshape(1), self.low, self.high, factor
            )
        return torch._fake_quantize_learnable_per_channel_affine(
            x, scale, zero_point, self.grid.axis, self.low, self.high, factor
        )

    def settled(self) -> FakeQuantize:
        """The same with constants."""
        grid = self.grid
        scale = grid.scale * self.stretch.detach().exp()
        return FakeQuantize(scale, grid.zero_point, grid.axis, signed=grid.low < 0, narrow=grid.narrow)


def grid_of(quantizer: Any, scheme: Scheme) -> FakeQuantize:
    """The grid that a calibrated quantizer of NNCF has.

    For processors that multiply signed bytes, an unsigned one from 0 on spends half of its steps on negatives, which
    are not there. Where weights are to keep to 7 bits, NNCF has doubled their scale: training keeps them within."""
    low, _, scale, zero_point = quantizer.get_parameters_for_torch_fq()
    axis = None
    if quantizer.per_channel and scale.numel() > 1:
        axis = max(range(len(quantizer.scale_shape)), key=lambda place: quantizer.scale_shape[place])
    if axis is None:
        scale, zero_point = scale.reshape(-1)[0], zero_point.reshape(-1)[0]
    if scheme.signed_activations and low == 0 and not zero_point.any():
        scale, low = scale * (255 / 127), -128
    return FakeQuantize(scale, zero_point, axis, signed=low < 0, narrow=scheme.narrow_weights and axis is not None)
