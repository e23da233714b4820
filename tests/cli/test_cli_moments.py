"""Points in time as they are typed."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from shipworthy.cli.moments import parse_moment, parse_span, show_moment
from shipworthy.errors import RegistryError

NOW = datetime(2026, 11, 22, 15, 30, 10, 500_000, tzinfo=UTC)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("2026-11-22T14:00Z", datetime(2026, 11, 22, 14, tzinfo=UTC)),
        ("2026-11-22 14:00", datetime(2026, 11, 22, 14, tzinfo=UTC)),
        ("2026-11-22T14:00+01:00", datetime(2026, 11, 22, 13, tzinfo=UTC)),
        ("2026-11-22", datetime(2026, 11, 22, tzinfo=UTC)),
        ("2026-11-22T14:00:05", datetime(2026, 11, 22, 14, 0, 5, 999_999, tzinfo=UTC)),
        ("2026-11-22T14:00:05+05:30", datetime(2026, 11, 22, 8, 30, 5, 999_999, tzinfo=UTC)),
        ("2026-11-22T14:00:05.25", datetime(2026, 11, 22, 14, 0, 5, 250_000, tzinfo=UTC)),
        ("now", NOW),
        ("2h ago", NOW - timedelta(hours=2)),
        ("1.5 d ago", NOW - timedelta(days=1.5)),
        ("90min ago", NOW - timedelta(minutes=90)),
        ("yesterday 14:00", datetime(2026, 11, 21, 14, tzinfo=UTC)),
        ("yesterday", datetime(2026, 11, 21, tzinfo=UTC)),
        ("today 09:30:00", datetime(2026, 11, 22, 9, 30, 0, 999_999, tzinfo=UTC)),
    ],
)
def test_moments(text: str, expected: datetime) -> None:
    assert parse_moment("--at", text, NOW) == expected


@pytest.mark.parametrize(
    "text", ["", "noon", "25:00", "2026-13-01", "ago", "h ago", "2 fortnights ago", "1e3", "١h ago x"]
)
def test_what_is_no_moment(text: str) -> None:
    with pytest.raises(RegistryError, match="is no point in time"):
        parse_moment("--at", text, NOW)


@pytest.mark.parametrize("text", ["2026-11-22T15:30:11", "today 23:00", "2026-11-22T15:31"])
def test_the_future_is_refused(text: str) -> None:
    with pytest.raises(RegistryError, match="lies in the future; it is 2026-11-22 15:30:10 UTC now"):
        parse_moment("--at", text, NOW)


def test_what_is_shown_can_be_typed() -> None:
    """A time that was copied from the history names what was so after that event, in the same second."""
    read = parse_moment("--at", show_moment(NOW), NOW)
    assert NOW <= read < NOW + timedelta(seconds=1)


@pytest.mark.parametrize(
    ("text", "seconds"), [("90s", 90), ("30min", 1800), ("30m", 1800), ("1 h", 3600), ("1.5d", 129600)]
)
def test_spans(text: str, seconds: float) -> None:
    assert parse_span("--older-than", text).total_seconds() == seconds


@pytest.mark.parametrize("text", ["", "1", "h", "-1h", "1y", "1h30"])
def test_what_is_no_span(text: str) -> None:
    with pytest.raises(RegistryError, match="--older-than"):
        parse_span("--older-than", text)
