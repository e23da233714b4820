"""Two versions side by side: what is better, what is worse, and what is not compared."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest
from registry_cases import HOST, STORED, evidence, record

from shipworthy.cli.comparison import Change, Figure, Side, changes, compare
from shipworthy.contract import Contract, Limits
from shipworthy.evidence import Environment, Evidence
from shipworthy.package import read_package
from shipworthy.registry.records import Version


@pytest.fixture(scope="module")
def contract() -> Contract:
    with read_package(STORED) as stored:
        return stored.manifest.contract


def side(contract: Contract, measured: Evidence, number: int = 1, **parts: Any) -> Side:
    version = Version(
        model="digits", number=number, digest=f"{number:064}", created=datetime(2026, 11, 22, tzinfo=UTC), who="anna",
        git_commit=None, parent=None, contract_digest=contract.digest, parameters=None, metrics={}, tags={}, why="",
    )  # fmt: skip
    return Side(version, record(contract, measured, **parts), contract)


def named(figures: tuple[Figure, ...]) -> dict[str, Figure]:
    return {figure.name: figure for figure in figures}


def test_each_figure_is_good_in_its_own_direction(contract: Contract) -> None:
    worse, better = side(contract, evidence(0.98, 0.05)), side(contract, evidence(0.99, 0.04), 2)
    up = named(compare(worse, better).figures)
    down = named(compare(better, worse).figures)
    assert {figure.verdict for figure in up.values()} == {"better", "same"}
    assert {figure.verdict for figure in down.values()} == {"worse", "same"}
    assert [name for name, figure in up.items() if figure.verdict == "same"] == [
        "size",
        "peak memory",
        "time to load",
    ]
    accuracy, throughput, latency = up["accuracy, holdout"], up["throughput"], up["p50, batch 1"]
    assert accuracy.change == pytest.approx(0.01), "of a score the difference"
    assert throughput.change == pytest.approx(0.25), "of the others the share"
    assert latency.change == pytest.approx(-0.2)
    assert accuracy.a is not None
    assert accuracy.a.note == "270 samples"


def test_times_of_different_machines_are_not_compared(contract: Contract) -> None:
    other = Environment(host={**HOST, "cpu": "another processor"}, versions={"onnxruntime": "1.24.0"})
    compared = compare(side(contract, evidence(0.98, 0.05)), side(contract, evidence(0.99, 0.04), 2, environment=other))
    figures = named(compared.figures)
    for name in ("throughput", "p50, batch 1", "p99 at full load", "time to load", "speed × torch-fp32"):
        assert figures[name].verdict == "not compared", name
    assert figures["accuracy, holdout"].verdict == "better"
    assert "different hardware" in compared.notes[0]
    assert Change("cpu", "a processor", "another processor") in compared.measured_with
    assert Change("onnxruntime", "1.23.0", "1.24.0") in compared.measured_with


def test_batches_stand_in_their_order_whoever_was_measured_with_them(contract: Contract) -> None:
    compared = compare(
        side(contract, evidence(0.98, 0.05, (1, 32))), side(contract, evidence(0.98, 0.05, (2, 8, 64)), 2)
    )
    names = [figure.name for figure in compared.figures if figure.name.startswith("p50, batch")]
    assert names == [f"p50, batch {batch}" for batch in (1, 2, 8, 32, 64)]
    assert all(figure.verdict == "not compared" for figure in compared.figures if figure.name in names)


def test_what_was_not_measured_has_no_figure(contract: Contract) -> None:
    nothing = side(contract, evidence(0.98, 0.05), results=(), chosen=None)
    compared = compare(nothing, side(contract, evidence(0.99, 0.04), 2))
    assert {figure.verdict for figure in compared.figures} == {"not compared"}
    assert compare(nothing, nothing).figures == ()
    assert compared.variants[0] == Change("torch-fp32", "", "baseline")


def test_other_samples_are_told(contract: Contract) -> None:
    measured = evidence(0.98, 0.05)
    more = measured.model_copy(update={"metrics": (measured.metrics[0].model_copy(update={"samples": 300}),)})
    assert (
        "the holdout data are not the same: 270 and 300 samples"
        in compare(side(contract, measured), side(contract, more, 2)).notes
    )


def test_contracts_differ_by_their_settings(contract: Contract) -> None:
    strict = contract.model_copy(update={"limits": Limits(p99_ms=30.0, max_metric_drop=0.01)})
    measured = evidence(0.98, 0.05)
    assert compare(side(contract, measured), side(strict, measured, 2)).contract == (
        Change("limits.max_metric_drop", "", "0.01"),
        Change("limits.p99_ms", "", "30.0"),
    )
    assert compare(side(strict, measured), side(strict, measured, 2)).contract == ()


def test_changes_keep_the_order_of_both() -> None:
    assert changes({"a": "1", "b": "2", "c": "3"}, {"d": "4", "a": "1", "c": "5"}) == (
        Change("b", "2", ""),
        Change("c", "3", "5"),
        Change("d", "", "4"),
    )
