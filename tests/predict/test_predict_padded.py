"""Padding that a contract allows: proven when a package is loaded, and refused where the model reads it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import mlp
import numpy as np
import pytest

from shipworthy.contract import Array, Contract, InputSpec, OutputSpec, TaskSpec
from shipworthy.errors import NoUsableVariant
from shipworthy.package import Golden, GoldenCase
from shipworthy.predict import load

pytest.importorskip("onnxruntime")

TOKENS = ("batch", "tokens:1..40")


def contract(pad: float | None, whole: bool = False) -> Contract:
    outputs: dict[str, Any] = {
        "total": OutputSpec(dtype="float32", shape=("batch",)),
        "kept": OutputSpec(dtype="float32", shape=TOKENS),
    }
    if whole:
        outputs["widths"] = OutputSpec(dtype="int64", shape=(2,))
    return Contract(
        name="words",
        inputs={
            "ids": InputSpec(dtype="float32", shape=TOKENS, pad=pad),
            "mask": InputSpec(dtype="float32", shape=TOKENS, pad=pad),
        },
        outputs=outputs,
        task=TaskSpec(kind="tensors"),
    )


def write(folder: Path, reduce: str, made: Contract) -> Path:
    """`model.onnx`: kept = ids * mask, total = `reduce` of kept over the tokens, widths = the shape of ids."""
    import onnx
    from onnx import TensorProto, helper

    folder.mkdir(parents=True)
    kinds = {"float32": TensorProto.FLOAT, "int64": TensorProto.INT64}
    graph = helper.make_graph(
        [
            helper.make_node("Mul", ["ids", "mask"], ["kept"]),
            helper.make_node(reduce, ["kept", "axes"], ["total"], keepdims=0),
            helper.make_node("Shape", ["ids"], ["widths"]),
        ],
        "words",
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, ["batch", "tokens"]) for name in made.inputs],
        [
            helper.make_tensor_value_info(
                name, kinds[spec.dtype], [dim if isinstance(dim, int) else dim.name for dim in spec.shape]
            )
            for name, spec in made.outputs.items()
        ],
        [helper.make_tensor("axes", TensorProto.INT64, [1], [1])],
    )
    opset = [helper.make_opsetid("", 18)]
    onnx.save(helper.make_model(graph, opset_imports=opset, ir_version=9), folder / "model.onnx")
    return folder


def case(rows: int, length: int, reduce: str, made: Contract) -> GoldenCase:
    random = np.random.default_rng(length)
    inputs: dict[str, Array] = {
        "ids": random.integers(1, 9, (rows, length)).astype(np.float32),
        "mask": np.ones((rows, length), np.float32),
    }
    total = inputs["ids"].sum(1) if reduce == "ReduceSum" else inputs["ids"].mean(1)
    outputs = {"total": total.astype(np.float32), "kept": inputs["ids"], "widths": np.array([rows, length])}
    return GoldenCase(inputs, {name: outputs[name] for name in made.outputs})


def package(folder: Path, reduce: str, made: Contract, lengths: tuple[int, ...] = (5, 12)) -> Path:
    variant = mlp.variant("onnxruntime", tolerance={"total": 1e-3, "kept": 0.0})
    return mlp.write(
        folder / "package",
        folder / "work",
        contract=made,
        variants=[(variant, write(folder / "graph", reduce, made))],
        golden=Golden(tuple(case(2, length, reduce, made) for length in lengths)),
    )


def test_padding_that_changes_nothing_is_used(tmp_path: Path) -> None:
    with load(package(tmp_path, "ReduceSum", contract(0))) as predictor:
        padding = predictor.padding
        assert padding is not None and padding.cuts
        parts = [case(rows, length, "ReduceSum", predictor.contract) for rows, length in ((1, 9), (2, 10))]
        outputs = predictor.run(padding.pad([part.inputs for part in parts], 4))
        assert outputs["kept"].shape == (4, 10)
        for part, rows in zip(parts, (slice(0, 1), slice(1, 3)), strict=True):
            mine = padding.unpad({name: array[rows] for name, array in outputs.items()}, part.inputs)
            for name, expected in part.outputs.items():
                np.testing.assert_array_equal(mine[name], expected)


def test_padding_that_the_model_reads_refuses_the_variant(tmp_path: Path) -> None:
    with pytest.raises(NoUsableVariant, match=r"onnxruntime-fp32.*inputs\.\*\.pad.*'total': differs by.*remove pad"):
        load(package(tmp_path, "ReduceMean", contract(0)))
    with load(package(tmp_path / "unpadded", "ReduceMean", contract(None))) as predictor:
        assert predictor.padding is None


def test_cases_of_the_largest_size_cannot_grow(tmp_path: Path) -> None:
    with load(package(tmp_path, "ReduceSum", contract(0), lengths=(40,))) as predictor:
        assert predictor.padding is not None


def test_an_output_of_the_whole_batch_leaves_nothing_to_pad(tmp_path: Path) -> None:
    with load(package(tmp_path, "ReduceSum", contract(0, whole=True))) as predictor:
        assert predictor.padding is None and not predictor.mixes
