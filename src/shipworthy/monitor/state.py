"""A monitor as bytes, and back: a magic word with the number of the format, a sha256, and a safetensors file.

The evidence goes on exactly where it was. What was asked is not in it: with samples it has the signals of the last
two thousand rows, and without samples (`keep=0`) nothing of a single request. A reference that was taken from requests
is in it, each column in rising order, so that no row can be read from it."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING, Annotated, Any

import numpy as np
from pydantic import Field, ValidationError
from safetensors.numpy import save

from ..contract import Array, Strict
from ..errors import MonitorError
from ..signals.reference import FEWEST, MOST
from . import raising
from .alarms import Alarms
from .baselines import constant_arrays, reference_of, signals_of
from .evidence.windows import WindowResult
from .options import MOST_BASELINE
from .record import Record, alarm_records, alarms_of
from .samples_file import tensors_of
from .state_parts import REMEDY, WHERE, Reader, damaged, recent_arrays, span_arrays, spans_of, windows_of

if TYPE_CHECKING:
    from .monitor import Monitor

MAGIC = b"swstate\x01"
_HEAD = len(MAGIC) + 32
_KEY = "state"
_Count = Annotated[int, Field(ge=0, lt=2**63)]
_Time = Annotated[float, Field(allow_inf_nan=False)]
_WINDOW = ("p", "corrected", "rejected", "distance")


class _Pcg(Strict):
    state: Annotated[int, Field(ge=0, lt=2**128)]
    inc: Annotated[int, Field(ge=0, lt=2**128)]


class _Random(Strict):
    """What NumPy says of PCG64."""

    bit_generator: Annotated[str, Field(pattern="^PCG64$")]
    state: _Pcg
    has_uint32: Annotated[int, Field(ge=0, le=1)]
    uinteger: Annotated[int, Field(ge=0, lt=2**32)]


class _Taken(Strict):
    """Of a reference that was taken from requests."""

    created: str


class _Header(Strict):
    format: int = 1
    own: str
    """Digest of the package's reference and signals."""
    seen: _Count
    scored: _Count
    requests: _Count
    unscored: _Count
    since: _Time | None
    updated: _Time
    filled: _Count = 0
    wanted: _Count = 0
    """Rows of a reference that is still collected."""
    collected: _Count = 0
    """Of those."""
    renewed: tuple[Annotated[str, Field(max_length=200)], ...] = ()
    """Alarms whose acknowledgement a new baseline was taken for."""
    random: tuple[_Random, _Random, _Random] | None = None
    taken: _Taken | None = None
    prefix: Annotated[str, Field(pattern="^[0-9a-z]{0,16}$")] = ""
    """Of the ids of samples."""
    alarms: tuple[dict[str, Any], ...] = ()


def written(monitor: Monitor) -> bytes:
    """The bytes that `restore` reads."""
    arrays: dict[str, Array] = {}
    parts: Record = {}
    compared, collecting = monitor.compared, monitor.collecting
    kept = monitor.options.keep > 0
    fewest = 1 if kept else FEWEST
    if compared is not None:
        drift = compared.drift
        arrays |= {f"drift/{name}": array for name, array in drift.state(values=kept).items()}
        arrays |= recent_arrays(list(compared.recent.windows), fewest)
        parts = {"random": drift.random, "filled": drift.filled if kept else 0, "prefix": monitor.samples.prefix}
        if drift.last is not None:
            arrays |= {f"window/{name}": getattr(drift.last, name) for name in _WINDOW}
        if compared.reference is not monitor.own:
            arrays |= {"reference/scores": compared.reference.scores, **constant_arrays(monitor.constants)}
            parts["taken"] = {"created": compared.reference.created}
    if collecting is not None:
        parts["wanted"] = collecting.wanted
        if kept and collecting.constants is not None:
            if collecting.collected:
                arrays["collected"] = collecting.values
                parts["collected"] = collecting.collected
            arrays |= constant_arrays(collecting.constants)
    arrays |= span_arrays(monitor.timeline.spans, fewest)
    header = _Header(
        own=digest_of(monitor),
        seen=monitor.seen,
        scored=monitor.scored,
        requests=monitor.requests,
        unscored=monitor.unscored,
        since=monitor.since,
        updated=monitor.updated,
        renewed=tuple(sorted(monitor.renewed)),
        alarms=tuple(alarm_records(monitor.alarms.newest_first)),
        **parts,
    )
    plain = {name: np.require(array, requirements="C") for name, array in arrays.items()}
    payload = save(plain, {_KEY: header.model_dump_json()})
    return MAGIC + hashlib.sha256(payload).digest() + payload


