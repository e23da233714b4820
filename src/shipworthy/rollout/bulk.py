"""Labels from a file: CSV, or Parquet where pyarrow is installed."""

from __future__ import annotations

import csv
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..errors import FeedbackError, MissingExtra
from ..predict.ids import read_id, tag_of
from .labels import Labels
from .losses import Loss, show
from .remembering import Outcome, Taken

if TYPE_CHECKING:
    from ..registry import Registry

AT_ONCE = 1000
"""Rows that are read before their labels are taken."""
NAMED = 10
"""So many rows that are wrong are kept by their line."""
WRONG: frozenset[Outcome] = frozenset(("forged", "unknown-model", "unusable", "contradictory"))

_ID, _LABEL, _LOSS = "prediction_id", "label", "loss"


@dataclass(frozen=True, slots=True)
class Row:
    """One row of a file. Its label is what the file says, a `Loss`, or a `Taken` that says why it is neither."""

    line: int
    """In a CSV file; in a Parquet file the number of the row, from 1."""
    sealed: str
    label: object


@dataclass(slots=True)
class Received:
    """What became of a file's rows."""

    rows: int = 0
    outcomes: Counter[Outcome] = field(default_factory=Counter)
    wrong: list[tuple[int, Taken]] = field(default_factory=list)
    """The first of those that were not taken, with their line."""

    @property
    def usable(self) -> bool:
        return any(outcome not in WRONG for outcome in self.outcomes)


def take_file(
    registry: Registry, key: bytes, path: Path, *, model: str | None = None, tell: Callable[[int], None] | None = None
) -> Received:
    """Take every row of a file with the columns `prediction_id` and `label` or `loss`.

    `model`: whose predictions they are; by default each id says it. `tell` is called with the number of rows that are
    done. Raises FeedbackError where the file cannot be read, MissingExtra for Parquet without pyarrow, RegistryError
    where the registry cannot be reached: a file may be sent again, and what was taken is a duplicate then."""
    labels = Labels(registry, key)
    names = {tag_of(one.name): one.name for one in registry.models()}
    received = Received()
    rows = read_rows(path)
    while part := list(islice(rows, AT_ONCE)):
        taken: dict[int, Taken] = {}
        asked: dict[str, list[Row]] = defaultdict(list)
        for row in part:
            whose = row.label if isinstance(row.label, Taken) else model or _model_of(key, row.sealed, names)
            if isinstance(whose, Taken):
                taken[row.line] = whose
            else:
                asked[whose].append(row)
        for name, given in asked.items():
            found = labels.take(name, [(row.sealed, row.label) for row in given])
            taken.update({row.line: one for row, one in zip(given, found, strict=True)})
        _account(received, [(row.line, taken[row.line]) for row in part])
        if tell is not None:
            tell(received.rows)
    labels.settle()
    if not received.rows:
        raise FeedbackError(str(path), "has no rows", "give predictions with their labels")
    return received


def read_rows(path: Path) -> Iterator[Row]:
    """The rows of a `.csv` or `.parquet` file, as it is read."""
    readers = {".csv": _csv, ".parquet": _parquet}
    if path.suffix.lower() not in readers:
        raise FeedbackError(str(path), "is neither .csv nor .parquet", "give a file of one of these kinds")
    try:
        yield from readers[path.suffix.lower()](path)
    except OSError as error:
        raise FeedbackError(str(path), f"cannot be read: {error.strerror or error}", "check the path") from None


def _csv(path: Path) -> Iterator[Row]:
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            reader = csv.DictReader(file)
            _check_columns(path, reader.fieldnames or ())
            for row in reader:
                yield _row(reader.line_num, row.get(_ID), row.get(_LABEL) or None, row.get(_LOSS) or None)
    except (UnicodeDecodeError, csv.Error) as error:
        raise FeedbackError(str(path), f"is no CSV in UTF-8: {error}", "write it again") from None


def _parquet(path: Path) -> Iterator[Row]:
    try:
        import pyarrow  # type: ignore[import-untyped]
        import pyarrow.parquet  # type: ignore[import-untyped]
    except ModuleNotFoundError:
        raise MissingExtra("labels from a Parquet file", "pyarrow", "build") from None
    try:
        with pyarrow.parquet.ParquetFile(path) as file:
            columns = [name for name in file.schema_arrow.names if name in (_ID, _LABEL, _LOSS)]
            _check_columns(path, columns)
            number = 0
            for batch in file.iter_batches(AT_ONCE, columns=columns):
                for row in batch.to_pylist():
                    number += 1
                    yield _row(number, row.get(_ID), row.get(_LABEL), row.get(_LOSS))
    except pyarrow.ArrowException as error:
        raise FeedbackError(str(path), f"is no Parquet file: {error}", "write it again") from None


def _check_columns(path: Path, names: Any) -> None:
    if _ID in names and (_LABEL in names or _LOSS in names):
        return
    has = ", ".join(map(str, names)) or "none"
    raise FeedbackError(
        str(path), f"has not the columns that are needed; it has {has}", f"{_ID}, and {_LABEL} or {_LOSS}"
    )


def _row(line: int, sealed: object, label: object, loss: object) -> Row:
    if (label is None) == (loss is None):
        said: object = Taken(
            "unusable", "has a label and a loss" if label is not None else "has neither label nor loss"
        )
    elif loss is not None:
        said = _loss(loss)
    else:
        said = label
    return Row(line, sealed if isinstance(sealed, str) else "", said)


def _loss(text: Any) -> object:
    try:
        return Loss(float(text))
    # A column of a Parquet file may have lists, and decimals beyond any float.
    except (ValueError, TypeError, OverflowError):
        return Taken("unusable", f"the loss {show(text)} is no number")
    except FeedbackError as error:
        return Taken("unusable", f"{error.culprit} {error.reason}; {error.remedy}")


def _model_of(key: bytes, sealed: str, names: dict[bytes, str]) -> str | Taken:
    try:
        tag = read_id(key, sealed).model_tag
    except FeedbackError as error:
        return Taken("forged", error.reason)
    return names.get(tag) or Taken("unknown-model", "the id is of a model that this registry does not have")


def _account(received: Received, done: list[tuple[int, Taken]]) -> None:
    received.rows += len(done)
    received.outcomes.update(one.outcome for _, one in done)
    wrong = [(line, one) for line, one in done if one.outcome in WRONG]
    received.wrong += wrong[: NAMED - len(received.wrong)]
