"""Kept samples as a data set, and the draft of the next contract."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from monitor_cases import contract, draw, feed, monitor

from shipworthy.contract import Contract, InputSpec, OutputSpec, TaskSpec, read_contract
from shipworthy.contract.accept import TextEncode
from shipworthy.errors import MonitorError
from shipworthy.monitor import States
from shipworthy.monitor.exporting import COLUMNS, export
from shipworthy.monitor.samples import Sample
from shipworthy.monitor.samples_file import write_samples


@pytest.fixture(scope="module")
def states(tmp_path_factory: pytest.TempPathFactory) -> States:
    """Two versions that were watched: one while all was well, one through a shift."""
    found = States(tmp_path_factory.mktemp("place"))
    for version, shift in (("2", 0.0), ("10", 0.8)):
        watched = monitor()
        feed(watched, 1000, np.random.default_rng(3))
        feed(watched, 1000, np.random.default_rng(4), shift=shift, at=1e9 + 10)
        found.write("points", version, "a", samples=watched.samples_state())
    return found


def test_what_drifted_and_what_was_unsure_is_written(states: States, tmp_path: Path) -> None:
    written = export(states, "points", tmp_path / "out", version="10")
    with np.load(tmp_path / "out" / "samples.npz", allow_pickle=False) as file:
        arrays = dict(file)
    assert set(arrays) == {"point", *COLUMNS}
    assert written.samples == len(arrays["point"]) > 50
    assert arrays["point"].dtype == np.float32 and arrays["point"].shape[1:] == (2,)
    assert set(arrays["reason"]) <= {"drift", "unusual", "low-confidence"}
    assert written.by_reason["drift"] == (arrays["reason"] == "drift").sum() > 20
    assert (arrays["time"][arrays["reason"] == "drift"] >= 1e9 + 9).all()
    unsure = arrays["confidence"][arrays["reason"] == "low-confidence"]
    assert 0 < unsure.max() < 0.9
    assert set(arrays["predicted_class"]) <= {0, 1, 2} and set(arrays["version"]) == {"10"}
    assert "drift" in str(written) and str(tmp_path / "out") in str(written)


def test_each_sample_is_written_once(states: States, tmp_path: Path) -> None:
    export(states, "points", tmp_path / "out")
    with np.load(tmp_path / "out" / "samples.npz") as file:
        points, versions = file["point"], set(file["version"])
    assert len(np.unique(points, axis=0)) == len(points)
    assert versions == {"2", "10"}


def test_the_draft_is_a_contract_and_says_what_is_to_be_done(states: States, tmp_path: Path) -> None:
    export(states, "points", tmp_path / "out")
    path = tmp_path / "out" / "shipworthy.toml"
    draft = read_contract(path)
    assert draft.data.train == draft.data.calibration == "samples.npz"
    assert draft.inputs == contract().inputs and draft.task == contract().task
    for part in ("Label the samples", "Join them", "Was: not given"):
        assert part in path.read_text()


def test_the_draft_builds_on_the_labelled_samples(states: States, tmp_path: Path) -> None:
    from shipworthy.data.read import read_data

    export(states, "points", tmp_path / "out")
    with np.load(tmp_path / "out" / "samples.npz") as file:
        arrays = dict(file)
    np.savez(tmp_path / "out" / "samples.npz", **arrays, label=arrays["predicted_class"])
    data = read_data("samples.npz", read_contract(tmp_path / "out" / "shipworthy.toml"))
    assert data.labelled and len(data) == len(arrays["point"])


def test_nothing_kept_is_refused(tmp_path: Path) -> None:
    with pytest.raises(MonitorError, match="nothing is kept"):
        export(States(tmp_path / "none"), "points", tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_a_folder_with_something_in_it_is_left_alone(states: States, tmp_path: Path) -> None:
    (tmp_path / "mine").write_text("")
    with pytest.raises(MonitorError, match="is not empty"):
        export(states, "points", tmp_path)


def kept(states: States, of: Contract, feeds: list[dict[str, np.ndarray]]) -> None:
    samples = [
        Sample(f"s-{place}", float(place), "drift", arrays, {}, np.zeros(0), 1.0) for place, arrays in enumerate(feeds)
    ]
    states.write(of.name, "1", "a", samples=write_samples(samples, [], of))


def test_samples_of_several_shapes_are_several_data_sets(tmp_path: Path) -> None:
    of = Contract(
        name="waves",
        inputs={
            "wave": InputSpec(dtype="float32", shape=("batch", "length")),
            "id": InputSpec(dtype="int64", shape=("batch",)),
        },
        outputs={"y": OutputSpec(dtype="float32", shape=("batch", 1))},
    )
    waves = [np.zeros(3, np.float32), np.ones(3, np.float32), np.ones(4, np.float32), np.zeros(3, np.float32)]
    states = States(tmp_path / "place")
    kept(states, of, [{"wave": wave, "id": np.array(place // 3 * 0)} for place, wave in enumerate(waves)])
    written = export(states, "waves", tmp_path / "out")
    assert written.files == ("samples.npz", "samples-2.npz") and written.samples == 3
    with np.load(tmp_path / "out" / "samples.npz") as file:
        assert file["wave"].shape == (2, 3)
        # An input has the name of a column.
        assert file["id"].tolist() == [0, 0] and len(set(file["sample_id"].tolist())) == 2
        assert np.isnan(file["confidence"]).all() and (file["predicted_class"] == -1).all()
    assert "samples-2.npz" in (tmp_path / "out" / "shipworthy.toml").read_text()


def test_an_input_may_have_any_name(tmp_path: Path) -> None:
    """NumPy's own function for archives has arguments of these names."""
    names = ("file", "allow_pickle", "args")
    inputs = {name: InputSpec(dtype="float32", shape=("batch", 1)) for name in names}
    of = Contract(name="names", inputs=inputs, outputs={"y": OutputSpec(dtype="float32", shape=("batch", 1))})
    states = States(tmp_path / "place")
    kept(states, of, [{name: np.full(1, place, np.float32) for place, name in enumerate(names)}])
    export(states, "names", tmp_path / "out")
    with np.load(tmp_path / "out" / "samples.npz") as file:
        assert [file[name].tolist() for name in names] == [[[0.0]], [[1.0]], [[2.0]]]


