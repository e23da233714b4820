"""Objects of a notebook: every form that data has there, and every fault of its arrays."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import torch
from data_cases import LABELS, contract, images, rows, tabular, text
from hypothesis import given
from hypothesis import strategies as st
from torch.utils.data import DataLoader, IterableDataset, TensorDataset

from shipworthy.contract import Array
from shipworthy.data import Chunk, Dataset, as_dataset
from shipworthy.errors import DataError

X, Y = rows(7), np.array([0, 1, 2, 0, 1, 2, 0])


class Stream(IterableDataset[Any]):
    def __iter__(self) -> Iterator[Any]:
        return zip(torch.tensor(X), Y, strict=True)


class Named:
    """Samples as mappings, without being iterable or a torch Dataset."""

    def __len__(self) -> int:
        return len(X)

    def __getitem__(self, index: int) -> dict[str, Any]:
        return {"x": X[index].tolist(), "label": LABELS[Y[index]]}


class Frame:
    """What a table of pandas or polars has in common with others."""

    columns = ("a", "b", "c", "d")

    def __len__(self) -> int:
        return len(X)

    def __getitem__(self, index: Any) -> Any:
        raise KeyError(index)

    def to_numpy(self) -> Array:
        return X


FORMS: dict[str, Any] = {
    "mapping": {"x": X, "label": Y},
    "pair": (X, Y),
    "pair of lists": (X.tolist(), Y.tolist()),
    "mapping and targets": ({"x": X}, Y),
    "tensors": (torch.tensor(X), torch.tensor(Y)),
    "names of classes": (X, np.array(LABELS)[Y]),
    "column of targets": (X, Y[:, None].astype(np.float32)),
    "loader": DataLoader(TensorDataset(torch.tensor(X), torch.tensor(Y)), batch_size=3),
    "loader of samples": DataLoader(TensorDataset(torch.tensor(X), torch.tensor(Y)), batch_size=None),
    "torch dataset": TensorDataset(torch.tensor(X), torch.tensor(Y)),
    "stream": Stream(),
    "list of samples": list(zip(X, Y, strict=True)),
    "iterator of batches": ((X[start : start + 2], Y[start : start + 2]) for start in range(0, 7, 2)),
    "indexed mappings": Named(),
    "own": Dataset((Chunk({"x": X[:3]}, Y[:3]), Chunk({"x": X[3:]}, Y[3:]))),
    "chunk": Chunk({"x": X}, Y),
}


@pytest.mark.parametrize("form", FORMS)
def test_every_form_gives_the_same(form: str) -> None:
    data = as_dataset(FORMS[form], tabular())
    assert len(data.chunks) == 1
    np.testing.assert_array_equal(data.chunks[0].inputs["x"], X)
    assert data.chunks[0].inputs["x"].dtype == np.float32
    np.testing.assert_array_equal(data.chunks[0].targets, Y)
    assert data.chunks[0].targets is not None
    assert data.chunks[0].targets.dtype == np.int64


@pytest.mark.parametrize(
    "form", [X, torch.tensor(X), {"x": X}, [X[:3], X[3:]], TensorDataset(torch.tensor(X)), list(X)]
)
def test_forms_without_targets(form: Any) -> None:
    data = as_dataset(form, tabular())
    assert not data.labelled
    np.testing.assert_array_equal(data.chunks[0].inputs["x"], X)


def test_several_inputs_in_order() -> None:
    ids, mask = np.arange(12).reshape(3, 4), np.ones((3, 4), int)
    for form in ((ids, mask), {"mask": mask, "ids": ids}, [(ids[i], mask[i]) for i in range(3)]):
        data = as_dataset(form, text())
        np.testing.assert_array_equal(data.chunks[0].inputs["ids"], ids)
        assert not data.labelled
    labelled = as_dataset(((ids, mask), [1.0, 2.0, 3.0]), text(task={"kind": "regression"}))
    assert labelled.chunks[0].targets is not None
    assert labelled.chunks[0].targets.tolist() == [1, 2, 3]


def test_samples_of_several_lengths_stand_apart() -> None:
    lengths = (3, 5, 3, 2, 5)
    samples = [({"ids": np.full(n, i), "mask": np.ones(n, int)}, float(i)) for i, n in enumerate(lengths)]
    data = as_dataset(samples, text(task={"kind": "regression"}))
    assert [chunk.inputs["ids"].shape for chunk in data.chunks] == [(2, 3), (2, 5), (1, 2)]
    assert [chunk.targets.tolist() for chunk in data.chunks if chunk.targets is not None] == [[0, 2], [1, 4], [3]]
    padded = DataLoader([torch.arange(n) for n in lengths], batch_size=1)
    assert len(as_dataset(padded, contract({"ids": ("int64", "tokens")})).chunks) == 3


def test_batches_never_cross_chunks() -> None:
    data = Dataset((Chunk({"x": rows(5)}, np.arange(5)), Chunk({"x": rows(2)}, np.arange(2))))
    assert [len(batch) for batch in data.batches(2)] == [2, 2, 1, 2]
    taken = data.take(np.array([6, 0, 4]))
    assert [chunk.targets.tolist() for chunk in taken.chunks if chunk.targets is not None] == [[0, 4], [1]]
    assert len(data.take(np.array([1])).chunks) == 1


@pytest.mark.parametrize(
    ("array", "said"),
    [
        (X.astype(np.float64), None),
        (X.astype(np.float16), None),
        (X.astype(">f4"), None),
        (np.asfortranarray(X), None),
        (X.astype(np.float64) * 1e300, "float64 values that float32 does not hold"),
        (
            X.astype(int),
            r'expected float32, got int64; scale it as in training, then cast it with .astype\("float32"\)',
        ),
        (X > 0, None),
        (X.astype(str), "it holds texts"),
        (X.astype(complex), "expected float32, got complex128"),
        (X.astype(object), "got object"),
        (X[:, :3], r"expected float32 \[batch, 4\], got float32 \[7, 3\]"),
        (X[:, None], r"array.squeeze\(1\)"),
        (X[0], r"np.expand_dims\(array, 0\)"),
        (np.where(X > 1, np.nan, X), r"has NaN in 3 of 7 samples, first in sample 1"),
        (X[:0], "has no samples"),
        (np.float32(3), r"expected float32 \[batch, 4\], got one float32"),
    ],
)
def test_arrays_are_cast_or_refused(array: Array, said: str | None) -> None:
    if said is None:
        data = as_dataset({"x": array}, tabular())
        assert data.chunks[0].inputs["x"].dtype == np.float32
        assert data.chunks[0].inputs["x"].flags.c_contiguous
        np.testing.assert_allclose(data.chunks[0].inputs["x"], array.astype(np.float32))
        return
    with pytest.raises(DataError, match=said) as caught:
        as_dataset({"x": array}, tabular(), "validation")
    assert caught.value.culprit.startswith("validation")


@pytest.mark.parametrize(
    ("shape", "remedy"),
    [
        ((5, 4, 6), r"np.expand_dims\(array, 1\)"),
        ((5, 4, 6, 1), r"array.transpose\(0, 3, 1, 2\)"),
        ((5, 24), r"array.reshape\(-1, 1, 4, 6\)"),
        ((5, 1, 1, 4, 6), r"array.squeeze\(1\)"),
        ((5, 1, 6, 4), "change the data, or the shape"),
    ],
)
def test_remedy_of_a_shape(shape: tuple[int, ...], remedy: str) -> None:
    with pytest.raises(DataError, match=remedy):
        as_dataset({"image": np.zeros(shape, np.float32)}, images())


def test_channels_may_have_to_go_to_the_back() -> None:
    with pytest.raises(DataError, match=r"array.transpose\(0, 2, 3, 1\)"):
        as_dataset(np.zeros((2, 3, 4, 6), np.float32), contract({"x": ("float32", 4, 6, 3)}))


@pytest.mark.parametrize(
    ("dtype", "given", "said"),
    [
        ("int32", np.array([[2**31]]), r"has values of 2147483648\.\.2147483648, and int32 holds"),
        ("int32", np.array([[7]]), None),
        ("uint8", np.array([[-1]]), "and uint8 holds 0..255"),
        ("int64", np.array([[7]], np.uint8), None),
        ("int64", np.array([[1.0]]), "expected int64, got float64"),
        ("int64", np.array([[True]]), None),
        ("bool", np.array([[1]]), "expected bool, got int64"),
        ("float16", np.array([[1e6]]), "does not hold"),
    ],
)
def test_integers_and_bools(dtype: str, given: Array, said: str | None) -> None:
    described = contract({"x": (dtype, 1)})
    if said is None:
        assert as_dataset(given, described).chunks[0].inputs["x"].dtype == dtype
        return
    with pytest.raises(DataError, match=said):
        as_dataset(given, described)


@pytest.mark.parametrize(
    ("targets", "said"),
    [
        (Y[:5], "5 targets for 7 samples"),
        (3, "one target for a batch of samples"),
        (Y + 1, r"has class 3 \(sample 2\); the 3 classes are 0..2"),
        (Y - 1, r"has class -1 \(sample 0\)"),
        (Y + 0.5, "with fractions or NaN"),
        (np.where(Y == 1, np.nan, Y), "with fractions or NaN"),
        (np.eye(3)[Y], r"got one-hot rows \[7, 3\]; take argmax\(1\)"),
        (np.array(["cat", "dgo", "owl", "cat", "cat", "cat", "cat"]), '"dgo" is no label.*did you mean "dog"'),
        (Y.astype("datetime64[s]"), "expected class numbers"),
    ],
)
def test_targets_of_classes(targets: Any, said: str) -> None:
    with pytest.raises(DataError, match=said) as caught:
        as_dataset((X, targets), tabular())
    assert caught.value.culprit == "data: targets"


def test_class_count_comes_from_the_scores_too() -> None:
    outputs = {"logits": {"dtype": "float32", "shape": ["batch", 2], "kind": "logits"}}
    described = tabular(task={"kind": "classification"}, outputs=outputs)
    with pytest.raises(DataError, match=r"the 2 classes are 0\.\.1"):
        as_dataset((X, Y), described)
    with pytest.raises(DataError, match="the contract has no labels"):
        as_dataset((X, np.array(LABELS)[Y]), described)


@pytest.mark.parametrize(
    ("kind", "targets", "said"),
    [
        ("multilabel", np.eye(3)[Y], None),
        ("multilabel", np.eye(3)[Y] > 0, None),
        ("multilabel", np.eye(2)[Y % 2], r"expected \[n, 3\] of 0 and 1, got \[7, 2\]"),
        ("multilabel", Y, r"expected \[n, 3\]"),
        ("multilabel", np.eye(3)[Y] * 2, r"has values of 0..2"),
        ("regression", Y, None),
        ("regression", X, None),
        ("regression", np.array(["a"] * 7), "expected numbers"),
        ("regression", np.where(Y == 1, np.inf, Y), "is not finite in sample 1"),
        ("tensors", np.array(["a"] * 7), None),
    ],
)
def test_targets_of_other_tasks(kind: str, targets: Array, said: str | None) -> None:
    labels = {"labels": LABELS} if kind == "multilabel" else {}
    described = tabular(task={"kind": kind, **labels})
    if said is None:
        kept = as_dataset((X, targets), described).chunks[0].targets
        assert kept is not None
        np.testing.assert_array_equal(kept, targets)
        return
    with pytest.raises(DataError, match=said):
        as_dataset((X, targets), described)


@pytest.mark.parametrize(
    ("value", "said"),
    [
        (5, "a int is no data"),
        ("a text", "a str is no data"),
        (None, "a NoneType is no data"),
        (Frame(), r"a Frame is a table; give \{\"x\": frame\[\[\.\.\.\]\]\.to_numpy\(\)\}"),
        ([], "has no samples"),
        ({}, 'there is no "x"; there is nothing'),
        ({"y": X, "z": X}, 'name the array of this input "x"'),
        ((X, Y, Y), "has 3 elements; expected x, and the target"),
        ([(X[0], 0), (X[1],)], "has targets for some samples only"),
        ([[0.1, 0.2, 0.3, 0.4]], r"data\[0\]: has 4 elements"),
        ({"x": [[1.0], [1.0, 2.0]]}, "is no array"),
        ({"x": {1, 2}}, "got one object"),
        (iter([(X[:1], Y[:1]), 1 / 3]), "got one float64"),
    ],
)
def test_what_is_no_data(value: Any, said: str) -> None:
    with pytest.raises(DataError, match=said):
        as_dataset(value, tabular())


def test_an_error_of_the_users_own_is_said() -> None:
    def fails() -> Iterator[Any]:
        yield X[:2], Y[:2]
        raise OSError("the share is gone")

    with pytest.raises(DataError, match=r"validation: raises OSError.*the share is gone"):
        as_dataset(fails(), tabular(), "validation")


ANYTHING = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=3) | st.binary(max_size=3),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.tuples(inner, inner)
        | st.dictionaries(st.sampled_from(["x", "label", "target", "y"]) | st.integers(), inner, max_size=3)
    ),
    max_leaves=8,
)


@given(ANYTHING)
def test_anything_is_data_or_refused(value: Any) -> None:
    try:
        data = as_dataset(value, tabular())
    except DataError as error:
        assert error.reason
        return
    assert all(chunk.inputs["x"].shape[1:] == (4,) for chunk in data.chunks)
