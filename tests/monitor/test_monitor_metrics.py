"""The metrics of monitoring: readable, complete, and as the documents say."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import view_cases
from hypothesis import given, settings
from hypothesis import strategies as st
from prometheus_client.openmetrics.parser import text_string_to_metric_families as read_openmetrics
from prometheus_client.parser import text_string_to_metric_families

from shipworthy.monitor.exposition import as_openmetrics, exposition
from shipworthy.monitor.families import FAMILIES
from shipworthy.monitor.webhooks import Sent
from shipworthy.server.observe import families as of_server

PAGE = (Path(__file__).parents[2] / "docs" / "monitoring.md").read_text(encoding="utf-8")
VIEWS = [view_cases.drifting(), view_cases.well(), view_cases.collecting()]
SENT = Sent(delivered=3, failed=1, lost=0, waiting=2)


@pytest.fixture(scope="module")
def samples() -> dict[tuple[str, str, str], float]:
    """By name, model and the last label."""
    found = {}
    for family in text_string_to_metric_families(exposition(VIEWS, SENT).decode()):
        for one in family.samples:
            rest = [value for name, value in one.labels.items() if name not in ("model", "version")]
            found[one.name, one.labels.get("model", ""), rest[0] if rest else ""] = one.value
    return found


def test_every_family_is_exported_with_its_help_and_labels() -> None:
    read = {one.name: one for one in text_string_to_metric_families(exposition(VIEWS, SENT).decode())}
    assert set(read) == {one.name.removesuffix("_total") for one in FAMILIES}
    for family in FAMILIES:
        metric = read[family.name.removesuffix("_total")]
        assert (metric.type, metric.documentation) == (family.kind, family.help)
        assert all(set(sample.labels) == set(family.labels) for sample in metric.samples)


def test_numbers_are_those_of_the_view(samples: dict[tuple[str, str, str], float]) -> None:
    drifting = VIEWS[0]
    assert drifting.quality is not None
    assert samples["shipworthy_monitor_evidence_ratio", "digits", ""] == max(one.evidence for one in drifting.signals)
    assert samples["shipworthy_monitor_alarms", "digits", "sequential"] == 1
    assert samples["shipworthy_monitor_alarms", "digits", "quality"] == 0
    assert samples["shipworthy_monitor_alarm_began_timestamp_seconds", "digits", "window"] == view_cases.BEGAN
    assert samples["shipworthy_monitor_scored_total", "digits", ""] == 13_180
    assert samples["shipworthy_monitor_quality_lower", "digits", "accuracy"] == drifting.quality.lower
    assert samples["shipworthy_monitor_quality_below", "digits", "accuracy"] == 1
    assert samples["shipworthy_monitor_rule_fires_uncalibrated", "digits", "psi"] == 1
    assert samples["shipworthy_monitor_accuracy_estimate", "digits", ""] == 0.924
    assert samples["shipworthy_monitor_reference_samples", "house", ""] == 412
    assert samples["shipworthy_monitor_reference_wanted_samples", "house", ""] == 588
    assert samples["shipworthy_monitor_promise_run_length", "iris", ""] == 1e6
    assert ("shipworthy_monitor_evidence_ratio", "house", "") not in samples
    assert ("shipworthy_monitor_window_p_value", "digits", "image.out-of-range") not in samples
    assert samples["shipworthy_monitor_webhooks_total", "", "failed"] == 1


def test_a_monitor_that_watches_nothing_says_nothing() -> None:
    assert exposition([]) == b""


@settings(max_examples=40)
@given(st.text(st.characters(exclude_categories=["Cs"]), max_size=12))
def test_no_name_breaks_the_text(name: str) -> None:
    base = view_cases.well()
    signal = replace(base.signals[0], name=name)
    text = exposition([replace(base, signals=(signal,))]).decode()
    read = {one.name: one for one in text_string_to_metric_families(text)}
    (sample,) = read["shipworthy_monitor_signal_distance"].samples
    assert (sample.labels["signal"], sample.value) == (name, signal.distance)


def test_it_can_stand_in_a_page_of_openmetrics() -> None:
    text = as_openmetrics(exposition(VIEWS, SENT)).decode() + "# EOF\n"
    read = {one.name: one for one in read_openmetrics(text)}
    assert read["shipworthy_monitor_scored"].samples[0].name == "shipworthy_monitor_scored_total"
    assert len(read) == len(FAMILIES)


def test_names_are_not_those_of_the_server() -> None:
    names = [one.name for one in (*of_server.FAMILIES, *FAMILIES)]
    assert len(names) == len(set(names))


def test_what_is_uncalibrated_says_so() -> None:
    for family in FAMILIES:
        assert ("uncalibrated" in family.name) == ("Uncalibrated" in family.help)


def test_every_metric_is_described_as_it_is_exported() -> None:
    rows = PAGE.split("| metric | type | labels | what it says |\n", 1)[1].split("\n\n", 1)[0].splitlines()[1:]
    assert rows == [
        f"| `{one.name}` | {one.kind} | {', '.join(f'`{label}`' for label in one.labels)} | {one.help} |"
        for one in FAMILIES
    ]
