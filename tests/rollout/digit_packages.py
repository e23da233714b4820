"""Versions of a digits classifier as packages: a good one, and ones that are better, worse, slow, or fail at times.

Real data, a real graph: a perceptron that scikit-learn has trained on a part of the bundled digits, as ONNX."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np

from shipworthy.contract import Array, Contract, InputSpec, OutputSpec, TaskSpec
from shipworthy.evidence import BuildRecord, Candidate, CandidateResult, Environment, LatencyPoint
from shipworthy.package import Golden, GoldenCase, Requirements, Variant, write_package
from shipworthy.runtime.protocol import OperatingPoint

CLASSES = 10
PIXELS = 64
BRIGHTEST = 16
MOST = 600
"""Images that versions are trained with."""
FATAL = 14.5
"""A version that fails does so where the pixel in the middle is brighter than this: for about every eighth image."""
MIDDLE = 20


@dataclass(frozen=True)
class Weights:
    w1: Array
    b1: Array
    w2: Array
    b2: Array

    def logits(self, images: Array) -> Array:
        """[n, 10] of [n, 64]."""
        hidden = np.maximum(images @ self.w1 + self.b1, np.float32(0))
        scores: Array = hidden @ self.w2 + self.b2
        return scores

    def accuracy(self, images: Array, labels: Array) -> float:
        return float((self.logits(images).argmax(1) == labels).mean())

    def disturbed(self, by: float, seed: int = 0) -> Weights:
        """With noise of so many standard deviations on the last weights."""
        noise = np.random.default_rng(seed).normal(size=self.w2.shape) * self.w2.std() * by
        return Weights(self.w1, self.b1, (self.w2 + noise).astype(np.float32), self.b2)


@cache
def _all() -> tuple[Array, Array]:
    from sklearn.datasets import load_digits

    data = load_digits()
    order = np.random.default_rng(0).permutation(len(data.target))
    return data.data[order].astype(np.float32), data.target[order]


def images() -> tuple[Array, Array]:
    """Those that no version was trained with: float32 [n, 64] from 0 to 16, and their classes [n]."""
    data, target = _all()
    return data[MOST:], target[MOST:]


@cache
def trained(samples: int = MOST) -> Weights:
    """From the first `samples` images, at most `MOST`."""
    from sklearn.neural_network import MLPClassifier

    data, target = _all()
    net = MLPClassifier((32,), max_iter=300, random_state=0).fit(data[:samples] / BRIGHTEST, target[:samples])
    (w1, w2), (b1, b2) = net.coefs_, net.intercepts_
    return Weights(*(array.astype(np.float32) for array in (w1 / BRIGHTEST, b1, w2, b2)))


def contract() -> Contract:
    return Contract(
        name="digits",
        inputs={"image": InputSpec(dtype="float32", shape=("batch", PIXELS))},
        outputs={"logits": OutputSpec(dtype="float32", shape=("batch", CLASSES), kind="logits")},
        task=TaskSpec(kind="classification", labels=tuple(map(str, range(CLASSES)))),
    )


def package(folder: Path, weights: Weights, *, slow: int = 0, fails: bool = False) -> Path:
    """Write a version into `folder`. `slow` adds so many products of 512 x 512 matrices that change nothing."""
    graph = _write_graph(folder.with_name(folder.name + "-graph"), weights, slow, fails)
    answers = {}
    cases = []
    for rows in (1, 4, 8):
        # Dark in the middle, so that a version that fails at times is whole when it is opened.
        seen = images()[0][:rows].copy()
        seen[:, MIDDLE] = 0
        answers[rows] = weights.logits(seen)
        cases.append(GoldenCase({"image": seen}, {"logits": answers[rows]}))
    variant = Variant(
        id="onnxruntime-fp32",
        precision="fp32",
        directory="variants/onnxruntime-fp32",
        requires=Requirements(engine="onnxruntime"),
        points=(OperatingPoint(streams=1, threads=1, batch=8),),
        latency=tuple(LatencyPoint(batch=batch, p50_ms=0.1, p99_ms=0.2, runs=100) for batch in (1, 4, 8, 32)),
        tolerance={"logits": 1e-2},
    )
    return write_package(
        folder,
        contract=contract(),
        variants=[(variant, graph)],
        golden=Golden(tuple(cases)),
        record=_record(),
        report_html="<!doctype html><title>digits</title><p>A perceptron.</p>\n",
        card="# digits\n\nA perceptron.\n",
    )


def _write_graph(folder: Path, weights: Weights, slow: int, fails: bool) -> Path:
    import onnx
    from onnx import TensorProto, helper, numpy_helper

    folder.mkdir(parents=True, exist_ok=True)
    values: dict[str, Array] = {"w1": weights.w1, "b1": weights.b1, "w2": weights.w2, "b2": weights.b2}
    nodes = [
        helper.make_node("Gemm", ["image", "w1", "b1"], ["h"]),
        helper.make_node("Relu", ["h"], ["r"]),
        helper.make_node("Gemm", ["r", "w2", "b2"], ["scores"]),
    ]
    last = "scores"
    if slow:
        values |= {"wide": np.zeros((PIXELS, 512), np.float32), "square": np.eye(512, dtype=np.float32) * 0.5}
        values |= {"narrow": np.zeros((512, CLASSES), np.float32)}
        nodes.append(helper.make_node("MatMul", ["image", "wide"], ["s0"]))
        nodes += [helper.make_node("MatMul", [f"s{step}", "square"], [f"s{step + 1}"]) for step in range(slow)]
        nodes += [helper.make_node("MatMul", [f"s{slow}", "narrow"], ["nothing"])]
        nodes.append(helper.make_node("Add", [last, "nothing"], ["slowly"]))
        last = "slowly"
    if fails:
        values |= {"middle": np.array([MIDDLE], np.int64), "limit": np.array(FATAL, np.float32)}
        values |= {"far": np.array(1000, np.int64), "zeros": np.zeros((1, CLASSES), np.float32)}
        nodes += [
            helper.make_node("Gather", ["image", "middle"], ["pixel"], axis=1),
            helper.make_node("Greater", ["pixel", "limit"], ["bright"]),
            helper.make_node("Cast", ["bright"], ["one"], to=TensorProto.INT64),
            helper.make_node("Mul", ["one", "far"], ["place"]),
            helper.make_node("Squeeze", ["place"], ["places"]),
            helper.make_node("Reshape", ["places", "flat"], ["flat_places"]),
            # No row 1000 is there: the engine ends the run with an error.
            helper.make_node("Gather", ["zeros", "flat_places"], ["none"], axis=0),
            helper.make_node("Add", [last, "none"], ["perhaps"]),
        ]
        values["flat"] = np.array([-1], np.int64)
        last = "perhaps"
    nodes.append(helper.make_node("Identity", [last], ["logits"]))
    graph = helper.make_graph(
        nodes,
        "digits",
        [helper.make_tensor_value_info("image", TensorProto.FLOAT, ["batch", PIXELS])],
        [helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["batch", CLASSES])],
        [numpy_helper.from_array(array, name) for name, array in values.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)
    onnx.checker.check_model(model)
    onnx.save(model, folder / "model.onnx")
    return folder


def _record() -> BuildRecord:
    candidate = Candidate(engine="torch", precision="fp32")
    return BuildRecord(
        name="digits",
        contract_digest=contract().digest,
        created="2026-01-02T03:04:05Z",
        environment=Environment(host={"cpu": "none"}, versions={"python": "3.11"}),
        results=(CandidateResult(candidate=candidate, verdict="baseline", reason="eager fp32"),),
        chosen="onnxruntime-fp32",
        why="written by hand",
    )
