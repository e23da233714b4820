"""Whatever a contract says and whatever the numbers are: signals are computed, row by row, and nothing is raised."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from signal_cases import batch, contract

from shipworthy.contract import Array, Arrays, Contract
from shipworthy.signals import Signals, fit, make_reference, read_reference, save_reference, watch

DIMS = st.sampled_from([1, 2, 3, 8, "height", "steps:1..9"])
DTYPES = ("float64", "float32", "float16", "int64", "int32", "int16", "int8", "uint8", "bool")
SHAPES = st.lists(DIMS, max_size=3).map(lambda dims: ["batch", *dims])
NAMES = ("x", "margin", "probability", "a.b")
STRANGE = (np.nan, np.inf, -np.inf, 1e38, -1e38, 1e-40)


@st.composite
def contracts(draw: st.DrawFn) -> Contract:
    task = draw(st.sampled_from(["classification", "multilabel", "regression", "embedding", "tensors"]))
    kind = draw(st.sampled_from(["logits", "probabilities", "values"]))
    inputs = {
        name: [draw(st.sampled_from(DTYPES)), *draw(SHAPES)]
        for name in draw(st.lists(st.sampled_from(NAMES[:3]), min_size=1, unique=True))
    }
    scored: list[Any] = draw(st.sampled_from([["batch"], ["batch", 1], ["batch", 4], ["batch", 25], ["batch", 2, 3]]))
    outputs = {"scores": [draw(st.sampled_from(DTYPES)), *scored]}
    for name in draw(st.lists(st.sampled_from(["extra", "class"]), unique=True)):
        shape = draw(SHAPES | st.just([3]) | st.just(["batch", 12]))
        outputs[name] = [draw(st.sampled_from(DTYPES)), *shape]
    return contract(inputs, outputs, task=task, kind=kind)


def spoilt(arrays: dict[str, Array], random: np.random.Generator) -> dict[str, Array]:
    """With strange values in some places."""
    for array in arrays.values():
        if array.dtype.kind == "f" and array.size:
            flat = array.reshape(-1)
            places = random.integers(0, flat.size, max(1, flat.size // 9))
            with np.errstate(over="ignore"):
                flat[places] = random.choice(STRANGE, len(places)).astype(array.dtype)
    return arrays


def sample(what: Contract, rows: int, random: np.random.Generator, size: int) -> tuple[dict[str, Array], Arrays]:
    signature = what.signature
    return batch(signature.inputs, rows, random, size), batch(signature.outputs, rows, random, size)


@settings(max_examples=60, deadline=None)
@given(what=contracts(), seed=st.integers(0, 999), spoil=st.booleans())
def test_signals_of_any_contract(what: Contract, seed: int, spoil: bool) -> None:
    random = np.random.default_rng(seed)
    chunks = [sample(what, 20, random, size) for size in (2, 5)]
    if spoil:
        chunks = [(spoilt(feeds, random), spoilt(dict(outputs), random)) for feeds, outputs in chunks]
    constants = fit(what, chunks)
    signals = Signals(what, constants)
    assert len({signal.name for signal in signals.signals}) == len(signals.signals)
    for feeds, outputs in chunks:
        table = signals.of(feeds, outputs)
        assert table.shape == (20, len(signals.signals)) and table.dtype == np.float64
        assert not np.isinf(table).any()
        judge_kinds(signals, table)
        row = {name: array[3:4] for name, array in feeds.items()}
        answered = {name: array[3:4] if what.outputs[name].batched else array for name, array in outputs.items()}
        np.testing.assert_allclose(signals.of(row, answered)[0], table[3], rtol=1e-6, atol=1e-9)
    empty = {name: array[:0] for name, array in chunks[0][0].items()}
    nothing = {name: array[:0] if what.outputs[name].batched else array for name, array in chunks[0][1].items()}
    assert signals.of(empty, nothing).shape == (0, len(signals.signals))
    reference = make_reference(what, constants, [(feeds, outputs, None) for feeds, outputs in chunks])
    again = watch(what, reference, "the reference")
    np.testing.assert_array_equal(again.of(*chunks[0]), signals.of(*chunks[0]))


def test_numbers_at_the_end_of_what_floats_hold_give_constants_that_can_be_kept(tmp_path: Path) -> None:
    what = contract({"x": ["float64", "batch", 3]}, {"y": ["float64", "batch", 12]}, task="embedding")
    random = np.random.default_rng(0)
    feeds, outputs = sample(what, 50, random, 2)
    large = {"x": np.sign(feeds["x"]) * 1e308}, {"y": np.sign(outputs["y"]) * 1e308}
    constants = fit(what, [(feeds, outputs), large, large])
    reference = make_reference(what, constants, [(feeds, outputs, None), (*large, None)])
    read = read_reference(save_reference(reference, tmp_path / "reference"), "the reference")
    table = watch(what, read, "the reference").of(*large)
    assert not np.isinf(table).any()


def judge_kinds(signals: Signals, table: Array) -> None:
    for signal, column in zip(signals.signals, table.T, strict=True):
        present = column[~np.isnan(column)]
        if signal.kind == "share":
            assert set(present.tolist()) <= {0.0, 1.0}
        if signal.kind == "class":
            assert set(present.tolist()) <= set(range(len(signal.classes)))
