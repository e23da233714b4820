"""References as files: what is written is read, and what is not right is refused before anything is made of it."""

from __future__ import annotations

import json
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from safetensors.numpy import save

from shipworthy.contract import Array
from shipworthy.errors import PackageError, ShipworthyError, UnknownFormat
from shipworthy.signals import Accepted, Reference, Signal, read_reference, save_reference

WORDS = st.text(min_size=1, max_size=8)
NUMBERS = st.floats(-1e300, 1e300)
LOOSE = settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


@st.composite
def references(draw: st.DrawFn) -> Reference:
    names = draw(st.lists(WORDS, min_size=0, max_size=4, unique=True))
    signals, columns = [], []
    rows = draw(st.integers(32, 60))
    random = np.random.default_rng(draw(st.integers(0, 99)))
    for name in names:
        kind = draw(st.sampled_from(["number", "class", "share"]))
        classes = tuple(draw(st.lists(WORDS, min_size=1, max_size=3))) if kind == "class" else ()
        about = draw(st.sampled_from(["answers", "inputs"]))
        signals.append(Signal(name, kind, about, draw(WORDS), draw(WORDS), draw(st.booleans()), classes))
        tops = {"number": random.normal(size=rows), "share": random.integers(0, 2, rows)}
        column = tops.get(kind, random.integers(0, max(1, len(classes)), rows)).astype(float)
        column[random.random(rows) < draw(st.sampled_from([0.0, 0.3, 1.0]))] = np.nan
        columns.append(np.sort(column))
    constants: dict[str, Array] = {
        name: random.normal(size=(2, 3)) if draw(st.booleans()) else random.integers(0, 9, 5)
        for name in draw(st.lists(WORDS.filter(lambda word: "\0" not in word), max_size=3, unique=True))
    }
    accepted = draw(st.none() | st.builds(Accepted, WORDS, NUMBERS, NUMBERS, st.integers(1, 10**9)))
    return Reference(
        tuple(signals),
        np.stack(columns, axis=1) if columns else np.empty((rows, 0)),
        constants,
        accepted,
        draw(st.none() | NUMBERS),
        tuple(draw(st.lists(st.integers(0, 10**9), max_size=3))),
        draw(st.sampled_from(["build", "production", "batch"])),
        draw(st.text(max_size=5)),
    )


def small(**parts: Any) -> Reference:
    signals = (
        Signal("class", "class", "answers", "predicted class", classes=("a", "b")),
        Signal("margin", "number", "answers", "margin"),
        Signal("x.missing", "share", "inputs", "missing", scored=False),
    )
    random = np.random.default_rng(0)
    table = np.stack([random.integers(0, 2, 40), random.normal(size=40), random.integers(0, 2, 40)], axis=1)
    made = Reference(signals, np.sort(table, axis=0), {"inputs/x/mean": np.zeros(3)}, created="2026-01-01T00:00:00")
    return replace(made, **parts)


@LOOSE
@given(reference=references())
def test_what_is_written_is_read(tmp_path: Path, reference: Reference) -> None:
    path = save_reference(reference, tmp_path / "one")
    read = read_reference(path, "here")
    assert {**asdict(read), "scores": 0, "constants": 0} == {**asdict(reference), "scores": 0, "constants": 0}
    np.testing.assert_array_equal(read.scores, reference.scores)
    assert set(read.constants) == set(reference.constants)
    for name, array in reference.constants.items():
        np.testing.assert_array_equal(read.constants[name], array)
    assert path.read_bytes() == save_reference(read, tmp_path / "two").read_bytes()


def written(path: Path, tensors: dict[str, Array], header: Any = None) -> Path:
    """As someone could who means harm and knows the format."""
    metadata = {} if header is None else {"reference": header if isinstance(header, str) else json.dumps(header)}
    path.write_bytes(save(tensors, metadata or None))
    return path


def test_a_stored_reference_of_format_1_is_read() -> None:
    # Written once by save_reference(small(accepted=..., sure=..., labels=...), ...), and never again.
    read = read_reference(Path(__file__).parent / "stored" / "format1.safetensors", "the stored one")
    reference = small(accepted=Accepted("accuracy", 0.9, 0.88, 40), sure=0.7, labels=(19, 21))
    assert {**asdict(read), "scores": 0, "constants": 0} == {**asdict(reference), "scores": 0, "constants": 0}
    np.testing.assert_allclose(read.scores, reference.scores)
    np.testing.assert_array_equal(read.constants["inputs/x/mean"], np.zeros(3))


def header_of(reference: Reference) -> dict[str, Any]:
    signals = [asdict(signal) for signal in reference.signals]
    return {"format": 1, "signals": signals}


@LOOSE
@given(cut=st.floats(0, 1), flip=st.integers(0, 10**6), noise=st.binary(max_size=40))
def test_a_broken_file_is_refused_or_read_and_nothing_else(tmp_path: Path, cut: float, flip: int, noise: bytes) -> None:
    content = save_reference(small(), tmp_path / "whole").read_bytes()
    truncated = content[: int(cut * len(content))]
    flipped = bytearray(content)
    flipped[flip % len(content)] ^= 1 + flip % 255
    for number, broken in enumerate((truncated, bytes(flipped), noise, content + noise)):
        path = tmp_path / f"broken{number}"
        path.write_bytes(broken)
        try:
            read = read_reference(path, "the file")
        except PackageError as error:
            assert "the file" in str(error)
        else:
            assert read.scores.dtype == np.float64 and len(read.signals) == read.scores.shape[1]


