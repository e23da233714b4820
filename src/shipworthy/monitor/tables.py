"""Rows of a file in their order, some thousand at a time: .npz, .safetensors, .parquet and .csv.

Arrays and columns are named like the inputs; a record's fields and texts that the contract encodes may be columns of
their own. A number that a table does not have is NaN, which is something to be seen. Nothing in a file is executed."""

from __future__ import annotations

import csv
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np

from ..contract import Array, Contract, RecordEncode, TensorSpec
from ..contract.faults import nearest, quoted
from ..encode import Codec
from ..encode.stacking import stack
from ..errors import DataError, InputError, MissingExtra

BLOCK = 2000
"""Rows."""
LABELS = ("label", "target", "labels", "targets")
"""Columns that are taken as the truth where none is named."""
Table: TypeAlias = Mapping[str, Any]
"""Columns of some rows: arrays [n, ...], or lists of anything."""


class Words(list[str]):
    """A column of a CSV file: numbers where numbers are wanted, whatever the rows of a block look like; else texts."""


@dataclass(frozen=True, slots=True)
class Block:
    """Consecutive rows."""

    groups: list[tuple[Array, dict[str, Array]]]
    """Which rows have one shape, int64 [k], and the inputs [k, ...] of those."""
    labels: Array | None
    """[rows], as they are in the file."""


def blocks(path: Path, contract: Contract, codec: Codec, label: str | None = None) -> Iterator[Block]:
    """Every row of a file. Raises DataError where it cannot be read or does not fit, MissingExtra without pyarrow."""
    reader = _READERS.get(path.suffix.lower())
    if reader is None:
        raise DataError(str(path), "is of no kind that can be read", f"give a file that ends in {quoted(_READERS)}")
    if not path.is_file():
        raise DataError(str(path), "is no file", "check the path")
    for table in reader(path):
        yield _block(table, contract, codec, label, path)


def _block(table: Table, contract: Contract, codec: Codec, label: str | None, path: Path) -> Block:
    label = label or next((name for name in LABELS if name in table and name not in contract.inputs), None)
    if label is not None and label not in table:
        raise DataError(str(path), f"has no column {label!r}", f"there is {quoted(list(table)[:12], 'and')}")
    labels = None if label is None else np.asarray(table[label])
    encoded = _encoded(table, contract, codec, path)
    columns = {name: encoded.get(name, table.get(name)) for name in contract.inputs}
    for name, column in columns.items():
        if column is None:
            near = nearest(name, list(table))
            remedy = f'rename "{near}" to "{name}"' if near else f'name the column of this input "{name}"'
            shown = quoted(list(table)[:12], "and") + (", ..." if len(table) > 12 else "")
            raise DataError(str(path), f'has no column "{name}"; there is {shown}', remedy)
    given = {name: column for name, column in columns.items() if column is not None}
    arrays = {name: _whole(column, contract.inputs[name], f"{path}: {name}") for name, column in given.items()}
    whole = {name: array for name, array in arrays.items() if array is not None}
    count = _equal(given if labels is None else {**given, "labels": labels}, path)
    if len(whole) == len(arrays):
        return Block([(np.arange(count), whole)], labels)
    rows = [
        {
            name: whole[name][place] if name in whole else _row(given[name][place], spec, f"{path}: {name}")
            for name, spec in contract.inputs.items()
        }
        for place in range(count)
    ]
    return Block([(np.array(places), feeds) for places, feeds in stack(rows)], labels)


def _equal(columns: Mapping[str, Sequence[Any] | Array], path: Path) -> int:
    counts = {name: len(column) for name, column in columns.items()}
    if len(set(counts.values())) > 1:
        said = ", ".join(f"{count} of {name}" for name, count in counts.items())
        raise DataError(str(path), f"has {said}", "give every input as many rows")
    return next(iter(counts.values()))


def _whole(column: Any, spec: TensorSpec, culprit: str) -> Array | None:
    """[n, ...] of one shape that fits; None where rows differ in it."""
    if isinstance(column, Words):
        column = _number(column, culprit)
    elif isinstance(column, list):
        if not all(isinstance(value, int | float | bool | None) for value in column):
            return None
        column = np.array([np.nan if value is None else value for value in column])
    array = np.asarray(column)
    sizes = [size for size in spec.shape[1:] if isinstance(size, int)]
    if len(sizes) == len(spec.shape) - 1 and array[:1].size == np.prod(sizes):
        array = array.reshape(len(array), *sizes)
    return _fitting(array, spec, culprit)


def _row(value: Any, spec: TensorSpec, culprit: str) -> Array:
    try:
        array = np.asarray(value)
    except ValueError:
        raise DataError(culprit, "has lists of different lengths inside a row", "make them equal") from None
    sizes = [size for size in spec.shape[1:] if isinstance(size, int)]
    if len(sizes) == len(spec.shape) - 1 and array.size == np.prod(sizes):
        array = array.reshape(sizes)
    row: Array = _fitting(array[None], spec, culprit)[0]
    return row


