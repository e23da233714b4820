"""The reference: what the signals of a variant are on held-out data, and the level that its metric was accepted at."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Literal, TypeAlias

import numpy as np

from ..contract import Array, Arrays, Contract
from ..errors import MonitorError, PackageError
from .answers import classified
from .computing import Signals
from .probabilities import predicted_classes
from .signal import Signal
from .spread import Constants

FEWEST = 32
"""With fewer samples a bin of the detector would be empty."""
ENOUGH = 300
"""With fewer, alarms are slow."""
MOST = 4000
"""So many samples are kept; more would not shorten the delay of an alarm."""

Origin: TypeAlias = Literal["build", "production", "batch"]
Sample: TypeAlias = tuple[Arrays, Arrays, Array | None]
"""Inputs and outputs [n, ...] by name, and targets [n, ...] where they are known."""


@dataclass(frozen=True, slots=True)
class Accepted:
    """What a variant was accepted with."""

    metric: str
    value: float
    """On the holdout."""
    level: float
    """The least that the contract accepts: eager's value on the holdout, less max_metric_drop."""
    samples: int


@dataclass(frozen=True, slots=True)
class Reference:
    """Made with the variant that it is for: another precision is a shift by itself."""

    signals: tuple[Signal, ...]
    scores: Array
    """float64 [m, signals], each column sorted by itself, so that no row of the data can be read from it. NaN (missing)
    comes last."""
    constants: dict[str, Array] = field(default_factory=dict)
    """What was fitted on calibration data, disjoint from these: means, deviations, ranges, frequencies of tokens."""
    accepted: Accepted | None = None
    """None where the contract has no metric or the data has no labels."""
    sure: float | None = None
    """Classification: the confidence above which as many held-out answers lie as are right (ATC, Garg et al. 2022)."""
    labels: tuple[int, ...] = ()
    """Classification: how many samples of each class there were, by their labels; empty where there are none."""
    origin: Origin = "build"
    created: str = ""
    """UTC, ISO 8601."""

    @property
    def samples(self) -> int:
        return len(self.scores)


def make_reference(
    contract: Contract,
    constants: Constants,
    samples: Iterable[Sample],
    *,
    accepted: Accepted | None = None,
    origin: Origin = "build",
    created: str = "",
) -> Reference:
    """The reference of held-out samples that the constants were not fitted on, at most 4000 of them, chosen by a seed.

    Raises MonitorError where there are fewer than 32."""
    watched = Signals(contract, constants)
    kept = _Kept(len(watched.signals))
    labels: Array = np.zeros(0, np.int64)
    for feeds, outputs, targets in samples:
        right = _right(contract, outputs, targets)
        kept.add(watched.of(feeds, outputs), right)
        if right is not None and targets is not None:
            labels = _added(labels, targets)
    if kept.samples < FEWEST:
        reason = f"has {kept.samples} samples, and an alarm needs at least {FEWEST} to compare with"
        raise MonitorError("the reference", reason, f"give at least {FEWEST}, better {ENOUGH} or more")
    return Reference(
        signals=watched.signals,
        scores=np.sort(kept.scores, axis=0),
        constants=dict(constants),
        accepted=accepted,
        sure=_sure(watched.signals, kept.scores, kept.right),
        labels=tuple(labels.tolist()),
        origin=origin,
        created=created,
    )


def watch(contract: Contract, reference: Reference, where: str) -> Signals:
    """What computes the signals of a reference, in their order.

    `where` names the reference in errors. Raises PackageError where it is not of this contract, or of a later release
    that knows more signals."""
    try:
        watched = Signals(contract, reference.constants).only(reference.signals)
        # A row of zeros shows whether the constants have the sizes that the contract's tensors have.
        watched.of(*_zeros(contract))
    except (ValueError, IndexError, TypeError) as error:
        reason = f"does not fit the contract of {contract.name!r}: {error}"
        raise PackageError(where, reason, "update shipworthy, or build the package again") from error
    return watched


class _Kept:
    """A sample of all rows: those with the smallest of seeded keys, whatever the chunks are."""

    def __init__(self, columns: int) -> None:
        self._random = np.random.default_rng(0x5EED)
        self._keys: Array = np.zeros(0)
        self.scores: Array = np.zeros((0, columns))
        self.right: Array = np.zeros(0)
        """1 where the answer is right, 0 where it is wrong, NaN where that is not known."""

    @property
    def samples(self) -> int:
        return len(self.scores)

    def add(self, scores: Array, right: Array | None) -> None:
        keys = np.concatenate([self._keys, self._random.random(len(scores))])
        known = np.full(len(scores), np.nan) if right is None else right
        scores, known = np.concatenate([self.scores, scores]), np.concatenate([self.right, known])
        if len(keys) > MOST:
            rows = np.sort(np.argpartition(keys, MOST)[:MOST])
            keys, scores, known = keys[rows], scores[rows], known[rows]
        self._keys, self.scores, self.right = keys, scores, known


def _right(contract: Contract, outputs: Arrays, targets: Array | None) -> Array | None:
    """Whether each class is right, [n]; None where there are no classes, or none are known."""
    name = classified(contract)
    if name is None or targets is None:
        return None
    if targets.size != len(targets) or not np.issubdtype(targets.dtype, np.integer):
        return None
    predicted = predicted_classes(outputs[name], contract.outputs[name].kind)
    right: Array = (predicted == targets.reshape(-1)).astype(np.float64)
    return right


def _added(labels: Array, targets: Array) -> Array:
    found = np.bincount(targets.reshape(-1)[targets.reshape(-1) >= 0], minlength=len(labels))
    found[: len(labels)] += labels
    return found


def _sure(signals: tuple[Signal, ...], scores: Array, right: Array) -> float | None:
    """The threshold of average thresholded confidence (Garg et al. 2022, arXiv 2201.04234): above it lies the share of
    confidences that the accuracy is."""
    place = next((at for at, signal in enumerate(signals) if signal.name == "confidence"), None)
    known = ~np.isnan(right)
    if place is None or not known.all():
        return None
    confidence = np.sort(scores[:, place])
    wrong = int(np.count_nonzero(right == 0))
    edge = confidence[wrong - 1] if wrong else np.nextafter(confidence[0], -1.0)
    return float(edge) if np.isfinite(edge) else None


def _zeros(contract: Contract) -> tuple[Arrays, Arrays]:
    """A row of each input and output, with the least size that a dynamic dimension may have."""
    signature = contract.signature
    feeds, outputs = (
        {
            name: np.zeros((1, *(size if isinstance(size, int) else size.min for size in spec.shape[1:])), spec.numpy)
            for name, spec in specs.items()
            if spec.shape
        }
        for specs in (signature.inputs, signature.outputs)
    )
    return feeds, outputs
