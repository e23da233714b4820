"""Files: what is read from them, and how they are refused."""

from __future__ import annotations

import random
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from data_cases import LABELS, contract, images, rows, tabular, text
from PIL import Image
from safetensors.numpy import save_file

from shipworthy.data import read_data
from shipworthy.errors import DataError, MissingExtra, ShipworthyError

TARGETS = np.array([0, 2, 1, 1, 0])


@pytest.mark.parametrize("name", ["d.npz", "d.safetensors", "d.parquet"])
@pytest.mark.parametrize("target", ["label", "target"])
def test_arrays_by_name(tmp_path: Path, name: str, target: str) -> None:
    arrays = {"x": rows(5), target: TARGETS, "other": np.zeros(5)}
    if name.endswith(".npz"):
        np.savez(tmp_path / name, **arrays)
    elif name.endswith(".safetensors"):
        save_file(arrays, tmp_path / name)
    else:
        table = {"x": list(arrays["x"]), target: TARGETS, "other": arrays["other"]}
        pq.write_table(pa.table(table), tmp_path / name)
    data = read_data(name, tabular(tmp_path))
    assert len(data.chunks) == 1
    np.testing.assert_array_equal(data.chunks[0].inputs["x"], rows(5))
    assert data.chunks[0].inputs["x"].dtype == np.float32
    np.testing.assert_array_equal(data.chunks[0].targets, TARGETS)


def test_missing_source_names_the_near_one(tmp_path: Path) -> None:
    np.savez(tmp_path / "validation.npz", x=rows(2))
    with pytest.raises(DataError, match=r'validaton.npz: there is no such file.*; there is "validation.npz"'):
        read_data("validaton.npz", tabular(tmp_path))
    with pytest.raises(DataError, match="check the path"):
        read_data("far/away.npz", tabular(tmp_path))


def test_unknown_kind_of_file(tmp_path: Path) -> None:
    (tmp_path / "d.csv").write_text("x")
    with pytest.raises(
        DataError, match=r'of no kind that can be read; give a file that ends in "\.npz", "\.safetensors"'
    ):
        read_data("d.csv", tabular(tmp_path))


def test_array_of_another_name(tmp_path: Path) -> None:
    np.savez(tmp_path / "d.npz", features=rows(2), label=[0, 1])
    with pytest.raises(DataError, match=r'there is no "x"; there is "features" and "label"; rename "features" to "x"'):
        read_data("d.npz", tabular(tmp_path))


def test_python_objects_are_not_unpickled(tmp_path: Path) -> None:
    class Bomb:
        def __reduce__(self) -> Any:
            return (Path.touch, (tmp_path / "exploded",))

    np.savez(tmp_path / "d.npz", x=np.array([Bomb()], dtype=object), allow_pickle=True)
    with pytest.raises(DataError, match="Python objects, which could execute code"):
        read_data("d.npz", tabular(tmp_path))
    assert not (tmp_path / "exploded").exists()


def test_single_array_without_a_name(tmp_path: Path) -> None:
    np.save(tmp_path / "d.npy", rows(2))
    (tmp_path / "d.npy").rename(tmp_path / "d.npz")
    with pytest.raises(DataError, match="one array without a name"):
        read_data("d.npz", tabular(tmp_path))


def test_types_that_numpy_has_not(tmp_path: Path) -> None:
    import torch
    from safetensors.torch import save_file as save_tensors

    save_tensors({"x": torch.zeros(2, 4, dtype=torch.bfloat16)}, tmp_path / "d.safetensors")
    with pytest.raises(DataError, match="x: is BF16, which NumPy does not have"):
        read_data("d.safetensors", tabular(tmp_path))


@pytest.mark.parametrize("name", ["d.npz", "d.safetensors", "d.parquet"])
def test_damaged_files(tmp_path: Path, name: str) -> None:
    """Whatever happened to a file's bytes, there is data or a clear error."""
    path = tmp_path / name
    if name == "d.npz":
        np.savez_compressed(path, x=rows(5), label=TARGETS)
    elif name == "d.safetensors":
        save_file({"x": rows(5), "label": TARGETS}, path)
    else:
        pq.write_table(pa.table({"x": list(rows(5)), "label": TARGETS}), path)
    right, generator = path.read_bytes(), random.Random(3)
    for _ in range(150):
        data = bytearray(right)
        if generator.random() < 0.3:
            del data[generator.randrange(len(data)) :]
        for _ in range(generator.randint(1, 3) if data else 0):
            data[generator.randrange(len(data))] ^= 1 << generator.randrange(8)
        path.write_bytes(data)
        try:
            assert len(read_data(name, tabular(tmp_path)))
        except ShipworthyError as error:
            assert error.culprit


