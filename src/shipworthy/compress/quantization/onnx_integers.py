"""The arithmetic of int8: scales and zero points of ranges, weights in integers, each as the processor takes it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ...contract import Array
from ...errors import CompressError
from ...exporters.onnx_weights import bias_steps
from .scheme import Scheme

_LARGEST_BIAS = 2.0**30
"""A bias is an integer of 32 bits, to which the products are added."""


@dataclass(frozen=True, slots=True)
class Grid:
    """real = scale * (integer - zero_point)."""

    scale: Array
    """float32, one for the tensor."""
    zero_point: Array
    """uint8 or int8."""


def grid_of(low: float, high: float, scheme: Scheme) -> Grid:
    """The grid of an activation in [low, high], in which 0 is exact.

    Unsigned: 256 steps from low to high. Signed and symmetric: zero point 0; but where nothing is negative, -128,
    which is as fast and wastes no half of the range."""
    low, high = min(low, 0.0), max(high, 0.0)
    if scheme.signed_activations and scheme.symmetric_activations and low < 0:
        return _grid(max(-low, high) / 127, 0, np.int8)
    lowest = -128 if scheme.signed_activations else 0
    scale = (high - low) / 255
    zero = lowest if not scale else lowest + round(-low / scale)
    return _grid(scale, zero, np.int8 if scheme.signed_activations else np.uint8)


def _grid(scale: float, zero: int, kind: type[np.int8] | type[np.uint8]) -> Grid:
    limits = np.iinfo(kind)
    # A range without any width, or one below the smallest float, has no scale of its own.
    usable = scale if scale > float(np.finfo(np.float32).tiny) else 1.0 / 255
    return Grid(np.asarray(usable, np.float32), np.asarray(min(max(zero, limits.min), limits.max), kind))


def integer_weight(weight: Array, axis: int, scheme: Scheme, least_scale: Array | None = None) -> tuple[Array, Array]:
    """The weight in signed integers, and the scale of each entry along `axis`: real = scale * integer.

    `least_scale` [entries] keeps a scale from being smaller than something else needs."""
    top = 63 if scheme.narrow_weights else 127
    axis %= weight.ndim
    others = tuple(number for number in range(weight.ndim) if number != axis)
    largest = np.abs(weight).max(axis=others, initial=0.0).astype(np.float64)
    scale = np.where(largest > 0, largest / top, 1.0)
    if least_scale is not None:
        scale = np.maximum(scale, least_scale)
    scale = np.maximum(scale, float(np.finfo(np.float32).tiny)).astype(np.float32)
    shape = [-1 if number == axis else 1 for number in range(weight.ndim)]
    integers = np.clip(np.rint(weight / scale.reshape(shape)), -top, top).astype(np.int8)
    return integers, scale


def least_weight_scale(bias: Array, x: Grid) -> Array:
    """The scales of the weights from which on the bias fits into 32 bits."""
    return np.asarray(np.abs(bias.astype(np.float64)) / _LARGEST_BIAS / float(x.scale))


def integer_bias(bias: Array, x: Grid, weight_scale: Array) -> tuple[Array, Array]:
    """The bias in integers of 32 bits, and their scales: those of the products that they are added to.

    Raises CompressError where it does not fit, which no bias does whose weights have the least scale above."""
    scale = (x.scale * weight_scale).astype(np.float32)
    integers = bias_steps(bias, scale)
    if integers is None:
        raise CompressError("a bias", "is too large for 32 bits, or not finite", "keep its operation in float")
    return integers, scale
