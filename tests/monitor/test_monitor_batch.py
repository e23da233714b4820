"""Files of rows: read in their order, scored, and judged."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import point_packages
import pytest
from monitor_cases import contract, draw, monitor
from safetensors.numpy import save_file

from shipworthy.contract import Contract, InputSpec, OutputSpec
from shipworthy.contract.accept import RecordEncode, TextEncode
from shipworthy.encode import Codec
from shipworthy.errors import DataError, MonitorError
from shipworthy.monitor import MonitorOptions
from shipworthy.monitor.batch import _classes, _quality, drifted, score
from shipworthy.monitor.evidence.quality import count
from shipworthy.monitor.tables import BLOCK, blocks
from shipworthy.signals.reference import Accepted

pytest.importorskip("onnxruntime")
CHANGED = 2000


@pytest.fixture(scope="module")
def package(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return point_packages.package(tmp_path_factory.mktemp("packages") / "points")


def rows(shift: float = 0.0) -> dict[str, np.ndarray]:
    """Of which those from `CHANGED` on are shifted."""
    random = np.random.default_rng(11)
    before, after = draw(CHANGED, random), draw(1200, random, shift=shift)
    return {"point": np.concatenate([before[0], after[0]]), "label": np.concatenate([before[2], after[2]])}


def test_a_file_like_the_reference(package: Path, tmp_path: Path) -> None:
    np.savez(tmp_path / "rows.npz", **rows())
    view = score(package, tmp_path / "rows.npz")
    assert view.scored == view.requests == 3200 and view.clock == "rows"
    assert view.alarms == () and not drifted(view)
    assert view.quality is not None and view.quality.labels == 3200
    assert view.quality.lower < 0.948 < view.quality.upper
    assert (view.quality.level, view.quality.below) == (0.93, False)
    assert any("200 rows" in note for note in view.notes)
    assert sum(point.log_p is not None for point in view.timeline) == 6


def test_a_shift_in_a_file_has_the_place_where_it_began(package: Path, tmp_path: Path) -> None:
    np.savez(tmp_path / "rows.npz", **rows(shift=0.8))
    view = score(package, tmp_path / "rows.npz")
    assert drifted(view)
    sequential = next(alarm for alarm in view.alarms if alarm.detector == "sequential")
    assert CHANGED < sequential.raised < CHANGED + 300
    assert sequential.scored == sequential.raised + 1
    assert sequential.began == pytest.approx(CHANGED, abs=60)
    assert any(alarm.detector == "window" for alarm in view.alarms)
    assert str(view).count("began about row") == 2


def test_all_kinds_of_files_say_the_same(package: Path, tmp_path: Path) -> None:
    arrays = rows(shift=0.4)
    labels = np.array(["north", "east", "west"])[arrays["label"]]
    np.savez(tmp_path / "rows.npz", **arrays)
    save_file(arrays, tmp_path / "rows.safetensors")
    pa, pq = pytest.importorskip("pyarrow"), pytest.importorskip("pyarrow.parquet")
    pq.write_table(pa.table({"point": list(arrays["point"]), "label": labels}), tmp_path / "rows.parquet")
    npz, tensors, parquet = (score(package, tmp_path / f"rows.{kind}") for kind in ("npz", "safetensors", "parquet"))
    assert npz.signals == tensors.signals == parquet.signals
    assert npz.alarms == tensors.alarms == parquet.alarms
    assert npz.quality == tensors.quality == parquet.quality


def test_an_accuracy_below_its_level_is_proven(package: Path, tmp_path: Path) -> None:
    arrays = rows()
    arrays["label"] = np.roll(arrays["label"], 1)
    np.savez(tmp_path / "rows.npz", point=arrays["point"], truth=arrays["label"])
    assert score(package, tmp_path / "rows.npz").quality is None
    view = score(package, tmp_path / "rows.npz", label="truth")
    assert view.quality is not None and view.quality.below and drifted(view)


def test_the_first_rows_may_be_the_reference(package: Path, tmp_path: Path) -> None:
    np.savez(tmp_path / "rows.npz", **rows(shift=0.8))
    view = score(package, tmp_path / "rows.npz", options=MonitorOptions(baseline=1000))
    assert view.promise is not None and view.promise.reference == 1000
    assert view.scored == 2200 and drifted(view)
    whole = score(package, tmp_path / "rows.npz", options=MonitorOptions(baseline=100_000))
    assert whole.promise is None and any("nothing to compare" in note for note in whole.notes)


def test_a_package_without_a_reference_is_refused(tmp_path: Path) -> None:
    plain = point_packages.package(tmp_path / "points", watched=False)
    np.savez(tmp_path / "rows.npz", **rows())
    with pytest.raises(MonitorError, match="has no reference"):
        score(plain, tmp_path / "rows.npz")


@pytest.mark.parametrize(
    ("arrays", "said"),
    [
        ({"points": np.zeros((3, 2))}, 'rename "points" to "point"'),
        ({"point": np.zeros((3, 5))}, "expected float32"),
        ({"point": np.array([["a", "b"]])}, "no numbers"),
        ({"point": np.zeros((3, 2)), "label": np.zeros((3, 2))}, "give one class"),
        ({"point": np.zeros((1, 2)), "label": np.array(["south"])}, "no class"),
        ({"point": np.zeros((0, 2))}, "has no rows"),
        ({"point": np.zeros((3, 2)), "label": np.zeros(2)}, "2 of labels"),
    ],
)
def test_files_that_do_not_fit(package: Path, tmp_path: Path, arrays: dict[str, np.ndarray], said: str) -> None:
    np.savez(tmp_path / "rows.npz", **arrays)
    with pytest.raises(DataError, match=said):
        score(package, tmp_path / "rows.npz")


@pytest.mark.parametrize("name", ["rows.npz", "rows.safetensors", "rows.parquet", "rows.csv", "rows.txt"])
def test_files_that_are_none(package: Path, tmp_path: Path, name: str) -> None:
    with pytest.raises(DataError):
        score(package, tmp_path / name)
    (tmp_path / name).write_bytes(b"\xff\xfe nothing")
    with pytest.raises(DataError):
        score(package, tmp_path / name)


def record_contract() -> Contract:
    return Contract(
        name="iris",
        inputs={"x": InputSpec(dtype="float32", shape=("batch", 2))},
        encode={"flower": RecordEncode(kind="record", fields=("length", "width"))},
        outputs={"y": OutputSpec(dtype="float32", shape=("batch", 1))},
    )


def test_columns_of_a_record_and_what_is_missing(tmp_path: Path) -> None:
    path = tmp_path / "rows.csv"
    lines = [f"{number},a,{number / 2}" for number in range(BLOCK + 10)]
    path.write_text("\n".join(["width,name,length", *lines, "7,b,"]))
    found = list(blocks(path, record_contract(), Codec(record_contract())))
    assert [len(block.groups[0][0]) for block in found] == [BLOCK, 11]
    first, last = found[0].groups[0][1]["x"], found[1].groups[0][1]["x"]
    assert first.dtype == np.float32 and first[3].tolist() == [1.5, 3.0]
    assert np.isnan(last[-1, 0]) and last[-1, 1] == 7
    path.write_text("width,length\n1,none\n")
    with pytest.raises(DataError, match=r"length: is no column of numbers"):
        list(blocks(path, record_contract(), Codec(record_contract())))
    path.write_text("width,length\n1\n")
    with pytest.raises(DataError, match="different lengths"):
        list(blocks(path, record_contract(), Codec(record_contract())))


def test_texts_of_a_table_stay_texts_and_other_inputs_have_columns_of_their_own(tmp_path: Path) -> None:
    """Also where all of a block look like numbers; another input comes from another column."""
    words = {"model": {"type": "WordLevel", "vocab": {"[UNK]": 0, "a": 1, "404": 2}, "unk_token": "[UNK]"}}
    (tmp_path / "tokenizer.json").write_text(json.dumps(words))
    of = Contract(
        name="texts",
        inputs={
            "ids": InputSpec(dtype="int64", shape=("batch", "tokens")),
            "price": InputSpec(dtype="float32", shape=("batch",)),
        },
        encode={"text": TextEncode(kind="text", tokenizer="tokenizer.json", feeds=("ids",))},
        outputs={"y": OutputSpec(dtype="float32", shape=("batch", 1))},
        root=tmp_path,
    )
    path = tmp_path / "rows.csv"
    path.write_text("\n".join(["text,price,label", *["a,1.5,07"] * BLOCK, "404,,07"]))
    first, last = blocks(path, of, Codec(of))
    assert first.labels is not None and set(first.labels.tolist()) == {"07"}
    assert last.groups[0][1]["ids"].tolist() == [[2]] and np.isnan(last.groups[0][1]["price"]).all()


def test_labels_are_names_first() -> None:
    """Classes may have names that look like indices of others; tables write 3.0 for 3."""
    named = contract().model_copy(update={"task": contract().task.model_copy(update={"labels": ("1", "2", "0")})})
    assert _classes(np.array(["1", "2", "0", "3.0"]), named).tolist() == [0, 1, 2, 3]
    for label in ("3.5", "nan", "inf", "north"):
        with pytest.raises(DataError, match="no class"):
            _classes(np.array([label]), named)


def test_a_perfect_level_is_not_broken_by_one_wrong_answer() -> None:
    watched = monitor()
    assert watched.own is not None
    watched.own = replace(watched.own, accepted=Accepted("accuracy", 1.0, 1.0, 200))
    quality = _quality(count([0] * 300 + [1]), watched)
    assert quality is not None and (quality.labels, quality.below, quality.by_hour) == (301, False, ())
    assert quality.level == pytest.approx(200 / 201)


def test_an_empty_list_of_a_table_is_told(tmp_path: Path) -> None:
    pa, pq = pytest.importorskip("pyarrow"), pytest.importorskip("pyarrow.parquet")
    pq.write_table(pa.table({"point": [None, [1.0, 2.0]]}), tmp_path / "rows.parquet")
    with pytest.raises(DataError, match="no numbers"):
        list(blocks(tmp_path / "rows.parquet", contract(), Codec(contract())))


def test_rows_of_different_shapes_keep_their_places(tmp_path: Path) -> None:
    pa, pq = pytest.importorskip("pyarrow"), pytest.importorskip("pyarrow.parquet")
    tokens = Contract(
        name="texts",
        inputs={"ids": InputSpec(dtype="int64", shape=("batch", "tokens"))},
        outputs={"y": OutputSpec(dtype="float32", shape=("batch", 1))},
    )
    lists = [[1, 2], [3], [4, 5], [6]]
    pq.write_table(pa.table({"ids": lists}), tmp_path / "rows.parquet")
    (block,) = blocks(tmp_path / "rows.parquet", tokens, Codec(tokens))
    assert [(places.tolist(), feeds["ids"].tolist()) for places, feeds in block.groups] == [
        ([0, 2], [[1, 2], [4, 5]]),
        ([1, 3], [[3], [6]]),
    ]


def test_the_contract_of_the_cases_is_the_packages(package: Path) -> None:
    import shipworthy

    watched = shipworthy.Monitor(package)
    assert watched.contract.inputs == contract().inputs
    assert watched.variant == "onnxruntime-fp32" and len(watched.version) == 12
    with pytest.raises(MonitorError, match="the variants are onnxruntime-fp32"):
        shipworthy.Monitor(package, variant="other")