def test_parquet_lists_of_several_lengths(tmp_path: Path) -> None:
    ids = [[1, 2], [3, 4, 5], [6, 7]]
    masks = [[1] * len(row) for row in ids]
    pq.write_table(pa.table({"ids": ids, "mask": masks, "target": [0.5, 1.5, 2.5]}), tmp_path / "d.parquet")
    data = read_data("d.parquet", text(tmp_path, task={"kind": "regression"}))
    assert [chunk.inputs["ids"].tolist() for chunk in data.chunks] == [[[1, 2], [6, 7]], [[3, 4, 5]]]
    assert [chunk.targets.tolist() for chunk in data.chunks if chunk.targets is not None] == [[0.5, 2.5], [1.5]]


@pytest.mark.parametrize("form", ["nested", "flat", "tensor"])
def test_parquet_tensors(tmp_path: Path, form: str) -> None:
    array = np.arange(3 * 1 * 4 * 6, dtype=np.float32).reshape(3, 1, 4, 6)
    column: Any = array.tolist() if form == "nested" else array.reshape(3, -1).tolist()
    if form == "tensor":
        column = pa.FixedShapeTensorArray.from_numpy_ndarray(array)
    pq.write_table(pa.table({"image": column, "label": LABELS}), tmp_path / "d.parquet")
    data = read_data("d.parquet", images(tmp_path))
    np.testing.assert_array_equal(data.chunks[0].inputs["image"], array)
    assert data.chunks[0].targets is not None
    assert data.chunks[0].targets.tolist() == [0, 1, 2]


RECORD = {"flower": {"kind": "record", "fields": ["a", "b", "c", "d"]}}


def test_parquet_records(tmp_path: Path) -> None:
    columns = {"d": [4.0, 8.0], "a": [1, 5], "b": [2.0, 6.0], "c": [3.0, 7.0], "label": ["owl", "cat"]}
    pq.write_table(pa.table(columns), tmp_path / "d.parquet")
    data = read_data("d.parquet", tabular(tmp_path, encode=RECORD))
    assert data.chunks[0].inputs["x"].tolist() == [[1, 2, 3, 4], [5, 6, 7, 8]]
    assert data.chunks[0].targets is not None
    assert data.chunks[0].targets.tolist() == [2, 0]


@pytest.mark.parametrize(
    ("columns", "said"),
    [
        ({"a": [1.0], "b": [1.0], "c": [1.0], "dd": [1.0]}, r'no column "d" of the record'),
        ({"a": [1.0], "b": [None], "c": [1.0], "d": [1.0]}, "b: has 1 empty values"),
        ({"a": [1.0], "b": ["x"], "c": [1.0], "d": [1.0]}, "b: is no column of numbers"),
        ({"y": [1.0]}, r'has no column "x"; there is "y"'),
        ({"x": [[1.0, 2.0, 3.0]]}, r"expected float32 \[batch, 4\], got float32 \[1, 3\]"),
        ({"x": [[1.0, 2.0, None, 3.0]]}, "empty values inside its lists"),
        ({"x": [[[1.0], [2.0, 3.0]]]}, "different lengths inside a row"),
        ({"x": pa.array([], pa.list_(pa.float32()))}, "has no rows"),
    ],
)
def test_parquet_faults(tmp_path: Path, columns: dict[str, Any], said: str) -> None:
    pq.write_table(pa.table(columns), tmp_path / "d.parquet")
    with pytest.raises(DataError, match=said):
        read_data("d.parquet", tabular(tmp_path, encode=RECORD))


def test_parquet_without_pyarrow(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "d.parquet").touch()
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with pytest.raises(MissingExtra, match=r"pip install 'shipworthy\[build\]'"):
        read_data("d.parquet", tabular(tmp_path))


