"""Instances to batches."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from ..contract import Array


def stack(instances: Sequence[dict[str, Array]]) -> list[tuple[list[int], dict[str, Array]]]:
    """Batches of the instances whose shapes are equal: the positions of the instances, and arrays [n, ...] by input.

    The batches stand in the order of their first instance, and the instances of a batch in their own order."""
    groups: dict[tuple[tuple[int, ...], ...], list[int]] = {}
    for index, arrays in enumerate(instances):
        groups.setdefault(tuple(array.shape for array in arrays.values()), []).append(index)
    return [
        (members, {name: np.stack([instances[member][name] for member in members]) for name in instances[members[0]]})
        for members in groups.values()
    ]
