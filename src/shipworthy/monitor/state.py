"""A monitor as bytes, and back: a magic word with the number of the format, a sha256, and a safetensors file.

The evidence goes on exactly where it was. What was asked is not in it: with samples it has the signals of the last
thousand rows, and without samples (`keep=0`) nothing of a single request."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from typing import TYPE_CHECKING, Annotated, Any

import numpy as np
from pydantic import Field, ValidationError
from safetensors.numpy import save

from ..contract import Array, Strict
from ..errors import MonitorError, PackageError
from ..signals import Signals, watch
from ..signals.reference import FEWEST, MOST, Reference
from ..signals.signal import Signal
from .alarms import Alarms
from .evidence.windows import WindowResult
from .latency import SIZE
from .recent import WINDOWS, Seen
from .record import Record, alarm_records, alarms_of
from .samples_file import tensors_of
from .timeline import MOST as MOST_POINTS
from .timeline import Span

if TYPE_CHECKING:
    from .monitor import Monitor

MAGIC = b"swstate\x01"
_HEAD = len(MAGIC) + 32
_KEY = "state"
_REMEDY = "remove it; the monitor begins anew"
_WHERE = "the state"
_Count = Annotated[int, Field(ge=0, lt=2**63)]
_Time = Annotated[float, Field(allow_inf_nan=False)]
_WINDOW = ("p", "corrected", "rejected", "distance")
_SPANS = ("at", "scored", "sums", "present", "evidence", "log_p")


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
    random: tuple[_Random, _Random] | None = None
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
    if compared is not None:
        drift = compared.drift
        arrays |= {f"drift/{name}": array for name, array in drift.state(values=kept).items()}
        arrays |= _recent_arrays(list(compared.recent.windows))
        parts = {"random": drift.random, "filled": drift.filled if kept else 0, "prefix": monitor.samples.prefix}
        if drift.last is not None:
            arrays |= {f"window/{name}": getattr(drift.last, name) for name in _WINDOW}
        if compared.reference is not monitor.own:
            arrays |= {"reference/scores": compared.reference.scores, **_constants(monitor.constants)}
            parts["taken"] = {"created": compared.reference.created}
    if collecting is not None:
        parts["wanted"] = collecting.wanted
        if kept and collecting.constants is not None:
            if collecting.values:
                arrays["collected"] = np.concatenate(collecting.values)
            arrays |= _constants(collecting.constants)
    arrays |= _span_arrays(monitor.timeline.spans, 1 if kept else FEWEST)
    header = _Header(
        own=digest_of(monitor),
        seen=monitor.seen,
        scored=monitor.scored,
        requests=monitor.requests,
        unscored=monitor.unscored,
        since=monitor.since,
        updated=monitor.updated,
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
        raise MonitorError(_WHERE, "is of a monitor with another reference", _REMEDY)
    reader = _Reader(arrays)
    try:
        alarms = Alarms(alarms_of(list(header.alarms)))
    except ValueError:
        raise _damaged("its alarms are none") from None
    if header.random is not None:
        _restore_compared(monitor, header, reader)
    elif header.wanted:
        _restore_collecting(monitor, header, reader)
    else:
        raise _damaged("it has neither a reference nor one to come")
    monitor.alarms = alarms
    monitor.seen, monitor.scored = header.seen, header.scored
    monitor.requests, monitor.unscored = header.requests, header.unscored
    monitor.since, monitor.updated = header.since, header.updated
    monitor.aim()


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
        raise _damaged("it does not begin as a state of this version does")
    payload = data[_HEAD:]
    if hashlib.sha256(payload).digest() != data[len(MAGIC) : _HEAD]:
        raise _damaged("it has not the bytes that were written")
    text, arrays = tensors_of(payload, _KEY, _WHERE)
    try:
        header = _Header.model_validate_json(text)
    except ValidationError as error:
        raise _damaged(f"{error.error_count()} faults in its header") from None
    if header.format != 1:
        raise MonitorError(_WHERE, f"has the format {header.format}; this version reads 1", "update shipworthy")
    return header, arrays


def _restore_compared(monitor: Monitor, header: _Header, reader: _Reader) -> None:
    reference = monitor.own
    if header.taken is not None:
        reference = _taken_reference(monitor, header.taken, reader)
    if reference is None:
        raise _damaged("it has no reference")
    assert header.random is not None
    compared = monitor.compared_with(reference)
    drift, signals = compared.drift, len(reference.signals)
    wanted = drift.shapes()
    arrays = {name: reader.take(f"drift/{name}", kind, shape) for name, (kind, shape) in wanted.items()}
    if any((array < 0).any() for name, array in arrays.items() if not name.endswith("cusum")):
        raise _damaged("its evidence is below zero")
    if reader.has("drift/values"):
        arrays["values"] = reader.take("drift/values", "f", (None, signals), missing=True)
    last = None
    if reader.has("window/p"):
        p, corrected, rejected, distance = (
            reader.take(f"window/{name}", "b" if name == "rejected" else "f", (signals,)) for name in _WINDOW
        )
        last = WindowResult(p, corrected, rejected, distance)
    windows = list(_windows(reader, compared.scales.size, signals))
    spans = list(_spans(reader, signals))
    monitor.follow(reference, compared)
    monitor.samples.prefix = header.prefix
    random = [each.model_dump() for each in header.random]
    drift.restore(arrays, random, min(header.filled, drift.window - 1), last)
    compared.recent.windows.clear()
    compared.recent.windows.extend(windows)
    monitor.timeline.spans = spans


def _restore_collecting(monitor: Monitor, header: _Header, reader: _Reader) -> None:
    constants = dict(reader.under("constants/"))
    collected = np.empty((0, 0))
    signals = _signals(monitor, constants) if constants else ()
    if reader.has("collected"):
        collected = reader.take("collected", "f", (None, len(signals)), missing=True)
    monitor.collect_baseline(max(header.wanted, FEWEST))
    if constants and monitor.collecting is not None:
        monitor.collecting.resume(constants, collected[: header.wanted - 1])


def _taken_reference(monitor: Monitor, taken: _Taken, reader: _Reader) -> Reference:
    constants = dict(reader.under("constants/"))
    signals = _signals(monitor, constants)
    scores = reader.take("reference/scores", "f", (None, len(signals)), missing=True)
    if not FEWEST <= len(scores) <= MOST:
        raise _damaged(f"its reference has {len(scores)} samples")
    own = monitor.own
    return Reference(
        signals=signals,
        scores=np.sort(scores, axis=0),
        constants=constants,
        accepted=None if own is None else own.accepted,
        sure=None if own is None else own.sure,
        origin="production",
        created=taken.created,
    )


def _signals(monitor: Monitor, constants: dict[str, Array]) -> tuple[Signal, ...]:
    """What is computed with these constants, which have the sizes that the contract's tensors have."""
    own = monitor.own
    try:
        signals = Signals(monitor.contract, constants).signals if own is None else own.signals
        watch(monitor.contract, Reference(signals, np.empty((0, len(signals))), constants), _WHERE)
    except (PackageError, ValueError, IndexError, TypeError, KeyError):
        raise _damaged("its constants do not fit the contract") from None
    return signals


