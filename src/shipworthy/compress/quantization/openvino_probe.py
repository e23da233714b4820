"""What quantization does to each operation of an OpenVINO graph on its own, seen in one pass of the float graph."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from ...contract import Array, Arrays
from ...quality.parity import INFINITE_DB
from ...runtime.engine_openvino import HINTS, need_openvino
from .openvino_graph import (
    Operation,
    bypass_quantizers,
    clone,
    copied,
    operations,
    rebuilt,
    restore_biases,
    unquantized,
)

_SLICE_ELEMENTS = 40_000_000
"""Weights that have twins at the same time; each twin holds a copy of them."""


def signal_to_noise(model: Any, biases: Mapping[str, Array], feeds: Sequence[Arrays], threads: int) -> dict[str, float]:
    """SQNR in dB of each operation of the main graph: 10 log10(Σ y² / Σ (y - ŷ)²), y of the float graph, ŷ of a twin
    that reads the same values quantized. What is quantized behind it for its sake adds its own noise."""
    found: dict[str, float] = {}
    for names in _slices(model):
        sums, owners = _twin_sums(model, biases, names, feeds, threads)
        noise = dict.fromkeys(names, 0.0)
        for owner, (signal, error) in zip(owners, sums.reshape(-1, 2), strict=True):
            noise[owner] += error / signal if signal else (math.inf if error else 0.0)
        found.update({name: _decibels(ratio) for name, ratio in noise.items()})
    return found


def _decibels(noise_to_signal: float) -> float:
    if not noise_to_signal:
        return INFINITE_DB
    return max(-INFINITE_DB, -10 * math.log10(noise_to_signal)) if math.isfinite(noise_to_signal) else -INFINITE_DB


def _slices(model: Any) -> Iterator[list[str]]:
    names: list[str] = []
    elements = 0
    for operation in operations(model):
        if operation.body:
            continue
        size = _elements(operation)
        if names and elements + size > _SLICE_ELEMENTS:
            yield names
            names, elements = [], 0
        names.append(operation.name)
        elements += size
    if names:
        yield names


def _elements(operation: Operation) -> int:
    shapes = (site.node.get_input_partial_shape(site.port) for site in operation.inputs)
    return sum(math.prod(shape.get_shape()) for shape in shapes if shape.is_static)


def _twin_sums(
    model: Any, biases: Mapping[str, Array], names: Sequence[str], feeds: Sequence[Arrays], threads: int
) -> tuple[Array, list[str]]:
    """Σ y² and Σ (y - ŷ)² over all feeds, for each pair; and whose each pair is."""
    float_graph = model.clone()
    everything = operations(float_graph)
    sums: list[Any] = []
    owners: list[str] = []
    for operation in everything:
        if operation.name in names:
            for value, twin in _pairs(operation):
                sums += [_energy(value), _energy(_difference(value, twin))]
                owners.append(operation.name)
    restore_biases(float_graph, biases)
    # Twins hang on no result, so that their quantizers are not found and stay.
    bypass_quantizers(float_graph)
    totals = np.zeros(len(sums))
    for values in run_to(float_graph, sums, feeds, threads):
        totals += [float(value) for value in values]
    return totals, owners


def _pairs(operation: Operation) -> Iterator[tuple[Any, Any]]:
    sources = operation.node.input_values()
    for site in operation.inputs:
        sources[site.port] = rebuilt(site.source, copied)
    yield operation.node.output(0), clone(operation.node, sources).output(0)
    for site in operation.behind:
        yield rebuilt(site.source, unquantized), rebuilt(site.source, copied)


def _difference(value: Any, twin: Any) -> Any:
    from openvino import opset13  # type: ignore[import-untyped]

    return opset13.subtract(value, twin).output(0)


def _energy(value: Any) -> Any:
    from openvino import opset13

    flat = opset13.reshape(opset13.multiply(value, value), np.array([-1]), False)
    return opset13.reduce_sum(flat, np.array([0]), False).output(0)


def run_to(model: Any, ends: Sequence[Any], feeds: Sequence[Arrays], threads: int) -> Iterator[list[Array]]:
    """The values at `ends`, for each feed, computed in fp32."""
    openvino = need_openvino("looking into a graph")
    looked_into = openvino.Model(list(ends), model.get_parameters(), "probe")
    config = {"INFERENCE_PRECISION_HINT": HINTS["fp32"], "INFERENCE_NUM_THREADS": threads}
    compiled = openvino.Core().compile_model(looked_into, "CPU", config)
    names = {name for port in looked_into.inputs for name in port.get_names()}
    for feed in feeds:
        found = compiled({name: array for name, array in feed.items() if name in names})
        yield [found[index] for index in range(len(ends))]