@pytest.mark.parametrize(
    ("change", "word"),
    [
        (lambda s: s.astype(np.float32), r"expected float64 \[samples, 3\], got float32"),
        (lambda s: s[:, :2], r"expected float64 \[samples, 3\], got float64 \[40, 2\]"),
        (lambda s: s.reshape(-1), "expected float64"),
        (lambda s: s[:31], "has 31 samples; a reference has 32 to 4000"),
        (lambda s: np.repeat(s, 200, axis=0), "has 8000 samples"),
        (lambda s: s[::-1], "scores of 'class': are not sorted"),
        (lambda s: np.vstack([np.full((1, 3), np.nan), s]), "are not finite, with what is missing at the end"),
        (lambda s: np.vstack([s, np.full((1, 3), np.inf)]), "are not finite"),
        (lambda s: np.vstack([s, [[2, 9, 1]]]), "not all whole numbers from 0 to 1"),
        (lambda s: np.vstack([[[-1, -9, 0]], s]), "not all whole numbers"),
        (lambda s: np.vstack([s, [[1, 9, 2]]]), "scores of 'x.missing': are a share, and not all 0 or 1"),
    ],
)
def test_scores_that_are_not_right_are_refused(tmp_path: Path, change: Any, word: str) -> None:
    reference = small()
    path = written(tmp_path / "r", {"scores": np.ascontiguousarray(change(reference.scores))}, header_of(reference))
    with pytest.raises(PackageError, match=word):
        read_reference(path, "the file")


@pytest.mark.parametrize(
    ("change", "word"),
    [
        ({"format": 2}, "has the format 2; this version reads 1"),
        ({"format": "1"}, "metadata are not valid: format"),
        ({"format": True}, "metadata are not valid: format"),
        ({"signals": 3}, "metadata are not valid: signals"),
        ({"signals": []}, r"expected float64 \[samples, 0\]"),
        ({"more": 1}, "metadata are not valid: more"),
        ({"sure": "NaN"}, "metadata are not valid: sure"),
        ({"labels": [-1]}, "counts labels below 0"),
        ({"accepted": {"metric": "a", "value": 1, "level": "Infinity", "samples": 3}}, "accepted.level"),
        ({"accepted": {"metric": "a", "value": 1, "level": 1, "samples": 0}}, "accepted.samples"),
        ({"origin": "elsewhere"}, "metadata are not valid: origin"),
    ],
)
def test_metadata_that_lie_are_refused(tmp_path: Path, change: dict[str, Any], word: str) -> None:
    reference = small()
    path = written(tmp_path / "r", {"scores": reference.scores}, {**header_of(reference), **change})
    with pytest.raises(PackageError, match=word):
        read_reference(path, "the file")


def test_an_unknown_format_has_an_error_of_its_own(tmp_path: Path) -> None:
    path = written(tmp_path / "r", {"scores": np.zeros((40, 1))}, {"format": 2, "whatever": "comes"})
    with pytest.raises(UnknownFormat, match="update shipworthy"):
        read_reference(path, "the file")


@pytest.mark.parametrize("header", [None, "", "[]", "{", '{"format": NaN}', "[" * 5000])
def test_metadata_that_are_none_are_refused(tmp_path: Path, header: str | None) -> None:
    path = written(tmp_path / "r", {"scores": np.zeros((40, 1))}, header)
    with pytest.raises(PackageError, match="the file"):
        read_reference(path, "the file")


def test_signals_that_are_none_are_refused(tmp_path: Path) -> None:
    reference = small()
    header = header_of(reference)
    for signals, word in (
        ([header["signals"][1]] * 3, "the signal 'margin' twice"),
        ([{**header["signals"][0], "classes": []}, *header["signals"][1:]], "without classes"),
    ):
        path = written(tmp_path / "r", {"scores": reference.scores}, {**header, "signals": signals})
        with pytest.raises(PackageError, match=word):
            read_reference(path, "the file")


@pytest.mark.parametrize(
    ("name", "array", "word"),
    [
        ("other", np.zeros(3), "the tensor 'other', which is no part of it"),
        ("constants/a", np.zeros(3, np.float32), "the constant 'a' is float32"),
        ("constants/a", np.zeros((1, 1, 1)), "the constant 'a' is float64"),
        ("constants/a", np.full(3, np.nan), "not a number everywhere"),
    ],
)
def test_constants_that_are_not_right_are_refused(tmp_path: Path, name: str, array: Array, word: str) -> None:
    reference = small()
    path = written(tmp_path / "r", {"scores": reference.scores, name: array}, header_of(reference))
    with pytest.raises(PackageError, match=word):
        read_reference(path, "the file")


def test_a_file_that_is_too_large_is_not_read(tmp_path: Path) -> None:
    path = tmp_path / "huge"
    with path.open("wb") as file:
        file.truncate(1 << 34)
    with pytest.raises(PackageError, match="has 17179869184 bytes; at most"):
        read_reference(path, "the file")


def test_a_header_that_claims_more_than_there_is_is_refused(tmp_path: Path) -> None:
    claim = json.dumps({"scores": {"dtype": "F64", "shape": [1 << 40, 3], "data_offsets": [0, 3 << 43]}}).encode()
    path = tmp_path / "claim"
    path.write_bytes(len(claim).to_bytes(8, "little") + claim)
    with pytest.raises(ShipworthyError, match="is no readable safetensors file"):
        read_reference(path, "the file")


def test_a_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(PackageError, match="the file"):
        read_reference(tmp_path / "nothing", "the file")