def _constants(constants: dict[str, Array]) -> dict[str, Array]:
    return {f"constants/{name}": array for name, array in constants.items()}


def _recent_arrays(windows: list[Seen]) -> dict[str, Array]:
    whole = {
        name: np.array([getattr(seen, name) for seen in windows]) for name in ("counts", "sums", "present", "latency")
    }
    rows = np.array([(seen.rows, seen.sure) for seen in windows], np.int64)
    return {f"recent/{name}": array for name, array in {**whole, "rows": rows}.items()}


def _windows(reader: _Reader, size: int, signals: int) -> Iterator[Seen]:
    rows = reader.take("recent/rows", "i", (None, 2))
    count = len(rows)
    if not 1 <= count <= WINDOWS + 1:
        raise _damaged(f"it has {count} windows")
    counts = reader.take("recent/counts", "i", (count, size))
    sums = reader.take("recent/sums", "f", (count, signals))
    present = reader.take("recent/present", "i", (count, signals))
    latency = reader.take("recent/latency", "i", (count, SIZE))
    if min(array.min(initial=0) for array in (rows, counts, present, latency)) < 0:
        raise _damaged("it counts below zero")
    for place in range(count):
        seen, sure = rows[place].tolist()
        yield Seen(counts[place], sums[place], present[place], latency[place], seen, sure)


def _span_arrays(spans: list[Span], fewest: int) -> dict[str, Array]:
    """Sums of fewer values than `fewest` are not told."""
    if not spans:
        return {}
    kinds = {"scored": np.int64, "present": np.int64}
    arrays = {name: np.array([getattr(span, name) for span in spans], kinds.get(name, np.float64)) for name in _SPANS}
    few = arrays["present"] < fewest
    arrays["sums"], arrays["present"] = np.where(few, 0.0, arrays["sums"]), np.where(few, 0, arrays["present"])
    return {f"timeline/{name}": array for name, array in arrays.items()}


def _spans(reader: _Reader, signals: int) -> Iterator[Span]:
    if not reader.has("timeline/at"):
        return
    at = reader.take("timeline/at", "f", (None,))
    count = len(at)
    if count > MOST_POINTS or (np.diff(at) <= 0).any():
        raise _damaged("its points are not in order")
    scored = reader.take("timeline/scored", "i", (count,))
    sums = reader.take("timeline/sums", "f", (count, signals))
    present = reader.take("timeline/present", "i", (count, signals))
    evidence = reader.take("timeline/evidence", "f", (count,))
    log_p = reader.take("timeline/log_p", "f", (count,), missing=True)
    if min(array.min(initial=0) for array in (scored, present, evidence)) < 0:
        raise _damaged("it counts below zero")
    for place in range(count):
        yield Span(
            float(at[place]),
            int(scored[place]),
            sums[place],
            present[place],
            float(evidence[place]),
            float(log_p[place]),
        )


class _Reader:
    """Takes arrays that are what they should be."""

    def __init__(self, arrays: dict[str, Array]) -> None:
        self._arrays = arrays

    def has(self, name: str) -> bool:
        return name in self._arrays

    def under(self, prefix: str) -> Iterator[tuple[str, Array]]:
        for name, array in self._arrays.items():
            if name.startswith(prefix):
                if array.dtype.kind not in "fi" or not np.isfinite(array).all():
                    raise _damaged(f"{name} is no array of finite numbers")
                yield name.removeprefix(prefix), array

    def take(self, name: str, kind: str, shape: tuple[int | None, ...], *, missing: bool = False) -> Array:
        """An array of 8 bytes a number, or of truth values. `missing`: NaN may be among them."""
        array = self._arrays.get(name)
        if array is None or array.dtype != np.dtype({"f": "f8", "i": "i8", "b": "?"}[kind]):
            raise _damaged(f"{name} is not there as it should be")
        fits = array.ndim == len(shape) and all(w in (None, s) for w, s in zip(shape, array.shape, strict=True))
        if not fits:
            raise _damaged(f"{name} has the shape {list(array.shape)}")
        if kind == "f" and not (np.isfinite(array) | (np.isnan(array) if missing else False)).all():
            raise _damaged(f"{name} is not finite")
        return array


def _damaged(reason: str) -> MonitorError:
    return MonitorError(_WHERE, f"is damaged: {reason}", _REMEDY)
