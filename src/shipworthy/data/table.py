"""Tables: the columns of a .parquet file to arrays by input name."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ..contract import Array, Contract, RecordEncode
from ..contract.faults import nearest, quoted
from ..encode import Codec
from ..errors import DataError, InputError, MissingExtra
from .dataset import Dataset
from .gather import TARGETS, Entry, gather

if TYPE_CHECKING:
    import pyarrow as pa  # type: ignore[import-untyped]


def read_parquet(path: Path, contract: Contract) -> Dataset:
    """Columns to inputs, and `label` or `target`. An input is fed by

    * the column of its name: numbers, or (nested) lists of numbers, of one length or of several
    * the columns of a record's fields, where the contract has a record encoder for it
    * a column of texts named like a text encoder

    Raises DataError, or MissingExtra without pyarrow."""
    table = _table(path)
    if table.num_rows == 0:
        raise DataError(str(path), "has no rows", "give at least one")
    columns: dict[str, list[Array] | Array] = {}
    for name in contract.inputs:
        if name in table.column_names:
            columns[name] = _column(table, name, path, tuple(_fixed(contract, name)))
    columns |= _encoded(table, contract, path, set(columns))
    for name in contract.inputs:
        if name not in columns:
            raise _missing(table, contract, path, name)
    target = next((name for name in TARGETS if name in table.column_names and name not in contract.inputs), None)
    targets = None if target is None else _column(table, target, path, ())
    return gather(_entries(columns, targets), contract, str(path), numbers=True)


def _table(path: Path) -> pa.Table:
    try:
        import pyarrow as pa
        import pyarrow.parquet as pq  # type: ignore[import-untyped]
    except ModuleNotFoundError as error:
        raise MissingExtra(f"reading {path.name}", "pyarrow", "build") from error
    try:
        return pq.read_table(path)
    except (pa.ArrowException, OSError) as error:
        raise DataError(str(path), f"is no readable Parquet file: {error}", "write it again") from error


def _fixed(contract: Contract, name: str) -> Iterator[int]:
    """The sizes of an input's axes behind the batch, where all are fixed: a flat list can be put into that shape."""
    sizes = contract.inputs[name].shape[1:]
    if all(isinstance(size, int) for size in sizes):
        yield from (size for size in sizes if isinstance(size, int))


def _column(table: pa.Table, name: str, path: Path, shape: tuple[int, ...]) -> list[Array] | Array:
    """[n, ...] where all rows have one shape, else an array for each row."""
    import pyarrow as pa

    column = table.column(name).combine_chunks()
    if column.null_count:
        raise DataError(f"{path}: {name}", f"has {column.null_count} empty values", "fill or drop those rows")
    if isinstance(column.type, pa.FixedShapeTensorType):
        tensors: Array = column.to_numpy_ndarray()
        return tensors
    if not pa.types.is_nested(column.type):
        flat: Array = column.to_numpy(zero_copy_only=False)
        return flat
    try:
        rows = [np.asarray(row) for row in column.to_pylist()]
    except ValueError as error:
        raise DataError(f"{path}: {name}", "has lists of different lengths inside a row", "make them equal") from error
    if any(row.dtype == object for row in rows):
        raise DataError(f"{path}: {name}", "has empty values inside its lists", "fill or drop those rows")
    if shape and all(row.shape == (int(np.prod(shape)),) for row in rows):
        rows = [row.reshape(shape) for row in rows]
    return np.stack(rows) if len({row.shape for row in rows}) == 1 else rows


def _encoded(table: pa.Table, contract: Contract, path: Path, fed: set[str]) -> dict[str, list[Array] | Array]:
    """What the contract's encoders make of the columns that they need, for inputs that no column feeds itself."""
    columns: dict[str, list[Array] | Array] = {}
    for name, encode in contract.encode.items():
        if isinstance(encode, RecordEncode):
            target = encode.feeds[0] if encode.feeds else next(iter(contract.inputs))
            if target not in fed and set(encode.fields) <= set(table.column_names):
                fields = [_column(table, field, path, ()) for field in encode.fields]
                columns[target] = _record(fields, encode, contract.inputs[target].shape, path)
        elif name in table.column_names and not fed.intersection(encode.feeds):
            texts = _column(table, name, path, ())
            columns |= _texts(name, list(texts), _codec(contract, name, encode.feeds), path)
    return columns


def _record(fields: list[Any], encode: RecordEncode, shape: tuple[Any, ...], path: Path) -> Array:
    for name, field in zip(encode.fields, fields, strict=True):
        if not isinstance(field, np.ndarray) or field.ndim != 1 or field.dtype.kind not in "biuf":
            raise DataError(f"{path}: {name}", "is no column of numbers", "a record's fields are numbers")
    return np.stack(fields, axis=-1).reshape(-1, *[1 for _ in shape[1:-1]], len(fields))


def _codec(contract: Contract, name: str, feeds: tuple[str, ...]) -> Codec:
    """A codec for this one encoder: what it does not feed may come from other columns."""
    parts = {"inputs": {fed: contract.inputs[fed] for fed in feeds}, "encode": {name: contract.encode[name]}}
    return Codec(contract.model_copy(update=parts), contract.root)


def _texts(name: str, texts: list[Any], codec: Codec, path: Path) -> dict[str, list[Array] | Array]:
    try:
        rows = [codec.instance({name: text}, index) for index, text in enumerate(texts)]
    except InputError as error:
        problem = error.problems[0]
        raise DataError(f"{path}: {name}", f"row {problem.sample_index}: {problem.reason}") from error
    return {fed: [row[fed] for row in rows] for fed in rows[0]}


def _entries(columns: dict[str, list[Array] | Array], targets: list[Array] | Array | None) -> Iterator[Entry]:
    """One batch where every column has one shape, else a batch of one for each row."""
    whole = {name: column for name, column in columns.items() if isinstance(column, np.ndarray)}
    if len(whole) == len(columns) and not isinstance(targets, list):
        yield Entry(whole, targets)
        return
    for row in range(len(next(iter(columns.values())))):
        inputs = {name: np.asarray(column[row])[None] for name, column in columns.items()}
        yield Entry(inputs, None if targets is None else np.asarray(targets[row])[None])


def _missing(table: pa.Table, contract: Contract, path: Path, name: str) -> DataError:
    columns = table.column_names
    for encode in contract.encode.values():
        if isinstance(encode, RecordEncode) and set(encode.fields) & set(columns):
            absent = [field for field in encode.fields if field not in columns]
            near = nearest(absent[0], columns)
            remedy = f'rename "{near}"' if near else "add it"
            return DataError(str(path), f"has no column {quoted(absent, 'and')} of the record", remedy)
    near = nearest(name, columns)
    shown = quoted(columns[:12], "and") + (", ..." if len(columns) > 12 else "")
    remedy = f'rename "{near}" to "{name}"' if near else f'name the column of this input "{name}"'
    return DataError(str(path), f'has no column "{name}"; there is {shown}', remedy)