def test_parquet_texts(tmp_path: Path) -> None:
    from tokenizers import Tokenizer, models, pre_tokenizers

    tokenizer = Tokenizer(models.WordLevel({"[UNK]": 0, "the": 1, "cat": 2}, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    tokenizer.save(str(tmp_path / "tokenizer.json"))
    encode = {"review": {"kind": "text", "tokenizer": "tokenizer.json", "feeds": ["ids", "mask"]}}
    pq.write_table(pa.table({"review": ["the cat", "a", "cat the"]}), tmp_path / "d.parquet")
    data = read_data("d.parquet", text(tmp_path, encode=encode))
    assert [chunk.inputs["ids"].tolist() for chunk in data.chunks] == [[[1, 2], [2, 1]], [[0]]]


def picture(path: Path, value: int, size: tuple[int, int] = (6, 4)) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("L", size, value).save(path)


def test_folder_of_classes(tmp_path: Path) -> None:
    picture(tmp_path / "val" / "owl" / "a.png", 3)
    picture(tmp_path / "val" / "cat" / "b.png", 2)
    picture(tmp_path / "val" / "cat" / "a.png", 1)
    (tmp_path / "val" / "cat" / "notes.txt").write_text("no image")
    (tmp_path / "val" / ".cache").mkdir()
    data = read_data("val", images(tmp_path))
    assert data.chunks[0].inputs["image"][:, 0, 0, 0].tolist() == [1, 2, 3]
    assert data.chunks[0].targets is not None
    assert data.chunks[0].targets.tolist() == [0, 0, 2]


def test_folder_without_classes(tmp_path: Path) -> None:
    picture(tmp_path / "cal" / "b.png", 2)
    picture(tmp_path / "cal" / "a.png", 1)
    data = read_data("cal", images(tmp_path))
    assert data.chunks[0].inputs["image"][:, 0, 0, 0].tolist() == [1, 2]
    assert not data.labelled


def test_folder_faults(tmp_path: Path) -> None:
    picture(tmp_path / "val" / "cats" / "a.png", 1)
    with pytest.raises(DataError, match=r'cats: is named by no label; rename it to "cat"'):
        read_data("val", images(tmp_path))
    with pytest.raises(DataError, match=r"needs a model whose one input accepts images"):
        read_data("val", tabular(tmp_path))
    with pytest.raises(DataError, match=r'labels = \["cats"\] in \[task\]'):
        read_data("val", images(tmp_path, task={"kind": "classification"}))
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match="has no images"):
        read_data("empty", images(tmp_path))
    (tmp_path / "bad").mkdir()
    (tmp_path / "bad" / "a.png").write_bytes(b"no image")
    with pytest.raises(DataError, match=r"a\.png: the bytes are no PNG or JPEG"):
        read_data("bad", images(tmp_path))


CODE = """
import numpy as np

def arrays():
    return {"x": np.ones((3, 4)), "label": [0, 1, 2]}

class Samples:
    def __len__(self):
        return 3
    def __getitem__(self, index):
        return np.full(4, index, dtype=np.float32), index

ready = Samples()

class Failing(Samples):
    def __getitem__(self, index):
        raise KeyError("the disk is gone")

def leaving():
    raise SystemExit(3)

number = 5
"""


def test_code(tmp_path: Path) -> None:
    (tmp_path / "make_data.py").write_text(CODE)
    for source in ("make_data:arrays", "make_data:Samples", "make_data:ready"):
        data = read_data(source, tabular(tmp_path))
        assert data.chunks[0].inputs["x"].shape == (3, 4)
        assert data.chunks[0].targets is not None
        assert data.chunks[0].targets.tolist() == [0, 1, 2]


@pytest.mark.parametrize(
    ("source", "said"),
    [
        ("make_data:Failing", r"make_data:Failing: raises KeyError at make_data.py:17: 'the disk is gone'"),
        ("make_data:leaving", r"ends the program \(exit code 3\)"),
        ("make_data:number", r"a int is no data"),
        ("make_data:array", r"has no attribute 'array'; did you mean 'arrays'"),
        ("make_dato:arrays", r"there is no module 'make_dato' in .*; did you mean 'make_data'"),
        ("broken:f", r"broken has a syntax error at .*broken.py:1"),
        ("needing:f", r"needing imports 'not_there', which is not installed"),
    ],
)
def test_code_faults(tmp_path: Path, source: str, said: str) -> None:
    (tmp_path / "make_data.py").write_text(CODE)
    (tmp_path / "broken.py").write_text("def f(:\n")
    (tmp_path / "needing.py").write_text("import not_there\n")
    with pytest.raises(DataError, match=said):
        read_data(source, tabular(tmp_path))


def test_two_projects_with_modules_of_one_name(tmp_path: Path) -> None:
    for folder, value in (("one", 1), ("two", 2), ("one", 1)):
        (tmp_path / folder).mkdir(exist_ok=True)
        (tmp_path / folder / "same_name.py").write_text(f"import numpy\ndef f(): return numpy.full((2, 4), {value}.0)")
        data = read_data("same_name:f", tabular(tmp_path / folder))
        assert data.chunks[0].inputs["x"][0, 0] == value


def test_several_inputs_of_a_file(tmp_path: Path) -> None:
    np.savez(tmp_path / "d.npz", ids=np.ones((3, 5), np.int32), mask=np.ones((3, 5), bool))
    data = read_data("d.npz", text(tmp_path))
    assert {name: array.dtype for name, array in data.chunks[0].inputs.items()} == {"ids": "int64", "mask": "int64"}
    np.savez(tmp_path / "d.npz", ids=np.ones((3, 5), int), mask=np.ones((2, 5), int))
    with pytest.raises(DataError, match="has 3 of ids, 2 of mask; give every input as many samples"):
        read_data("d.npz", text(tmp_path))
    np.savez(tmp_path / "d.npz", ids=np.ones((3, 5), int), mask=np.ones((3, 4), int))
    with pytest.raises(DataError, match="mask: tokens is 4 here and 5 in ids"):
        read_data("d.npz", text(tmp_path))


def test_an_input_may_be_called_label(tmp_path: Path) -> None:
    np.savez(tmp_path / "d.npz", label=rows(2), target=[1.0, 2.0])
    data = read_data("d.npz", contract({"label": ("float32", 4)}, tmp_path, task={"kind": "regression"}))
    assert data.chunks[0].targets is not None
    assert data.chunks[0].targets.tolist() == [1, 2]
    np.savez(tmp_path / "d.npz", x=rows(2), target=[0, 1], label=[0, 1])
    with pytest.raises(DataError, match='has "label" and "target"; keep the one'):
        read_data("d.npz", tabular(tmp_path))
