"""Both detectors of drift on one reference: bets on each scored row, and a test of each window."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from ..contract import Array
from ..signals.reference import Reference
from .evidence import Bins, Detector
from .evidence.windows import WindowResult, WindowTests
from .options import MonitorOptions

BLOCK = 250
"""Rows that are worked out at once."""
AT_HAND = 1000
"""Rows whose values are kept, or as many as four windows have, to say what has moved and by how much."""


@dataclass(frozen=True, slots=True)
class Step:
    """What a block of rows has brought."""

    evidence: float
    """The largest of the sequential detector over its threshold."""
    crossed: int | None
    """The row of the block after which it was 1 or more, the first one; None where there is none."""
    windows: Sequence[WindowResult]
    """Of the window that is full with this block, and of those that are tested together with it."""

    @property
    def log_p(self) -> float | None:
        """-log10 of the smallest corrected p-value of that window."""
        smallest = [each.corrected.min() for each in self.windows if len(each.corrected)]
        return float(-np.log10(max(min(smallest), 1e-300))) if smallest else None


class Drift:
    """Fed in the order of arrival, with blocks that `room` allows."""

    def __init__(self, reference: Reference, options: MonitorOptions, seed: int) -> None:
        """Raises MonitorError where the reference is too small. `seed` must differ between nodes: it decides ties."""
        self._bins = Bins.of(reference.scores, reference.signals)
        self._detector = Detector(self._bins.counts, options.run_length, options.nodes)
        self._tests = WindowTests(
            reference.scores, reference.signals, options.window, options.window_rate, seed=int(seed % 2**63)
        )
        self._random = np.random.default_rng([seed, 1])
        self.window, self.span = options.window, self._tests.span
        self._values = np.full((max(AT_HAND, self.span), len(reference.signals)), np.nan)
        self._known = self._next = 0
        self.filled = 0
        """Rows since those windows began that are tested together."""
        self.last: WindowResult | None = None
        """Of the last full window by itself."""

    @property
    def room(self) -> int:
        """Rows that `feed` takes."""
        return min(BLOCK, self.window - self.filled % self.window)

    def feed(self, values: Array) -> Step:
        """Rows [n, signals], at most `room`."""
        evidence = self._detector.update(self._bins.place(values, self._random))
        over = np.flatnonzero(evidence >= 1)
        self._remember(values)
        self.filled += len(values)
        windows: list[WindowResult] = []
        if not self.filled % self.window:
            windows = self._tests.test(self.latest(self.filled))
            self.last = windows[0]
            self.filled %= self.span
        return Step(float(evidence.max()), int(over[0]) if len(over) else None, windows)

    def _remember(self, values: Array) -> None:
        size = len(self._values)
        self._values[(self._next + np.arange(len(values))) % size] = values
        self._next = (self._next + len(values)) % size
        self._known = min(self._known + len(values), size)

    def latest(self, rows: int) -> Array:
        """The values of the last rows [at most `rows`, signals], as far as they are at hand."""
        count = min(rows, self._known)
        found: Array = self._values[(self._next - count + np.arange(count)) % len(self._values)]
        return found

    @property
    def by_signal(self) -> Array:
        """The sequential evidence of each signal, [signals]; 0 where nothing is bet on it."""
        found = np.zeros(self._values.shape[1])
        found[self._bins.columns] = self._detector.by_signal
        return found

    @property
    def began(self) -> int:
        """So many rows ago the change is estimated to have begun."""
        return int(self._detector.began)

    def reset(self, *, window: bool) -> None:
        """Begin anew, the windowed test or the sequential detector, as after an alarm that somebody has seen to."""
        if window:
            self.filled, self.last = 0, None
        else:
            self._detector.reset()

    def state(self, *, values: bool) -> dict[str, Array]:
        """All that `restore` needs. Without `values` nothing of a single row is in it: the window that is not full
        yet begins anew."""
        found = {f"detector/{name}": np.asarray(array) for name, array in self._detector.state().items()}
        if values:
            found["values"] = self.latest(len(self._values))
        return found

    def shapes(self) -> dict[str, tuple[str, tuple[int, ...]]]:
        """What `restore` wants: the kind of the numbers and the shape, by name."""
        arrays = self._detector.state()
        return {f"detector/{name}": (array.dtype.kind, array.shape) for name, array in arrays.items()}

    def restore(
        self,
        arrays: Mapping[str, Array],
        random: Sequence[Mapping[str, object]],
        filled: int,
        last: WindowResult | None,
    ) -> None:
        """Go on where `state` was taken, which has been checked."""
        prefix = "detector/"
        self._detector.restore({n.removeprefix(prefix): a for n, a in arrays.items() if n.startswith(prefix)})
        for generator, state in zip(self._generators, random, strict=True):
            generator.bit_generator.state = dict(state)
        if "values" in arrays and len(arrays["values"]):
            self._remember(arrays["values"][-len(self._values) :])
            self.filled = min(filled, self._known)
        self.last = last

    @property
    def random(self) -> list[Mapping[str, object]]:
        """The states of what decides ties, and resamples."""
        return [generator.bit_generator.state for generator in self._generators]

    @property
    def _generators(self) -> tuple[np.random.Generator, ...]:
        return self._random, *self._tests.randoms