def test_a_class_for_each_pixel_is_no_class_of_the_sample(tmp_path: Path) -> None:
    of = Contract(
        name="masks",
        inputs={"x": InputSpec(dtype="float32", shape=("batch", 2))},
        outputs={"mask": OutputSpec(dtype="float32", shape=("batch", 3, 2), kind="logits")},
        task=TaskSpec(kind="classification"),
    )
    samples = [
        Sample(f"s-{place}", 1.0, "drift", {"x": np.full(2, place, np.float32)}, {"mask": np.zeros((3, 2))}, NONE, 1.0)
        for place in range(2)
    ]
    states = States(tmp_path / "place")
    states.write("masks", "1", "a", samples=write_samples(samples, [], of))
    export(states, "masks", tmp_path / "out")
    with np.load(tmp_path / "out" / "samples.npz") as file:
        assert file["predicted_class"].tolist() == [-1, -1]


NONE = np.zeros(0)


def test_samples_with_other_inputs_are_left_out_and_counted(states: States, tmp_path: Path) -> None:
    found = States(tmp_path / "place")
    for version in ("2", "10"):
        data = states.sample_bytes("points", version, "a")
        assert data is not None
        found.write("points", version, "a", samples=data)
    wide = contract().model_copy(update={"inputs": {"point": InputSpec(dtype="float32", shape=("batch", 3))}})
    sample = Sample("s-1", 1.0, "drift", {"point": np.zeros(3, np.float32)}, {}, np.zeros(0), 1.0)
    found.write("points", "11", "a", samples=write_samples([sample], [], wide))
    written = export(found, "points", tmp_path / "out")
    assert written.samples == 1 and written.left_out > 100
    assert "have other inputs" in str(written)


def test_a_tokenizer_comes_from_the_package(tmp_path: Path) -> None:
    of = Contract(
        name="texts",
        inputs={"input_ids": InputSpec(dtype="int64", shape=("batch", "tokens"))},
        encode={"text": TextEncode(kind="text", tokenizer="assets/tokenizer.json")},
        outputs={"logits": OutputSpec(dtype="float32", shape=("batch", 2), kind="logits")},
        task=TaskSpec(kind="classification"),
    )
    states = States(tmp_path / "place")
    kept(states, of, [{"input_ids": np.arange(3)}])
    with pytest.raises(MonitorError, match="give the package"):
        export(states, "texts", tmp_path / "out")
    (tmp_path / "root" / "assets").mkdir(parents=True)
    (tmp_path / "root" / "assets" / "tokenizer.json").write_text("{}")
    export(states, "texts", tmp_path / "out", assets=tmp_path / "root")
    assert read_contract(tmp_path / "out" / "shipworthy.toml").encode["text"] == of.encode["text"]


def test_points_of_the_cases_are_far_apart() -> None:
    _, logits, classes = draw(2000, np.random.default_rng(0))
    assert (logits.argmax(1) == classes).mean() > 0.9
