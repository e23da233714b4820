"""What docs/observability.md says of metrics and of the log is what the server does."""

from __future__ import annotations

import json
import re
from pathlib import Path

from prometheus_client.parser import text_string_to_metric_families

from shipworthy.server.connections import refusals
from shipworthy.server.observe import Metrics
from shipworthy.server.observe.families import FAMILIES
from shipworthy.server.observe.fields import FIELDS
from shipworthy.server.problems import INTERNAL

PAGE = (Path(__file__).parents[2] / "docs" / "observability.md").read_text(encoding="utf-8")


def table(header: str) -> list[list[str]]:
    """The cells of the table that begins with that row."""
    rows = PAGE.split(header + "\n", 1)[1].split("\n\n", 1)[0].splitlines()[1:]
    return [[cell.strip() for cell in row.strip("|").split(" | ")] for row in rows]


def test_every_metric_is_described_as_it_is_exported() -> None:
    described = [
        (*row[:2], row[2].replace("`", ""), row[3]) for row in table("| metric | type | labels | what it says |")
    ]
    assert described == [
        (f"`{one.name}`", one.kind, ", ".join(one.labels), one.help.replace("|", "\\|")) for one in FAMILIES
    ]
    exported = {one.name for one in text_string_to_metric_families(Metrics().render()[0].decode())}
    assert exported == {one.name.removesuffix("_total") for one in FAMILIES}


def test_every_reason_to_end_a_connection_is_described() -> None:
    answered = {one.kind.slug for one in vars(refusals).values() if isinstance(one, refusals.Refusal)}
    # One request that failed ends no connection of itself.
    for reason in (answered - {INTERNAL.slug}) | {"idle", "unread", "dropped"}:
        assert f"`{reason}`" in PAGE, reason


def test_every_field_of_the_log_is_described() -> None:
    described = [re.findall(r"`(\w+)`", row[0]) for row in table("| field | what it says |")]
    assert [name for names in described for name in names] == [
        "time",
        "level",
        "event",
        "logger",
        *FIELDS,
        "error",
        "traceback",
    ]


def test_the_example_line_is_one() -> None:
    (example,) = re.findall(r"```json\n(.*?)\n```", PAGE)
    line = json.loads(example)
    assert list(line) == ["time", "level", "event", "logger", *(key for key in FIELDS if key in line)]


def test_metrics_in_the_questions_exist() -> None:
    known = {one.name for one in FAMILIES}
    for name in re.findall(r"shipworthy_[a-z_]+", PAGE):
        assert name in known or re.sub(r"_(bucket|sum|count)$", "", name) in known, name
