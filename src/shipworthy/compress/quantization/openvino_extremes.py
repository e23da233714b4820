"""The extremes of quantized activations: seen in the float graph, and made the ranges of their quantizers."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from ...contract import Array, Arrays
from .openvino_graph import QUANTIZER, bypass_quantizers, of_weights, operations, restore_bias
from .openvino_probe import run_to

_SYMMETRIC = 0.01
"""The ends of a symmetric range of 8 bits differ by a 127th: there is one more negative integer."""


def observed_extremes(
    model: Any, biases: Mapping[str, Array], feeds: Sequence[Arrays], threads: int
) -> dict[str, Array]:
    """Smallest and largest value [feeds, 2, *shape of the range] of what each quantizer of the main graph reads, as it
    is without any quantization. A range per channel has extremes per channel."""
    float_graph = model.clone()
    quantizers = list(_of_activations(float_graph))
    ends = [end for node in quantizers for end in _extremes(node)]
    for operation in operations(float_graph):
        if operation.name in biases:
            restore_bias(operation.node, biases[operation.name])
    names = [node.get_friendly_name() for node in quantizers]
    bypass_quantizers(float_graph)
    rows = [[np.array(value) for value in values] for values in run_to(float_graph, ends, feeds, threads)]
    return {
        name: np.stack([np.stack(row[2 * place : 2 * place + 2]) for row in rows]) for place, name in enumerate(names)
    }


def _of_activations(model: Any) -> Iterator[Any]:
    for node in model.get_ordered_ops():
        if node.get_type_name() == QUANTIZER and not of_weights(node):
            yield node


def _extremes(quantizer: Any) -> Iterator[Any]:
    from openvino import opset13  # type: ignore[import-untyped]

    value, shape = quantizer.input_value(0), list(quantizer.get_input_shape(1))
    if np.prod(shape) == 1:
        value, axes = opset13.reshape(value, np.array([-1]), False).output(0), [0]
    else:
        axes = [axis for axis, size in enumerate(shape) if size == 1]
    for reduction in (opset13.reduce_min, opset13.reduce_max):
        reduced = reduction(value, np.array(axes), keep_dims=np.prod(shape) != 1)
        yield opset13.reshape(reduced, np.array(shape, dtype=np.int64), False).output(0)


def whole_tensor(extremes: Array) -> Array:
    """Of all channels: [feeds, 2]."""
    ends = extremes.reshape(len(extremes), 2, -1)
    return np.stack([ends[:, 0].min(axis=1), ends[:, 1].max(axis=1)], axis=1)


def widened(model: Any, extremes: Mapping[str, Array]) -> Any:
    """The graph with ranges that hold every value that was seen. What is not finite has no say."""
    from openvino import opset13

    for node in _of_activations(model):
        seen = extremes.get(node.get_friendly_name())
        if seen is None:
            continue
        seen = seen[np.isfinite(seen).reshape(len(seen), -1).all(axis=1)]
        if not len(seen):
            continue
        low, high = (node.input_value(port).get_node().data for port in (1, 2))
        new = _range(low, high, seen[:, 0].min(axis=0), seen[:, 1].max(axis=0), node.get_attributes()["levels"])
        for port, values in enumerate((*new, *new), 1):
            node.input(port).replace_source_output(opset13.constant(values.astype(np.float32)).output(0))
    return model


def _range(low: Array, high: Array, least: Array, most: Array, levels: int) -> tuple[Array, Array]:
    """A range of the old one's kind: from 0, symmetric, or with the zero point on an integer."""
    least, most = np.minimum(least, 0.0), np.maximum(most, 0.0)
    width = np.where(most > least, most - least, 1.0)
    zero = np.clip(np.rint(-least / width * (levels - 1)), 0, levels - 1)
    with np.errstate(divide="ignore", invalid="ignore"):
        step = np.fmax(
            np.where(zero > 0, -least / zero, 0.0), np.where(zero < levels - 1, most / (levels - 1 - zero), 0)
        )
        ratio = low / high
    largest = np.maximum(most, -least)
    symmetric = (np.abs(ratio + 1) < _SYMMETRIC) | ((low == 0) & (least == 0))
    new_low = np.where(symmetric, ratio * largest, -zero * step)
    new_high = np.where(symmetric, largest, (levels - 1 - zero) * step)
    still = most <= least
    return np.where(still, low, new_low), np.where(still, high, new_high)
