"""Fake quantization as a module carries it into an exporter: values on a grid of 8 bits, kept as floats."""

from __future__ import annotations

# Registers torch.ops.quantized_decomposed.
import torch.ao.quantization.fx._decomposed
from torch import Tensor, nn

from ..model.loaded import LoadedModel

_NARROWED = 64
"""Steps on either side of 0 that are left where the last bit is not used."""


class FakeQuantize(nn.Module):
    """`(clamp(round(x / scale) + zero_point, low, high) - zero_point) * scale`, with 8 bits.

    torch.export gets it as a pair of quantize and dequantize, which the engines fuse with what is around it; eager
    and tracing execute torch's fake_quantize operators. Both round half to even."""

    scale: Tensor
    zero_point: Tensor

    def __init__(
        self, scale: Tensor, zero_point: Tensor, axis: int | None, *, signed: bool, narrow: bool = False
    ) -> None:
        """`scale` and `zero_point` have one value for each channel along `axis`, or are scalars where it is None.

        `narrow` leaves one bit unused: the steps -64 to 63 of a signed grid around 0."""
        super().__init__()
        self.axis = axis
        self.narrow = narrow
        self.low, self.high = (-128, 127) if signed else (0, 255)
        self.register_buffer("scale", scale.detach().clone())
        self.register_buffer("zero_point", zero_point.detach().to(torch.int32).clone())
        # An exporter writes numbers as constants into the graph, where a tensor would be looked up in each run.
        self._number = (float(scale), int(zero_point)) if axis is None else (1.0, 0)

    def forward(self, x: Tensor) -> Tensor:
        x = self._narrowed(x) if self.narrow else x
        if torch.compiler.is_exporting():
            return self._pair(x)
        if self.axis is None:
            return torch.fake_quantize_per_tensor_affine(x, *self._number, self.low, self.high)
        return torch.fake_quantize_per_channel_affine(x, self.scale, self.zero_point, self.axis, self.low, self.high)

    def _narrowed(self, x: Tensor) -> Tensor:
        scale = self._number[0]
        if self.axis is None:
            return x.clamp(-_NARROWED * scale, (_NARROWED - 1) * scale)
        along = self.scale.reshape([-1 if axis == self.axis else 1 for axis in range(x.dim())])
        return torch.minimum(torch.maximum(x, -_NARROWED * along), (_NARROWED - 1) * along)

    def _pair(self, x: Tensor) -> Tensor:
        ops = torch.ops.quantized_decomposed
        dtype = torch.int8 if self.low < 0 else torch.uint8
        if self.axis is None:
            grid = (*self._number, self.low, self.high, dtype)
            return ops.dequantize_per_tensor(ops.quantize_per_tensor(x, *grid), *grid)  # type: ignore[no-any-return]
        channels = (self.scale, self.zero_point, self.axis, self.low, self.high, dtype)
        quantized = ops.quantize_per_channel(x, *channels)
        return ops.dequantize_per_channel(quantized, *channels)  # type: ignore[no-any-return]

    def extra_repr(self) -> str:
        return f"axis={self.axis}, {self.low}..{self.high}{', narrow' if self.narrow else ''}"


def is_fake_quantized(model: LoadedModel) -> bool:
    """Whether the module was trained with fake quantization: it is int8 as soon as an engine takes it."""
    return model.module is not None and any(isinstance(part, FakeQuantize) for part in model.module.modules())
