"""One batch on the engine: the parts' rows together in a bucket, and each part's own rows of the outputs."""

from __future__ import annotations

import logging
import time
from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import accumulate
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from ..contract import Array, Arrays
from ..errors import InputError
from ..scheduling import Batch

if TYPE_CHECKING:
    from ..predict import Predictor
    from ..predict.answers import Row
    from .routing import Watch

_LOG = logging.getLogger("shipworthy.server")


class Waiter(Protocol):
    """Who is told of the outcome of a part: a future, or what is used as one."""

    def done(self) -> bool:
        """Whether nobody wants to know any more."""

    def set_result(self, result: Ran, /) -> None: ...

    def set_exception(self, error: Exception, /) -> None: ...


class Work:
    """What a part asks for: rows that are arrays already, or the numbers of one instance, still to be converted."""

    __slots__ = ("__weakref__", "feeds", "future", "instance", "numbers")

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
class Run:
    """One run of the engine."""

    rows: int
    bucket: int
    """Rows that the engine was given: these, and padding."""
    waited: list[float]
    """Seconds, of each part that was in it."""
    seconds: float = 0.0
    failed: bool = True


@dataclass(slots=True, eq=False)
class Outcome:
    """What became of each part of a batch, in order, and what was run for it."""

    results: Sequence[Ran | Exception]
    runs: list[Run]
    bucket: int
    """Rows that the batch was to be run with."""

    @property
    def seconds(self) -> float | None:
        """Of the run where one served all parts, from which may be learned what a batch costs; None where that failed,
        or where nothing ran."""
        if len(self.runs) != 1:
            return None
        run = self.runs[0]
        # Where there is no memory for all rows together, there may be for a half of them.
        return None if run.failed or run.bucket != self.bucket else run.seconds

    @property
    def spent(self) -> float:
        """Seconds of all runs together, those that failed among them."""
        return sum(run.seconds for run in self.runs)


class Engine:
    """Runs batches of one model. Called from as many threads at once as the operating point has streams."""

    def __init__(self, predictor: Predictor, watch: Watch | None = None) -> None:
        """`watch` is told of every batch, and shown the rows that it wants."""
        self._predictor = predictor
        self._watch = watch
        self._rows = predictor.codec.rows
        self._input = next(iter(predictor.contract.inputs))
        self._mixes = predictor.mixes
        self._padding = predictor.padding

    def run(self, batch: Batch) -> Outcome:
        """Never raises: a part that cannot be run fails alone.

        Parts that fail together are run again in two halves, and these likewise: where one of n breaks the engine, the
        others are answered after at most 2 ceil(log2(n)) + 1 runs; where all do, 2n - 1 runs say so."""
        runs: list[Run] = []
        try:
            return Outcome(self._results(batch, runs), runs, batch.bucket)
        # Want of memory for the joined rows, say. Who waits is told, and the stream is free again.
        except Exception as error:  # noqa: BLE001
            return Outcome([error] * len(batch.parts), runs, batch.bucket)

    def _results(self, batch: Batch, runs: list[Run]) -> Sequence[Ran | Exception]:
        works: list[Work] = [part.payload for part in batch.parts]
        queued = [part.queued for part in batch.parts]
        if (feeds := self._converted(works, batch.bucket)) is not None:
            try:
                return self._ran(feeds, [1] * len(works), queued, batch.bucket, runs)
            except Exception as error:  # noqa: BLE001 - engines raise anything; what fails again alone is reported
                if len(works) == 1:
                    return [error]
            array = feeds[self._input]
            return self._halved([{self._input: array[row : row + 1]} for row in range(len(works))], queued, runs)
        results: list[Any] = [self._feeds(work) for work in works]
        kept = [place for place, one in enumerate(results) if not isinstance(one, InputError)]
        if kept:
            parts: list[Arrays] = [results[place] for place in kept]
            ran = self._together(parts, [queued[place] for place in kept], batch.bucket, runs)
            for place, result in zip(kept, ran, strict=True):
                results[place] = result
        return results

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

    def _together(
        self, parts: Sequence[Arrays], queued: Sequence[float], bucket: int, runs: list[Run]
    ) -> Sequence[Ran | Exception]:
        """The parts in one run; where that fails, in two halves."""
        sizes = [_rows(part) for part in parts]
        try:
            return self._ran(self._joined(parts, sizes, bucket), sizes, queued, bucket, runs, parts)
        except Exception as error:  # noqa: BLE001 - engines raise anything; it is handed to the one who asked
            if len(parts) == 1:
                return [error]
        # Not within the handler: an error would bring along those before it, and with them the rows of others.
        return self._halved(parts, queued, runs)

    def _halved(self, parts: Sequence[Arrays], queued: Sequence[float], runs: list[Run]) -> Sequence[Ran | Exception]:
        results: list[Ran | Exception] = []
        middle = len(parts) // 2
        for half in (slice(middle), slice(middle, None)):
            bucket = self._predictor.bucket(sum(map(_rows, parts[half])))
            results += self._together(parts[half], queued[half], bucket, runs)
        return results

    def _ran(
        self,
        feeds: Arrays,
        sizes: Sequence[int],
        queued: Sequence[float],
        bucket: int,
        runs: list[Run],
        parts: Sequence[Arrays] | None = None,
    ) -> Sequence[Ran | Exception]:
        started = time.perf_counter()
        run = Run(sum(sizes), bucket, [started - at for at in queued])
        runs.append(run)
        try:
            arrays = self._predictor.run(feeds)
        finally:
            run.seconds = time.perf_counter() - started
        results = self._cut(Outputs(arrays, self._predictor), sizes, run, parts)
        run.failed = False
        if self._watch is not None and (wanted := self._watch.ran(run.rows)) is not None:
            self._show(self._watch, wanted, feeds, results, sizes, run, parts if self._padding is not None else None)
        return results

    def _show(
        self,
        watch: Watch,
        wanted: Sequence[int],
        feeds: Arrays,
        results: Sequence[Ran],
        sizes: Sequence[int],
        run: Run,
        padded: Sequence[Arrays] | None,
    ) -> None:
        """Show rows as they came: of the batch, or of the parts of one that was `padded` in other dimensions too."""
        # Where each part has one row, its place is that of the row.
        ends = None if len(sizes) == run.rows else list(accumulate(sizes))
        try:
            for row in wanted:
                place = row if ends is None else bisect_right(ends, row)
                seconds = run.waited[place] + run.seconds
                if padded is None:
                    watch.take(feeds, results[0].shared.arrays, row, seconds)
                else:
                    first = row if ends is None else ends[place] - sizes[place]
                    watch.take(padded[place], results[place].outputs, row - first, seconds)
        # The rows have their answers; that nobody sees them is no reason to take these back.
        except Exception as error:  # noqa: BLE001
            self._watch = None
            _LOG.critical("a version is watched no more", exc_info=error)

    def _cut(self, outputs: Outputs, sizes: Sequence[int], run: Run, parts: Sequence[Arrays] | None) -> list[Ran]:
        """Each part's own rows of the outputs."""
        if not self._mixes:
            return [Ran(outputs, None, run.waited[0], run.seconds, run.rows)]
        results: list[Ran] = []
        start = 0
        for place, (size, waited) in enumerate(zip(sizes, run.waited, strict=True)):
            ran = Ran(outputs, slice(start, start + size), waited, run.seconds, run.rows)
            if self._padding is not None and self._padding.cuts and parts is not None:
                ran = Ran(Outputs(self._padding.unpad(ran.outputs, parts[place]), self._predictor), None, *ran.spent)
            results.append(ran)
            start += size
        return results

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
