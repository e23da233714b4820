"""One batch on the engine: the parts' rows together in a bucket, and each part's own rows of the outputs."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from ..contract import Array, Arrays
from ..errors import InputError
from ..scheduling import Batch

if TYPE_CHECKING:
    from ..predict import Predictor
    from ..predict.answers import Row


class Waiter(Protocol):
    """Who is told of the outcome of a part: a future, or what is used as one."""

    def done(self) -> bool:
        """Whether nobody wants to know any more."""

    def set_result(self, result: Ran, /) -> None: ...

    def set_exception(self, error: Exception, /) -> None: ...


class Work:
    """What a part asks for: rows that are arrays already, or the numbers of one instance, still to be converted."""

    __slots__ = ("feeds", "future", "instance", "numbers")

    def __init__(
        self,
        future: Waiter,
        feeds: Arrays | None = None,
        numbers: list[Any] | None = None,
        instance: object = None,
    ) -> None:
        self.future = future
        """Gets the rows of the outputs."""
        self.feeds = feeds
        self.numbers = numbers
        """As the codec's `rows.take` gives them."""
        self.instance = instance
        """What they were taken from, for naming a fault."""


class Outputs:
    """Outputs of a batch, which its parts share, and the answers made of them."""

    def __init__(self, arrays: dict[str, Array], predictor: Predictor) -> None:
        self.arrays = arrays
        self.values = sum(array.size for array in arrays.values())
        """Numbers in all of them."""
        self._predictor = predictor

    @cached_property
    def answers(self) -> Sequence[Row]:
        """Of all rows at once, when the first part asks."""
        return self._predictor.rows(self.arrays)


@dataclass(slots=True, eq=False)
class Ran:
    """Rows of a batch's outputs, and how long they waited and ran, in seconds."""

    shared: Outputs
    rows: slice | None
    """None where the batch had no other rows: an output without a row for each sample is given whole."""
    queue_s: float
    compute_s: float
    batch: int
    """Rows that ran together."""

    @property
    def outputs(self) -> dict[str, Array]:
        if self.rows is None:
            return self.shared.arrays
        return {name: array[self.rows] for name, array in self.shared.arrays.items()}

    @property
    def spent(self) -> tuple[float, float, int]:
        return self.queue_s, self.compute_s, self.batch

    @property
    def values(self) -> int:
        """Numbers in the outputs of the whole batch."""
        return self.shared.values

    @property
    def answers(self) -> Sequence[Row]:
        return self.shared.answers if self.rows is None else self.shared.answers[self.rows]


@dataclass(slots=True, eq=False)
class Outcome:
    """What became of each part of a batch, in order, and how many seconds the engine ran; None where it failed."""

    results: list[Ran | Exception]
    seconds: float | None


