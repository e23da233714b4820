"""The extremes of quantized activations: seen in the float graph, and made the ranges of their quantizers."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from ...contract import Array, Arrays
from .openvino_graph import QUANTIZER, bypass_quantizers, of_weights, restore_biases
from .openvino_probe import run_to

_EXACT = 1e-5
"""Rounding that is allowed for where the ends of a range are compared."""


def observed_extremes(
    model: Any, biases: Mapping[str, Array], feeds: Sequence[Arrays], threads: int
) -> dict[str, Array]:
    """Smallest and largest value [feeds, 2, *shape of the range] of what each quantizer of the main graph reads, as it
    is without any quantization. A range per channel has extremes per channel."""
    float_graph = restore_biases(model.clone(), biases)
    quantizers = list(_of_activations(float_graph))
    if not quantizers:
        return {}
    ends = [end for node in quantizers for end in _reductions(node)]
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


def _reductions(quantizer: Any) -> Iterator[Any]:
    """What gives the smallest and the largest value, in the shape of the quantizer's range."""
    from openvino import opset13  # type: ignore[import-untyped]

    value, shape = quantizer.input_value(0), list(quantizer.get_input_shape(1))
    if np.prod(shape) == 1:
        value, axes = opset13.reshape(value, np.array([-1]), False).output(0), [0]
    else:
        axes = [axis for axis, size in enumerate(shape) if size == 1]
    for reduction in (opset13.reduce_min, opset13.reduce_max):
        reduced = reduction(value, np.array(axes), keep_dims=np.prod(shape) != 1)
        yield opset13.reshape(reduced, np.array(shape, dtype=np.int64), False).output(0)


def over_channels(extremes: Array) -> Array:
    """Of the whole tensor: [feeds, 2]."""
    ends = extremes.reshape(len(extremes), 2, -1)
    return np.stack([ends[:, 0].min(axis=1), ends[:, 1].max(axis=1)], axis=1)


def widened(model: Any, extremes: Mapping[str, Array]) -> Any:
    """A copy of the graph with ranges that hold every value that was seen. What is not finite has no say.

    Quantizers that had one range have one again: what reads their values together needs one scale."""
    from openvino import opset13

    model = model.clone()
    sharing: dict[tuple[bytes, bytes], list[Any]] = {}
    for node in _of_activations(model):
        low, high = _ends(node)
        sharing.setdefault((low.tobytes(), high.tobytes()), []).append(node)
    for nodes in sharing.values():
        seen = [_finite(extremes[name]) for node in nodes if (name := node.get_friendly_name()) in extremes]
        if not any(map(len, seen)):
            continue
        least = np.min([rows[:, 0].min(axis=0) for rows in seen if len(rows)], axis=0)
        most = np.max([rows[:, 1].max(axis=0) for rows in seen if len(rows)], axis=0)
        new = wider(*_ends(nodes[0]), least, most, nodes[0].get_attributes()["levels"])
        for node in nodes:
            for port, values in enumerate((*new, *new), 1):
                node.input(port).replace_source_output(opset13.constant(values.astype(np.float32)).output(0))
    return model


def _ends(quantizer: Any) -> tuple[Array, Array]:
    low, high = (quantizer.input_value(port).get_node().data for port in (1, 2))
    return low, high


def _finite(extremes: Array) -> Array:
    return extremes[np.isfinite(extremes).reshape(len(extremes), -1).all(axis=1)]


def wider(low: Array, high: Array, least: Array, most: Array, levels: int) -> tuple[Array, Array]:
    """The ends of a range of the old one's kind that holds [least, most]: symmetric, or with the zero point on an
    integer, which may be the first. An old range that holds it already, such as that of a channel that is
    always zero, stays as it is.

    A range with a zero point that lies just in the middle is not told from a symmetric one, and stays so."""
    least, most = np.minimum(least, 0.0), np.maximum(most, 0.0)
    with np.errstate(divide="ignore", invalid="ignore"):
        ratio = np.where(high > 0, low / high, 0.0)
    symmetric = np.isclose(ratio, -levels / (levels - 2), rtol=_EXACT) | np.isclose(ratio, -1.0, rtol=_EXACT)
    aligned = _with_zero_point(least, most, levels)
    # Of a symmetric range the negative end reaches one step further.
    largest = np.maximum(most, -least)
    new_low = np.where(symmetric, ratio * largest, aligned[0])
    new_high = np.where(symmetric, largest, aligned[1])
    grown = (least < low) | (most > high)
    return np.where(grown, new_low, low), np.where(grown, new_high, high)


def _with_zero_point(least: Array, most: Array, levels: int) -> tuple[Array, Array]:
    """The least range of `levels` steps that holds both ends and in which zero is an integer."""
    width = np.where(most > least, most - least, 1.0)
    exact = -least / width * (levels - 1)
    # An end that is not zero is not lost, however small it is.
    first, last = np.where(least < 0, 1, 0), levels - 1 - np.where(most > 0, 1, 0)
    choices = [np.clip(whole, first, last) for whole in (np.floor(exact), np.ceil(exact))]
    # The step has to reach the end that is further from the zero point, in steps.
    steps = [np.maximum(-least / np.maximum(z, 1), most / np.maximum(levels - 1 - z, 1)) for z in choices]
    zero, step = np.where(steps[0] <= steps[1], choices[0], choices[1]), np.minimum(*steps)
    return -zero * step, (levels - 1 - zero) * step
