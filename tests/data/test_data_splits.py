"""Splits: what is made of what, what they share, and what a build must have."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from data_cases import LABELS, rows, tabular, text
from hypothesis import given
from hypothesis import strategies as st

from shipworthy.contract import Array
from shipworthy.data import Dataset, load_splits
from shipworthy.data.leaks import row_digests
from shipworthy.errors import ContractError, DataError

X, Y = rows(60), np.arange(60) % 3


def targets(data: Dataset | None) -> Array:
    assert data is not None
    return np.concatenate([chunk.targets for chunk in data.chunks if chunk.targets is not None])


def rules(findings: Any) -> list[str]:
    return [finding.rule for finding in findings]


def test_holdout_is_a_half_with_equal_classes() -> None:
    splits = load_splits(tabular(), validation=(X, Y))
    assert splits.validation is not None
    assert splits.holdout is not None
    assert np.bincount(targets(splits.validation)).tolist() == [10, 10, 10]
    assert np.bincount(targets(splits.holdout)).tolist() == [10, 10, 10]
    kept, held = row_digests(splits.validation), row_digests(splits.holdout)
    assert set(kept).isdisjoint(held)
    assert sorted(kept + held) == sorted(row_digests(load_splits(tabular(), holdout=(X, Y)).holdout))  # type: ignore[arg-type]
    assert rules(splits.findings) == ["holdout-from-validation"]


def test_split_is_seeded() -> None:
    def held(seed: int) -> list[bytes]:
        splits = load_splits(tabular(search={"seed": seed}), validation=(X, Y))
        assert splits.holdout is not None
        return row_digests(splits.holdout)

    assert held(0) == held(0)
    assert held(0) != held(1)
    # The exact rows of seed 0: a change of the split changes every build that is compared with an older one.
    first = load_splits(tabular(), validation=(X, Y)).holdout
    assert first is not None
    positions = [int(np.flatnonzero((row == X).all(axis=1))[0]) for row in first.chunks[0].inputs["x"]]
    assert positions[:12] == [0, 1, 4, 6, 8, 9, 10, 12, 13, 14, 15, 17]


@given(st.lists(st.integers(0, 5), min_size=1, max_size=40), st.integers(0, 3))
def test_no_row_is_in_both_halves(values: list[int], seed: int) -> None:
    """Also where rows repeat, which real tables do."""
    x = np.array([[value, 1, 2, 3] for value in values], np.float32)
    y = np.array(values) % 3
    splits = load_splits(tabular(search={"seed": seed}), validation=(x, y))
    assert splits.validation is not None
    if len(set(values)) == 1:
        assert splits.holdout is None
        assert rules(splits.findings) == ["no-holdout"]
        return
    assert splits.holdout is not None
    assert set(row_digests(splits.validation)).isdisjoint(row_digests(splits.holdout))
    assert len(splits.validation) + len(splits.holdout) == len(values)


def test_ragged_data_is_split_too() -> None:
    samples = [(np.arange(3 + n % 4) + n, np.ones(3 + n % 4, int)) for n in range(21)]
    splits = load_splits(text(), validation=samples)
    assert splits.validation is not None
    assert splits.holdout is not None
    assert (len(splits.validation), len(splits.holdout)) == (11, 10)
    assert set(row_digests(splits.validation)).isdisjoint(row_digests(splits.holdout))


def test_given_holdout_is_kept_and_leaks_are_found() -> None:
    splits = load_splits(
        tabular(),
        train=(X[:10], Y[:10]),
        calibration=X[20:30],
        validation=(X[5:25], Y[5:25]),
        holdout=(X[24:40], Y[24:40]),
    )
    assert splits.holdout is not None
    assert len(splits.holdout) == 16
    found = {
        (finding.where, finding.why.split(" of ")[0], finding.why.split("data.")[1].split(";")[0])
        for finding in splits.findings
    }
    assert found == {
        ("data.holdout", "1", "validation"),
        ("data.holdout", "6", "calibration"),
        ("data.validation", "5", "train"),
        ("data.validation", "5", "calibration"),
    }
    assert {finding.severity for finding in splits.findings} == {"warning"}
    assert "the first is sample 0" in splits.findings[0].why


def test_separate_data_has_no_findings() -> None:
    splits = load_splits(tabular(), train=X[:9], validation=(X[9:30], Y[9:30]), holdout=(X[30:], Y[30:]))
    assert splits.findings == ()
    assert splits.calibration is None


def test_static_quantization_calibrates_on_validation() -> None:
    static = {"quantize": ["static"], "precisions": ["fp32", "int8"]}
    splits = load_splits(tabular(search=static), validation=(X, Y))
    assert splits.calibration is splits.validation
    assert rules(splits.findings) == ["holdout-from-validation", "no-calibration-data"]
    given = load_splits(tabular(search=static), validation=(X[:30], Y[:30]), calibration=X[30:])
    assert given.calibration is not None
    assert len(given.calibration) == 30
    with pytest.raises(ContractError, match=r"search\.quantize: static quantization needs data"):
        load_splits(tabular(search=static))


def test_limits_need_data() -> None:
    limited = tabular(limits={"max_metric_drop": 0.01})
    with pytest.raises(ContractError, match=r"limits.max_metric_drop: needs validation data"):
        load_splits(limited)
    with pytest.raises(DataError, match=r"data.validation: has no targets"):
        load_splits(limited, validation=X)
    with pytest.raises(DataError, match=r"data.holdout: has no targets"):
        load_splits(limited, validation=(X[:30], Y[:30]), holdout=X[30:])
    assert load_splits(tabular(), validation=X).validation is not None
    embedding = tabular(task={"kind": "embedding"}, limits={"max_metric_drop": 0.01})
    assert load_splits(embedding, validation=X).validation is not None


def test_nothing_is_given() -> None:
    splits = load_splits(tabular())
    assert (splits.train, splits.calibration, splits.validation, splits.holdout, splits.findings) == (None,) * 4 + ((),)


def test_sources_of_the_contract_and_given_ones(tmp_path: Path) -> None:
    np.savez(tmp_path / "v.npz", x=X, label=np.array(LABELS)[Y])
    np.savez(tmp_path / "h.npz", x=rows(5, seed=1), label=[0, 0, 1, 1, 2])
    described = tabular(tmp_path, data={"validation": "v.npz", "holdout": "h.npz"})
    splits = load_splits(described)
    assert splits.validation is not None
    assert splits.holdout is not None
    assert (len(splits.validation), len(splits.holdout)) == (60, 5)
    assert targets(splits.holdout).tolist() == [0, 0, 1, 1, 2]
    replaced = load_splits(described, holdout="v.npz", validation=(rows(4, seed=2), [0, 1, 2, 0]))
    assert replaced.validation is not None
    assert replaced.holdout is not None
    assert (len(replaced.validation), len(replaced.holdout)) == (4, 60)
    with pytest.raises(DataError, match="holdout: x: expected float32"):
        load_splits(described, holdout=rows(5)[:, :2])
