"""Points in time and spans as they are typed and shown. The registry is shared by people in many places: all is UTC."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta

from ..errors import RegistryError

_UNITS = {"s": "seconds", "min": "minutes", "m": "minutes", "h": "hours", "d": "days", "w": "weeks"}
_SPAN = re.compile(r"(\d{1,6}(?:\.\d{1,6})?)\s*(s|min|m|h|d|w)")
_DAY = re.compile(r"(today|yesterday)(?:\s+(\d\d:\d\d(?::\d\d)?))?")
_WHOLE_SECOND = re.compile(r":\d\d:\d\d(?![\d.,])")


def parse_span(option: str, text: str) -> timedelta:
    """`90s`, `30min`, `2h`, `1.5d` or `1w`. Raises RegistryError naming the option."""
    found = _SPAN.fullmatch(text.strip())
    if found is None:
        raise RegistryError(f"{option} {text!r}", "is no span of time", "write it as 90s, 30min, 2h, 1d or 1w")
    return timedelta(**{_UNITS[found[2]]: float(found[1])})


def parse_moment(option: str, text: str, now: datetime | None = None) -> datetime:
    """A point in time, in UTC: ISO 8601 (without a zone it is UTC), `2h ago`, `yesterday 14:00`, `today 09:30`, `now`.

    A time with whole seconds means the end of that second, so that one copied from the history names what was so
    after that event. Raises RegistryError where it is none of these, or lies in the future."""
    now = now or datetime.now(UTC)
    moment = _relative(text.strip().lower(), now) or _iso(text.strip())
    if moment is None:
        remedy = 'write it as 2026-11-22T14:00, 2026-11-22T14:00:00+01:00, "2h ago" or "yesterday 14:00"'
        raise RegistryError(f"{option} {text!r}", "is no point in time", remedy)
    if moment.replace(microsecond=0) > now:
        reason = f"lies in the future; it is {show_moment(now)} UTC now"
        raise RegistryError(f"{option} {text!r}", reason, "times without a zone are UTC; add one, such as +01:00")
    return moment


def show_moment(moment: datetime) -> str:
    """`2026-11-22 14:00:05`, in UTC; `parse_moment` reads it."""
    return moment.astimezone(UTC).replace(tzinfo=None).isoformat(" ", "seconds")


def _relative(text: str, now: datetime) -> datetime | None:
    if text == "now":
        return now
    if text.endswith("ago") and _SPAN.fullmatch(text.removesuffix("ago").strip()):
        try:
            return now - parse_span("", text.removesuffix("ago"))
        except OverflowError:
            return datetime.min.replace(tzinfo=UTC)
    found = _DAY.fullmatch(text)
    if found is None:
        return None
    day = now.date() - timedelta(days=found[1] == "yesterday")
    return _iso(f"{day} {found[2] or '00:00'}")


def _iso(text: str) -> datetime | None:
    try:
        moment = datetime.fromisoformat(text)
        moment = moment.astimezone(UTC) if moment.tzinfo else moment.replace(tzinfo=UTC)
    except (ValueError, OverflowError):
        return None
    return moment.replace(microsecond=999_999) if _WHOLE_SECOND.search(text) else moment
