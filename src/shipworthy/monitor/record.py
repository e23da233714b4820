"""Views and alarms as JSON, and back. A number that there is none of is null."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping
from dataclasses import asdict
from functools import cache
from typing import Any

from ..errors import MonitorError
from .view import Alarm, View

Record = dict[str, Any]
_SIGNAL_NUMBERS = ("reference_mean", "live_mean", "distance", "psi")


def record_of(view: View) -> Record:
    """Lists, mappings, texts and numbers, as JSON has them."""
    record: Record = _plain(asdict(view))
    return record


def text_of(view: View) -> bytes:
    return json.dumps(record_of(view), allow_nan=False, separators=(",", ":")).encode()


def view_of_text(text: bytes | str, where: str) -> View:
    """Raises MonitorError where this is no view."""
    return _read(lambda: view_of_record(json.loads(text)), where)


def view_of_record(record: Mapping[str, Any]) -> View:
    """Raises ValueError, TypeError or KeyError where this is no view."""
    signals = [_with_nan(dict(signal), _SIGNAL_NUMBERS) for signal in record.get("signals", ())]
    points = []
    for point in record.get("timeline", ()):
        means = tuple(math.nan if mean is None else mean for mean in point["means"])
        points.append({**point, "means": means})
    view: View = _adapter(View).validate_python({**record, "signals": signals, "timeline": points})
    return view


def alarm_records(alarms: tuple[Alarm, ...]) -> list[Record]:
    plain: list[Record] = _plain([asdict(alarm) for alarm in alarms])
    return plain


def alarms_of(records: list[Record]) -> list[Alarm]:
    """Raises ValueError where these are no alarms."""
    return [_adapter(Alarm).validate_python(record) for record in records]


def _read(read: Callable[[], View], where: str) -> View:
    try:
        return read()
    # What is no view may be wrong in any way: a list where a mapping should be, a text where a number should be.
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
        reason = " ".join(str(error).split())[:200]
        raise MonitorError(where, f"is no view of a monitor: {reason}", "remove it; it is written again") from None


@cache
def _adapter(kind: type) -> Any:
    from pydantic import TypeAdapter

    return TypeAdapter(kind)


def _with_nan(record: Record, names: tuple[str, ...]) -> Record:
    return {**record, **{name: math.nan for name in names if record.get(name, 0) is None}}


def _plain(value: Any) -> Any:
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, Mapping):
        return {key: _plain(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(inner) for inner in value]
    return value
