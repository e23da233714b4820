"""A package opened for use: arrays or instances in, arrays or answers out."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Sequence
from types import TracebackType

import numpy as np

from ..contract import Array, Arrays
from ..encode import Codec, Padding, stack
from ..errors import InputError, Problem
from ..package import Package, Variant
from ..runtime.protocol import OperatingPoint, Runner
from .answers import Answer, Answers, Naming, Row
from .costs import stated_costs
from .memory import give_back
from .requests import read_request


class Predictor:
    """One variant of a package, ready. Safe to use from several threads; a context manager.

    The same rows in a batch of the same size give bit-identical outputs, alone or beside other calls."""

    def __init__(
        self,
        package: Package,
        variant: Variant,
        runner: Runner,
        *,
        point: OperatingPoint,
        passed_over: Sequence[tuple[str, str]] = (),
        version: str | None = None,
        codec: Codec | None = None,
    ) -> None:
        """Takes over `package` and `runner`: closing the predictor closes both.

        Raises ContractError where the package's encoders or outputs cannot be used as its contract says."""
        self.package = package
        self.manifest = package.manifest
        self.contract = package.contract
        self.variant = variant
        self.point = point
        """Streams, threads and batch that the variant was opened with."""
        self.passed_over = tuple(passed_over)
        """Id and reason of each variant that was preferred, and could not or may not be used."""
        self.version = version if version is not None else package.digest[:12]
        """The registry's version; for a package from elsewhere, the first 12 digits of its digest."""
        self.codec = Codec(self.contract, package.root) if codec is None else codec
        self.stated_costs = stated_costs(variant)
        """Seconds of a batch by its size, rising: as they were measured where the package was built."""
        self.batch_sizes = tuple(self.stated_costs)
        """Batch sizes that were measured, rising; `run` never uses a larger one than the last."""
        self.costs: dict[int, float] | None = None
        """The same on this host, with all streams busy; None until `calibrate` has measured it."""
        self._runner = runner
        self._answers = Answers(self.contract, version=self.version, variant=variant.id)
        self._in_chunks = all(spec.batched for spec in self.contract.outputs.values())
        self.mixes = self._in_chunks
        """Whether rows of several requests may run together, and padding beside them: every output has a row for each
        sample, and none of them shows in another's. `load` tries the latter."""
        self._padding = Padding.of(self.contract)

    @property
    def padding(self) -> Padding | None:
        """How rows of different sizes share a batch; None where only rows of equal sizes do."""
        return self._padding if self.mixes else None

    @property
    def notes(self) -> tuple[str, ...]:
        """What callers cannot send here, and why, such as a library that is not installed; and what slows them."""
        if self.mixes or not self._in_chunks:
            return self.codec.notes
        return (
            *self.codec.notes,
            "requests do not share batches: in this variant the rows of a batch show in one another",
        )

    def run(self, feeds: Arrays) -> dict[str, Array]:
        """Outputs by name for inputs [batch, ...] by name; a batch beyond the largest measured one is run in chunks.

        Raises InputError where names, dtypes or shapes do not fit, EngineError where the engine fails."""
        most = self.batch_sizes[-1]
        if not (self._in_chunks and _have_more_rows(feeds, most)):
            return self._runner.run(feeds)
        rows = len(next(iter(feeds.values())))
        parts = [
            self._runner.run({name: array[start : start + most] for name, array in feeds.items()})
            for start in range(0, rows, most)
        ]
        return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}

    def bucket(self, rows: int) -> int:
        """The smallest measured batch size that holds `rows`; the largest where none does."""
        return self.batch_sizes[min(bisect_left(self.batch_sizes, rows), len(self.batch_sizes) - 1)]

    def rows(self, outputs: Arrays) -> list[Row]:
        """What becomes of each row of `run`'s outputs: an answer without id and stamp, or why there is none."""
        return self._answers.rows(outputs)

    def answer(self, outputs: Arrays, *, round: int | None = None) -> list[Answer]:  # noqa: A002
        """One answer for each row of `run`'s outputs. Raises InputError where an answer is not finite."""
        return self._answers.of(self.rows(outputs), round=round)

    def encode(
        self,
        rows: Sequence[Row],
        *,
        many: bool,
        round: int | None = None,  # noqa: A002
        naming: Naming | None = None,
    ) -> bytes:
        """The answers of one request's rows as JSON, as `predict` gives them: that of the only row, or `many`, with
        the ids that `naming` gives.

        Raises InputError, with the place among `rows`, that names every row without one."""
        return self._answers.encode(rows, many=many, round=round, naming=naming)

    def predict(self, value: object, *, round: int | None = None) -> Answer:  # noqa: A002
        """Answer one instance (a mapping, or a bare value where the model has one input) or many.

        Many come as `{"instances": [...]}` or a list, and are answered as `{"predictions": [...]}`, each with its
        `sample_index`. `round` rounds every float. Raises InputError that names every fault of every instance."""
        _check_round(round)
        request = read_request(value, self.contract, self.codec.fields)
        answers = self._answers.of(self._rows_of(self.codec.instances(request.instances)), round=round)
        if not request.many:
            return answers[0]
        return {"predictions": [{"sample_index": index, **answer} for index, answer in enumerate(answers)]}

    def predict_image(self, data: bytes, *, round: int | None = None) -> Answer:  # noqa: A002
        """Answer the bytes of one PNG or JPEG file. Raises InputError where the model takes none."""
        _check_round(round)
        name = self.codec.accepts_image
        if name is None:
            raise InputError([Problem(0, "image", "this model takes no image")])
        rows = self._rows_of([{name: self.codec.image(name, data)}])
        return self._answers.of(rows, round=round)[0]

    def _rows_of(self, instances: Sequence[dict[str, Array]]) -> list[Row]:
        found: dict[int, Row] = {}
        for places, feeds in stack(instances):
            found.update(zip(places, self.rows(self.run(feeds)), strict=True))
        return [found[place] for place in range(len(instances))]

    def close(self) -> None:
        """Free the engine, and remove the private folder of a `.ship` file. A second call does nothing."""
        self._runner.close()
        self.package.close()
        give_back()

    def __enter__(self) -> Predictor:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close()


def _check_round(digits: int | None) -> None:
    if digits is not None and (isinstance(digits, bool) or not isinstance(digits, int) or not 0 <= digits <= 17):
        raise InputError([Problem(0, "round", f"expected a number of digits from 0 to 17, got {digits!r}")])


def _have_more_rows(feeds: Arrays, most: int) -> bool:
    """Whether all arrays have the same number of rows, more than `most`. Costs half a microsecond where they have not,
    and leaves it to the runner's gate to say what is wrong with anything else."""
    try:
        rows = max(map(len, feeds.values()))
    except (TypeError, ValueError, AttributeError):
        return False
    return rows > most and all(isinstance(array, np.ndarray) and len(array) == rows for array in feeds.values())