def restore(monitor: Monitor, data: bytes) -> None:
    """See `Monitor.restore`. Nothing of the monitor is changed where the bytes are refused."""
    header, arrays = _opened(data)
    if header.own != digest_of(monitor):
        raise MonitorError(WHERE, "is of a monitor with another reference", REMEDY)
    reader = Reader(arrays)
    try:
        alarms = Alarms(alarms_of(list(header.alarms)))
    except ValueError:
        raise damaged("its alarms are none") from None
    if header.random is not None:
        _restore_compared(monitor, header, reader)
    elif header.wanted:
        _restore_collecting(monitor, header, reader)
    else:
        raise damaged("it has neither a reference nor one to come")
    monitor.alarms = alarms
    monitor.renewed = set(header.renewed)
    monitor.seen, monitor.scored = header.seen, header.scored
    monitor.requests, monitor.unscored = header.requests, header.unscored
    monitor.since, monitor.updated = header.since, header.updated
    raising.aim(monitor)


def digest_of(monitor: Monitor) -> str:
    """Of all that the evidence depends on."""
    digest = hashlib.sha256(f"{monitor.contract.digest} {monitor.options.baseline}".encode())
    reference = monitor.own
    if reference is not None:
        digest.update(repr(reference.signals).encode())
        for name, array in (("scores", reference.scores), *sorted(reference.constants.items())):
            digest.update(f"{name} {array.dtype} {array.shape}".encode() + np.ascontiguousarray(array).tobytes())
    return digest.hexdigest()


def _opened(data: bytes) -> tuple[_Header, dict[str, Array]]:
    if data[: len(MAGIC)] != MAGIC:
        raise damaged("it does not begin as a state of this version does")
    payload = data[_HEAD:]
    if hashlib.sha256(payload).digest() != data[len(MAGIC) : _HEAD]:
        raise damaged("it has not the bytes that were written")
    text, arrays = tensors_of(payload, _KEY, WHERE)
    try:
        header = _Header.model_validate_json(text)
    except ValidationError as error:
        raise damaged(f"{error.error_count()} faults in its header") from None
    if header.format != 1:
        raise MonitorError(WHERE, f"has the format {header.format}; this version reads 1", "update shipworthy")
    return header, arrays


def _restore_compared(monitor: Monitor, header: _Header, reader: Reader) -> None:
    reference = monitor.own
    if header.taken is not None:
        reference = reference_of(monitor, header.taken.created, reader)
    if reference is None:
        raise damaged("it has no reference")
    assert header.random is not None
    compared = monitor.compared_with(reference)
    drift, signals = compared.drift, len(reference.signals)
    wanted = drift.shapes()
    arrays = {name: reader.take(f"drift/{name}", kind, shape) for name, (kind, shape) in wanted.items()}
    if any((array < 0).any() for name, array in arrays.items() if not name.endswith("cusum")):
        raise damaged("its evidence is below zero")
    if (arrays["detector/counts"] < 1).any():
        raise damaged("a bin is empty")
    if reader.has("drift/values"):
        arrays["values"] = reader.take("drift/values", "f", (None, signals), missing=True)
    last = None
    if reader.has("window/p"):
        p, corrected, rejected, distance = (
            reader.take(f"window/{name}", "b" if name == "rejected" else "f", (signals,)) for name in _WINDOW
        )
        last = WindowResult(p, corrected, rejected, distance, drift.window)
    windows = list(windows_of(reader, compared.scales.size, signals))
    spans = list(spans_of(reader, signals))
    monitor.follow(reference, compared)
    monitor.samples.prefix = header.prefix
    random = [each.model_dump() for each in header.random]
    drift.restore(arrays, random, min(header.filled, drift.span - 1), last)
    compared.recent.windows.clear()
    compared.recent.windows.extend(windows)
    monitor.timeline.spans = spans


def _restore_collecting(monitor: Monitor, header: _Header, reader: Reader) -> None:
    constants = dict(reader.under("constants/"))
    values, signals = np.empty((0, 0)), signals_of(monitor, constants) if constants else ()
    if header.collected:
        values = reader.take("collected", "f", (min(header.collected, MOST), len(signals)), missing=True)
    if not (FEWEST <= header.wanted <= MOST_BASELINE and header.collected < header.wanted):
        raise damaged("it has another number of rows for a reference than it needs")
    spans = list(spans_of(reader, reader.columns("timeline/sums")))
    monitor.collect_baseline(header.wanted)
    if constants and monitor.collecting is not None:
        monitor.collecting.resume(constants, values, header.collected)
    # Of another baseline, before this one; let go of where it has other signals than this one will have.
    monitor.timeline.spans = spans
