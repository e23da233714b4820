"""References and streams, drawn from a table of rows; what detectors see of a row is computed once."""

from __future__ import annotations

import zlib
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from shipworthy.signals import Signal, Signals, fit

from .shifts import Shift
from .subjects import Array, Subject

REFERENCE = 1_000
CAP = 5_000
"""Samples of a stream, all after the change. A shift that is not seen in them counts as so many."""
_CHUNK = 4096


@dataclass(frozen=True, eq=False)
class Table:
    """The pool, and behind it the rows that a shift draws from."""

    subject: Subject
    signals: tuple[Signal, ...]
    scores: Array
    """[rows, signals]."""
    probabilities: Array
    """[rows, classes]; of a regression the prediction, [rows, 1]."""
    inputs: Array
    """[rows, numbers], in deviations."""
    pool: int
    """Rows before those of the shift."""

    @cached_property
    def watched(self) -> Array:
        """The one number in [0, 1] for detectors that take one: how unsure the model is, or where its prediction is in
        the range of the pool's."""
        if self.subject.classifies:
            return np.asarray(1 - self.probabilities.max(axis=1))
        value = self.probabilities[:, 0]
        low, high = value[: self.pool].min(), value[: self.pool].max()
        return np.clip((value - low) / (high - low), 0, 1)

    @cached_property
    def columns(self) -> tuple[int, ...]:
        """Signals for detectors that take a table of columns: all that vary in the pool, without flags."""
        varies = np.ptp(self.scores[: self.pool], axis=0) > 0
        return tuple(at for at, signal in enumerate(self.signals) if varies[at] and signal.kind != "share")


@dataclass(frozen=True, eq=False)
class Scene:
    """References and streams of one cell, as rows of its table."""

    table: Table
    references: Array
    """[seeds, REFERENCE]."""
    streams: Array
    """[seeds, CAP]."""
    seeds: Array

    def __len__(self) -> int:
        return len(self.references)


def tabulate(subject: Subject, shift: Shift | None) -> Table:
    """What there is to see of the pool and of the rows of a shift; the same whenever it is called."""
    rows = subject.pool
    if shift is not None:
        changed = shift.change(subject, np.random.default_rng(_number(subject.name, shift.name)))
        rows = np.concatenate([rows, changed.astype(np.float32)])
    constants = fit(subject.contract, [(subject.feeds(subject.calibration), subject.outputs(subject.calibration))])
    signals = Signals(subject.contract, constants)
    parts = [rows[at : at + _CHUNK] for at in range(0, len(rows), _CHUNK)]
    scores = np.concatenate([signals.of(subject.feeds(part), subject.outputs(part)) for part in parts])
    outputs = np.concatenate([subject.net(part) for part in parts])
    probabilities = _softmax(outputs) if subject.classifies else outputs
    inputs = rows.reshape(len(rows), -1) / subject.deviations
    return Table(subject, signals.signals, scores, probabilities, inputs.astype(np.float32), len(subject.pool))


def draw(table: Table, name: str, share: float, seeds: range) -> Scene:
    """Requests are independent of each other; each is affected with probability `share`. Without a shift in the table
    none is. Every seed has a reference of its own."""
    references, streams = [], []
    for seed in seeds:
        rng = np.random.default_rng([_number(table.subject.name, name), round(100 * share), seed])
        references.append(rng.integers(table.pool, size=REFERENCE))
        stream = rng.integers(table.pool, size=CAP)
        if table.pool < len(table.scores):
            affected = rng.random(CAP) < share
            stream[affected] = rng.integers(table.pool, len(table.scores), size=int(affected.sum()))
        streams.append(stream)
    return Scene(table, np.array(references), np.array(streams), np.array(seeds))


def _number(*words: str) -> int:
    return zlib.crc32("/".join(words).encode())


def _softmax(logits: Array) -> Array:
    raised = np.exp(logits - logits.max(axis=1, keepdims=True))
    found: Array = raised / raised.sum(axis=1, keepdims=True)
    return found
