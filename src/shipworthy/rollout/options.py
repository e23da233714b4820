"""Options of a rollout as people write them: percents, spans of time, names with commas."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence

from ..errors import RolloutError

PARTS = 10_000
"""A share is an exact multiple of 1 / PARTS, so that it has one value wherever it is written, compared or summed."""

_DURATION = re.compile(r"(\d+(?:\.\d+)?)\s*(s|m|min|h|d)?")
_SECONDS = {"s": 1, "m": 60, "min": 60, "h": 3600, "d": 86400, None: 1}


def refused(field: str, reason: str, remedy: str) -> RolloutError:
    return RolloutError(f"rollout.{field}", reason, remedy)


def _read_ramp(value: object) -> object:
    """A text is in percent. The last stage of 100 % is left out: it is the promotion."""
    if not isinstance(value, str):
        return tuple(value) if isinstance(value, Sequence) else value
    try:
        percents = [float(part.strip().removesuffix("%")) for part in value.split(",")]
    except ValueError:
        raise refused("ramp", f"is {value!r}", "give percents, such as 1,5,25,50") from None
    if max(percents) < 1:
        raise refused("ramp", f"is {value!r}, all below 1 percent", "give percents, such as 1,5,25,50")
    stages = percents[:-1] if percents[-1] == 100 else percents
    if not stages:
        raise refused("ramp", "has no stage before 100 percent", "that is a promotion: shipworthy promote")
    return tuple(round(percent * PARTS / 100, 6) / PARTS for percent in stages)


def _read_share(name: str) -> Callable[[object], object]:
    def read(value: object) -> object:
        if not isinstance(value, str):
            return value
        try:
            number = float(value.removesuffix("%"))
        except ValueError:
            raise refused(name, f"is {value!r}", "give a share such as 0.25 or 25%") from None
        return round(number * PARTS / 100, 6) / PARTS if value.endswith("%") else number

    return read


def _read_seconds(name: str) -> Callable[[object], object]:
    def read(value: object) -> object:
        if not isinstance(value, str):
            return value
        found = _DURATION.fullmatch(value.strip())
        if found is None:
            raise refused(name, f"is {value!r}", "give a time such as 90s, 30m, 24h or 7d")
        return float(found[1]) * _SECONDS[found[2]]

    return read


def _read_names(value: object) -> object:
    if isinstance(value, str):
        return tuple(part.strip() for part in value.split(",") if part.strip() not in ("", "none"))
    return tuple(value) if isinstance(value, Sequence) else value


READERS: Mapping[str, Callable[[object], object]] = {
    "ramp": _read_ramp,
    "share": _read_share("share"),
    "shadow_rate": _read_share("shadow_rate"),
    "shadow_budget": _read_share("shadow_budget"),
    "stage_seconds": _read_seconds("stage_seconds"),
    "timeout_s": _read_seconds("timeout_s"),
    "guardrails": _read_names,
}
