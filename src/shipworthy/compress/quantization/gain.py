"""Operations whose quantization brings no measured gain: those that go back to float."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from ...runtime import Artifact
from ...runtime.engine_openvino import Layer, OpenVinoEngine, layers_of
from ...runtime.operators import OperatorTime

LEAST_GAIN = 1.03
"""Below this ratio of the times a gain is not told from the noise of the measurement."""
_OWN_WORDS = "/Dequantization"
"""What OpenVINO puts behind the name of an operation that it has given integers to."""


@dataclass(frozen=True, slots=True)
class Fused:
    """Whose time the executed nodes of a graph take: names of operations, by the name of the executed node."""

    inside: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    """What was fused into it."""
    before: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    """Of a node that is no operation itself, such as a conversion: what it prepares values for."""


def gainless(
    before: Mapping[str, float], after: Mapping[str, float], operations: Sequence[str], *, least: float = LEAST_GAIN
) -> tuple[str, ...]:
    """The operations that take in fp32 (`before`) less than `least` times what they take in int8 (`after`, conversions
    included), in microseconds by operation; in the given order. What one of the two does not show is left as it is:
    nothing was measured of it."""
    return tuple(name for name in operations if name in before and name in after and before[name] < least * after[name])


def costs(times: Sequence[OperatorTime], operations: Sequence[str], fused: Fused) -> dict[str, float]:
    """Microseconds of one run that each operation takes, with what was fused into it, and with what only prepares
    values for it. An operation that no node computes is not there, whatever was prepared for it."""
    wanted = frozenset(operations)
    own: dict[str, float] = {}
    prepared: dict[str, float] = {}
    for time in times:
        inside = wanted.intersection(fused.inside.get(time.name, (time.name,)))
        for_whom = wanted.intersection(fused.before.get(time.name, ()))
        for name in inside or for_whom:
            sums, share = (own, len(inside)) if inside else (prepared, len(for_whom))
            sums[name] = sums.get(name, 0.0) + time.us / share
    return {name: us + prepared.get(name, 0.0) for name, us in own.items()}


def fused_of(artifact: Artifact, operations: Sequence[str]) -> Fused:
    """What the nodes stand for that execute an artifact. ONNX Runtime keeps the names of what it computes, and what it
    converts stands under its own.

    Raises EngineError where the engine refuses the file."""
    if artifact.engine != OpenVinoEngine.name:
        return Fused()
    return fused_layers(layers_of(artifact), operations)


def fused_layers(layers: Sequence[Layer], operations: Sequence[str]) -> Fused:
    inside = {layer.name: _operations_in(layer, operations) for layer in layers}
    readers = {layer.name: layer.readers for layer in layers}
    light = [layer for layer in layers if not inside[layer.name] and not layer.heavy]
    return Fused(inside, {layer.name: _next(layer.name, inside, readers) for layer in light})


def _operations_in(layer: Layer, operations: Sequence[str]) -> tuple[str, ...]:
    parts = (layer.name, *layer.parts)
    return tuple(
        name for name in operations if any(part == name or part.startswith(name + _OWN_WORDS) for part in parts)
    )


def _next(start: str, inside: Mapping[str, tuple[str, ...]], readers: Mapping[str, tuple[str, ...]]) -> tuple[str, ...]:
    """The operations of the nearest layers downstream that have any."""
    level, seen = [start], {start}
    while level:
        level = list(dict.fromkeys(name for at in level for name in readers.get(at, ()) if name not in seen))
        seen.update(level)
        found = tuple(dict.fromkeys(name for at in level for name in inside.get(at, ())))
        if found:
            return found
    return ()
