"""What a build takes for the references of its variants, and what it says where there is too little."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from shipworthy.contract import Array, Contract
from shipworthy.data import Dataset, Splits, write_cases
from shipworthy.data.dataset import Chunk
from shipworthy.evidence import MetricEvidence
from shipworthy.select.references import TOLERATED, References, _accepted, _make, _rows, references
from shipworthy.signals import read_reference


def data(*numbers: int) -> Dataset:
    """A row for each number, in two chunks."""
    table = np.array(numbers, np.float32)[:, None]
    half = len(table) // 2
    return Dataset(tuple(Chunk({"x": part}) for part in (table[:half], table[half:]) if len(part)))


def numbers(dataset: Dataset, rows: Array) -> set[int]:
    table = np.concatenate([chunk.inputs["x"][:, 0] for chunk in dataset.chunks])
    return {int(number) for number in table[rows]}


def test_constants_come_from_calibration_data_without_what_the_holdout_has() -> None:
    splits = Splits(calibration=data(*range(100)), validation=data(*range(200, 300)), holdout=data(*range(50, 150)))
    rows = _rows(splits)
    assert rows is not None and rows.split == "calibration"
    assert splits.calibration is not None
    assert numbers(splits.calibration, rows.fitted) == set(range(50))
    assert rows.held.all()


def test_else_from_the_validation_data() -> None:
    validation = data(*range(200, 300))
    same = _rows(Splits(calibration=validation, validation=validation, holdout=data(*range(100))))
    assert same is not None and same.split == "validation"
    splits = Splits(calibration=data(*range(100)), validation=data(*range(200, 300)), holdout=data(*range(100)))
    rows = _rows(splits)
    assert rows is not None and (rows.split, rows.fitted.sum(), rows.held.sum()) == ("validation", 100, 100)


def test_else_from_a_half_of_the_holdout_that_is_not_in_the_reference() -> None:
    held = data(*range(300), *range(300))
    rows = _rows(Splits(validation=held, holdout=held))
    assert rows is not None and rows.split == "holdout"
    fitted, kept = numbers(held, rows.fitted), numbers(held, rows.held)
    # Rows that are equal stay together.
    assert not fitted & kept and fitted | kept == set(range(300))
    assert 100 < len(fitted) < 200


def bench(splits: Splits, **limits: Any) -> Any:
    job = SimpleNamespace(splits=splits, metric=SimpleNamespace(against_eager=limits.pop("against_eager", False)))
    return SimpleNamespace(job=job, contract=SimpleNamespace(limits=SimpleNamespace(**limits)))


@pytest.mark.parametrize(
    ("splits", "word"),
    [
        (Splits(), "there is no data to make one of"),
        (Splits(validation=data(*range(100)), holdout=data(*range(200, 231))), "31 samples are held out"),
        (Splits(holdout=data(*range(40))), "samples are held out, and an alarm needs at least 32"),
    ],
    ids=["nothing", "little", "half"],
)
def test_too_little_data_gives_no_reference_and_says_so(splits: Splits, word: str) -> None:
    made = references(bench(splits), [SimpleNamespace()], "now")  # type: ignore[list-item]
    assert made.files == {}
    (finding,) = made.findings
    assert (finding.rule, finding.severity) == ("reference-missing", "warning")
    assert word in finding.why
    assert "--monitor-baseline" in finding.remedy


def test_where_nothing_is_packed_there_is_nothing_to_say() -> None:
    assert references(bench(Splits()), (), "now") == References()


def metric(value: float = 0.9, eager: float = 0.92) -> MetricEvidence:
    return MetricEvidence(
        name="accuracy", split="holdout", samples=400, eager=eager, candidate=value, drop=eager - value
    )


def test_the_accepted_level_is_eagers_less_what_the_contract_allows() -> None:
    found = _accepted(bench(Splits(), max_metric_drop=0.05), metric())
    assert found is not None
    assert (found.metric, found.value, found.level, found.samples) == ("accuracy", 0.9, pytest.approx(0.87), 400)


@pytest.mark.parametrize(("value", "level"), [(0.9, 0.9 - TOLERATED), (-250.0, -250 * (1 + TOLERATED))])
def test_without_a_limit_it_is_a_little_below_the_variants_own(value: float, level: float) -> None:
    found = _accepted(bench(Splits(), max_metric_drop=None), metric(value))
    assert found is not None and found.level == pytest.approx(level)


def test_what_says_nothing_of_labels_has_no_level() -> None:
    assert _accepted(bench(Splits(), max_metric_drop=0.05), None) is None
    assert _accepted(bench(Splits(), max_metric_drop=0.05, against_eager=True), metric()) is None
    assert _accepted(bench(Splits(), max_metric_drop=0.05), metric(eager=float("nan"))) is None


class Answering:
    """In place of a trial: y = 2 x, x² and x + 1, in batches of 7."""

    def __init__(self, folder: Path, splits: Splits) -> None:
        self._folder, self._splits = folder, splits
        self.asked: list[str] = []

    def batches(self, split: str) -> Iterator[Chunk]:
        return iter(getattr(self._splits, split).batches(7))

    def answer(self, artifact: object, split: str) -> Path:
        self.asked.append(split)
        chunks = enumerate(self.batches(split))
        return write_cases(
            self._folder / split, ((f"{n:06d}", {"y": answers(c.inputs["x"]), "s": np.ones(1)}) for n, c in chunks)
        )


def answers(x: Array) -> Array:
    return np.concatenate([2 * x, x**2, x + 1], axis=1)


@pytest.mark.parametrize("task", ["embedding", "tensors"])
@pytest.mark.parametrize("calibrated", [True, False])
def test_signals_are_of_the_rows_that_were_chosen(task: str, calibrated: bool, tmp_path: Path) -> None:
    held = data(*range(50, 150))
    splits = Splits(calibration=data(*range(100)) if calibrated else None, holdout=held)
    what = Contract(
        name="net",
        inputs={"x": {"dtype": "float32", "shape": ["batch", 1]}},
        outputs={"y": {"dtype": "float32", "shape": ["batch", 3]}, "s": {"dtype": "float32", "shape": [1]}},
        task={"kind": task},
    )
    rows = _rows(splits)
    assert rows is not None
    trial = Answering(tmp_path, splits)
    fake = SimpleNamespace(contract=what, batches=trial.batches)
    tried = SimpleNamespace(exported=SimpleNamespace(reply=SimpleNamespace(artifact=None)))
    made = _make(fake, trial, tried, rows, tmp_path / "reference")  # type: ignore[arg-type]
    kept = numbers(held, rows.held)
    fitted = set(range(50)) if calibrated else numbers(held, rows.fitted)
    assert made.samples == len(kept)
    place = [signal.name for signal in made.signals].index("x")
    assert made.scores[:, place].tolist() == sorted(kept)
    if task == "embedding":
        mean = answers(np.array(sorted(fitted), np.float32)[:, None]).mean(0)
        np.testing.assert_allclose(made.constants["outputs/y/mean"], mean, rtol=1e-5)
        assert trial.asked == [rows.split, "holdout"]
    else:
        assert trial.asked == ["holdout"], "nothing of the outputs is fitted"
    np.testing.assert_array_equal(read_reference(tmp_path / "reference", "here").scores, made.scores)