class Engine:
    """Runs batches of one model. Called from as many threads at once as the operating point has streams."""

    def __init__(self, predictor: Predictor) -> None:
        self._predictor = predictor
        self._rows = predictor.codec.rows
        self._input = next(iter(predictor.contract.inputs))
        self._mixes = predictor.mixes
        self._padding = predictor.padding

    def run(self, batch: Batch) -> Outcome:
        """Never raises: a part that cannot be run fails alone."""
        try:
            return self._run(batch)
        # Want of memory for the joined rows, say. Who waits is told, and the stream is free again.
        except Exception as error:  # noqa: BLE001
            return Outcome([error] * len(batch.parts), None)

    def _run(self, batch: Batch) -> Outcome:
        works: list[Work] = [part.payload for part in batch.parts]
        waited = [part.queued for part in batch.parts]
        if (feeds := self._converted(works, batch.bucket)) is not None:
            sizes = [1] * len(works)
            outcome = self._timed(feeds, sizes, waited)
            if outcome is not None:
                return outcome
        read = [self._feeds(work) for work in works]
        return self._each(read, waited, batch.bucket)

    def _converted(self, works: list[Work], bucket: int) -> dict[str, Array] | None:
        """All rows at once where they are numbers that fit; padded with the last one, which is known to be valid."""
        numbers = [work.numbers for work in works]
        if self._rows is None or None in numbers:
            return None
        array = self._rows.convert([*numbers, *[numbers[-1]] * (bucket - len(numbers))])  # type: ignore[list-item]
        return None if array is None else {self._input: array}

    def _feeds(self, work: Work) -> Arrays | InputError:
        if work.feeds is not None:
            return work.feeds
        try:
            arrays = self._predictor.codec.instance(work.instance)
        except InputError as error:
            return error
        return {name: array[None] for name, array in arrays.items()}

    def _each(self, read: Sequence[Arrays | InputError], waited: Sequence[float], bucket: int) -> Outcome:
        """The parts that could be read, together; where that fails, each of them alone."""
        kept = [index for index, one in enumerate(read) if not isinstance(one, InputError)]
        results: list[Any] = list(read)
        parts: list[Any] = [read[index] for index in kept]
        if not parts:
            return Outcome(results, None)
        sizes = [_rows(part) for part in parts]
        queued = [waited[index] for index in kept]
        whole = self._timed(self._joined(parts, sizes, bucket), sizes, queued, parts)
        if whole is None:
            alone = [self._alone(part, at) for part, at in zip(parts, queued, strict=True)]
            whole = Outcome(alone, None)
        for index, result in zip(kept, whole.results, strict=True):
            results[index] = result
        return Outcome(results, whole.seconds)

    def _alone(self, part: Arrays, queued: float) -> Ran | Exception:
        size = _rows(part)
        try:
            feeds = self._joined([part], [size], self._predictor.bucket(size))
            return self._ran(feeds, [size], [queued], [part]).results[0]
        except Exception as error:  # noqa: BLE001 - engines raise anything; it is handed to the one who asked
            return error

    def _timed(
        self, feeds: Arrays, sizes: Sequence[int], queued: Sequence[float], parts: Sequence[Arrays] | None = None
    ) -> Outcome | None:
        """None where the engine failed: whose rows did it is found by running them alone."""
        try:
            return self._ran(feeds, sizes, queued, parts)
        except Exception:  # noqa: BLE001 - as above; what fails again alone is reported
            return None

    def _ran(
        self, feeds: Arrays, sizes: Sequence[int], queued: Sequence[float], parts: Sequence[Arrays] | None
    ) -> Outcome:
        started = time.perf_counter()
        arrays = self._predictor.run(feeds)
        seconds = time.perf_counter() - started
        outputs = Outputs(arrays, self._predictor)
        if not self._mixes:
            return Outcome([Ran(outputs, None, started - queued[0], seconds, sizes[0])], seconds)
        results: list[Ran | Exception] = []
        start, batch = 0, sum(sizes)
        for place, (size, at) in enumerate(zip(sizes, queued, strict=True)):
            ran = Ran(outputs, slice(start, start + size), started - at, seconds, batch)
            if self._padding is not None and self._padding.cuts and parts is not None:
                ran = Ran(Outputs(self._padding.unpad(ran.outputs, parts[place]), self._predictor), None, *ran.spent)
            results.append(ran)
            start += size
        return Outcome(results, seconds)

    def _joined(self, parts: Sequence[Arrays], sizes: Sequence[int], bucket: int) -> Arrays:
        """The rows one after another in arrays [bucket, ...]; what is left is padded with a row that is valid."""
        rows = sum(sizes)
        if not self._mixes or (len(parts) == 1 and rows == bucket and self._padding is None):
            return parts[0]
        if self._padding is not None:
            return self._padding.pad(parts, bucket)
        joined = {}
        for name, first in parts[0].items():
            array = np.empty((bucket, *first.shape[1:]), first.dtype)
            start = 0
            for part, size in zip(parts, sizes, strict=True):
                array[start : start + size] = part[name]
                start += size
            array[rows:] = array[rows - 1]
            joined[name] = array
        return joined


def _rows(feeds: Arrays) -> int:
    return len(next(iter(feeds.values())))