def _fitting(array: Array, spec: TensorSpec, culprit: str) -> Array:
    if array.dtype.kind not in "biuf":
        raise DataError(culprit, f"holds {array.dtype}, and no numbers", f"expected {spec.show()}")
    with np.errstate(invalid="ignore", over="ignore"):
        cast = array.astype(spec.numpy)
        if spec.numpy.kind in "iub" and not np.array_equal(cast.astype(array.dtype), array):
            raise DataError(culprit, f"has {array.dtype} values that {spec.dtype} does not hold", "fill or drop them")
    misfit = spec.misfit(cast[0], instance=True) if len(cast) else None
    if misfit is not None:
        raise DataError(culprit, misfit, "give what the model takes")
    return np.ascontiguousarray(cast)


def _encoded(table: Table, contract: Contract, codec: Codec, path: Path) -> dict[str, Any]:
    """What the contract's encoders make of the columns that they need, for inputs that no column feeds itself."""
    columns: dict[str, Any] = {}
    for name, encode in contract.encode.items():
        if isinstance(encode, RecordEncode):
            fed = encode.feeds[0] if encode.feeds else next(iter(contract.inputs))
            if fed not in table and set(encode.fields) <= set(table):
                fields = [_number(table[field], f"{path}: {field}") for field in encode.fields]
                columns[fed] = np.stack(fields, axis=-1)
        elif name in table and not set(encode.feeds) & set(table):
            try:
                rows = codec.of_field(name).instances([{name: text} for text in list(table[name])])
            except InputError as error:
                raise DataError(f"{path}: {name}", str(error), "fill or drop those rows") from None
            columns |= {fed: [row[fed] for row in rows] for fed in encode.feeds}
    return columns


def _number(column: Any, culprit: str) -> Array:
    empty = [value is None or (isinstance(value, str) and not value.strip()) for value in column]
    try:
        return np.array([np.nan if none else value for value, none in zip(column, empty, strict=True)], np.float64)
    except (TypeError, ValueError):
        raise DataError(culprit, "is no column of numbers", "give numbers, and nothing where one is missing") from None


def _npz(path: Path) -> Iterator[Table]:
    try:
        file = np.load(path, allow_pickle=False)
        if isinstance(file, np.ndarray):
            raise DataError(str(path), "holds one array without a name", "write it with np.savez(path, name=array)")
        with file:
            arrays = {name: file[name] for name in file.files}
    except DataError:
        raise
    # NumPy's readers raise nearly anything for a damaged file: BadZipFile, EOFError, zlib.error, KeyError, SyntaxError.
    except Exception as error:
        remedy = "save arrays of numbers only, with np.savez(path, name=array, ...)"
        raise DataError(str(path), f"cannot be read: {error}", remedy) from error
    yield from _slices(arrays)


def _safetensors(path: Path) -> Iterator[Table]:
    from safetensors import SafetensorError
    from safetensors.numpy import load_file

    try:
        arrays = load_file(path)
    except (SafetensorError, OSError, ValueError, TypeError, KeyError, AttributeError) as error:
        raise DataError(str(path), f"cannot be read: {error}", "write it with safetensors.numpy.save_file") from error
    yield from _slices(arrays)


def _slices(arrays: dict[str, Array]) -> Iterator[Table]:
    columns = {name: array for name, array in arrays.items() if array.ndim}
    for start in range(0, max(map(len, columns.values()), default=0), BLOCK):
        yield {name: array[start : start + BLOCK] for name, array in columns.items()}


def _parquet(path: Path) -> Iterator[Table]:
    try:
        import pyarrow as pa  # type: ignore[import-untyped]
        import pyarrow.parquet as pq  # type: ignore[import-untyped]
    except ModuleNotFoundError as error:
        raise MissingExtra(f"reading {path.name}", "pyarrow", "build") from error
    try:
        with pq.ParquetFile(path) as file:
            for batch in file.iter_batches(BLOCK):
                yield {name: _arrow(batch.column(name)) for name in batch.schema.names}
    except (pa.ArrowException, OSError) as error:
        raise DataError(str(path), f"is no readable Parquet file: {error}", "write it again") from error


def _arrow(column: Any) -> Any:
    """An array where it is one of numbers, else a list."""
    import pyarrow as pa

    if isinstance(column.type, pa.FixedShapeTensorType):
        return column.to_numpy_ndarray()
    plain = pa.types.is_integer(column.type) or pa.types.is_floating(column.type) or pa.types.is_boolean(column.type)
    return column.to_numpy(zero_copy_only=False) if plain and not column.null_count else column.to_pylist()


def _csv(path: Path) -> Iterator[Table]:
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            reader = csv.reader(file)
            names = next(reader, [])
            while lines := list(islice(reader, BLOCK)):
                if any(len(line) != len(names) for line in lines):
                    raise DataError(str(path), "has lines of different lengths", "give every line as many values")
                yield {name: Words(values) for name, values in zip(names, zip(*lines, strict=True), strict=True)}
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise DataError(str(path), f"cannot be read: {error}", "save it as UTF-8, with a line of names") from error


_READERS: dict[str, Callable[[Path], Iterator[Table]]] = {
    ".npz": _npz,
    ".safetensors": _safetensors,
    ".parquet": _parquet,
    ".csv": _csv,
}
