"""A small multilayer perceptron with fixed weights, as ONNX and as OpenVINO IR, and the package that holds it.

Nothing here needs torch: the golden answers come from NumPy."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from shipworthy.contract import Array, Contract, InputSpec, OutputSpec, RecordEncode, TaskSpec
from shipworthy.evidence import BuildRecord, Candidate, CandidateResult, Environment, LatencyPoint
from shipworthy.package import Golden, GoldenCase, Requirements, Variant, write_package
from shipworthy.runtime.protocol import OperatingPoint

FEATURES, HIDDEN, CLASSES = 4, 8, 3
LABELS = ("setosa", "versicolor", "virginica")
FIELDS = ("sepal_length", "sepal_width", "petal_length", "petal_width")
CREATED = "2026-01-02T03:04:05Z"


def weights() -> tuple[Array, Array, Array, Array]:
    rng = np.random.default_rng(20260102)
    w1 = rng.normal(size=(FEATURES, HIDDEN)).astype(np.float32)
    w2 = rng.normal(size=(HIDDEN, CLASSES)).astype(np.float32)
    return w1, rng.normal(size=HIDDEN).astype(np.float32), w2, rng.normal(size=CLASSES).astype(np.float32)


def eager(features: Array) -> Array:
    """Logits [batch, 3] of features [batch, 4]."""
    w1, b1, w2, b2 = weights()
    logits: Array = np.maximum(features @ w1 + b1, np.float32(0)) @ w2 + b2
    return logits


def features(rows: int, seed: int = 0) -> Array:
    return np.random.default_rng(seed).normal(size=(rows, FEATURES)).astype(np.float32)


def contract(**parts: Any) -> Contract:
    given: dict[str, Any] = {
        "name": "iris",
        "inputs": {"features": InputSpec(dtype="float32", shape=("batch", FEATURES))},
        "encode": {"flower": RecordEncode(kind="record", fields=FIELDS)},
        "outputs": {"logits": OutputSpec(dtype="float32", shape=("batch", CLASSES), kind="logits")},
        "task": TaskSpec(kind="classification", labels=LABELS),
    }
    return Contract(**{**given, **parts})


def write_onnx(folder: Path, w2: Array | None = None) -> Path:
    """`model.onnx` of the perceptron; `w2` takes the place of its last weights."""
    import onnx
    from onnx import TensorProto, helper, numpy_helper

    folder.mkdir(parents=True, exist_ok=True)
    w1, b1, w2_own, b2 = weights()
    values = {"w1": w1, "b1": b1, "w2": w2_own if w2 is None else w2, "b2": b2}
    graph = helper.make_graph(
        [
            helper.make_node("Gemm", ["features", "w1", "b1"], ["h"]),
            helper.make_node("Relu", ["h"], ["r"]),
            helper.make_node("Gemm", ["r", "w2", "b2"], ["logits"]),
        ],
        "mlp",
        [helper.make_tensor_value_info("features", TensorProto.FLOAT, ["batch", FEATURES])],
        [helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["batch", CLASSES])],
        [numpy_helper.from_array(array, name) for name, array in values.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)
    onnx.checker.check_model(model)
    onnx.save(model, folder / "model.onnx")
    return folder


def write_openvino(folder: Path, onnx_folder: Path) -> Path:
    """`model.xml` and `model.bin`, converted from the ONNX file."""
    import openvino

    folder.mkdir(parents=True, exist_ok=True)
    openvino.save_model(
        openvino.convert_model(onnx_folder / "model.onnx"), folder / "model.xml", compress_to_fp16=False
    )
    return folder


def variant(engine: str, **parts: Any) -> Variant:
    given: dict[str, Any] = {
        "id": f"{engine}-fp32",
        "precision": "fp32",
        "directory": f"variants/{engine}-fp32",
        "requires": Requirements(engine=engine),
        "points": (OperatingPoint(streams=1, threads=1, batch=4),),
        "latency": tuple(LatencyPoint(batch=batch, p50_ms=0.1, p99_ms=0.2, runs=100) for batch in (1, 4, 8)),
        "tolerance": {"logits": 1e-4},
    }
    return Variant(**{**given, **parts})


def golden() -> Golden:
    cases = (features(rows, seed) for seed, rows in enumerate((2, 1, 5)))
    return Golden(tuple(GoldenCase({"features": rows}, {"logits": eager(rows)}) for rows in cases))


def record(**parts: Any) -> BuildRecord:
    given: dict[str, Any] = {
        "name": "iris",
        "contract_digest": contract().digest,
        "created": CREATED,
        "environment": Environment(host={"cpu": "none"}, versions={"python": "3.11"}),
        "results": (
            CandidateResult(
                candidate=Candidate(engine="torch", precision="fp32"), verdict="baseline", reason="eager fp32"
            ),
        ),
        "chosen": "onnxruntime-fp32",
        "why": "written by hand",
    }
    return BuildRecord(**{**given, **parts})


def both_variants(work: Path) -> list[tuple[Variant, Path]]:
    onnx_folder = write_onnx(work / "onnxruntime")
    openvino_folder = write_openvino(work / "openvino", onnx_folder)
    return [(variant("onnxruntime"), onnx_folder), (variant("openvino"), openvino_folder)]


def write(directory: Path, work: Path, **parts: Any) -> Path:
    """The package with both variants; `work` takes the graphs on the way."""
    given: dict[str, Any] = {
        "contract": contract(),
        "variants": parts["variants"] if "variants" in parts else both_variants(work),
        "golden": golden(),
        "record": record(),
        "report_html": "<!doctype html><title>iris</title><p>A small perceptron.</p>\n",
        "card": "# iris\n\nA small perceptron with fixed weights.\n",
    }
    return write_package(directory, **{**given, **parts})
