"""The small model of `monitor_cases` as a package with its reference."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
from monitor_cases import CENTRES, contract, draw, reference

from shipworthy.contract import Contract
from shipworthy.evidence import BuildRecord, Candidate, CandidateResult, Environment, LatencyPoint
from shipworthy.package import Golden, GoldenCase, Requirements, Variant, write_package
from shipworthy.runtime.protocol import OperatingPoint
from shipworthy.signals import Accepted, save_reference


def package(folder: Path, *, of: Contract | None = None, watched: bool = True) -> Path:
    """Write it into `folder`; `watched`: with a reference."""
    graph = _graph(folder.with_name(folder.name + "-graph"))
    kept = folder.with_name(folder.name + ".reference")
    accepted = Accepted("accuracy", 0.95, 0.93, 1000)
    save_reference(replace(reference(), accepted=accepted), kept)
    variant = Variant(
        id="onnxruntime-fp32",
        precision="fp32",
        directory="variants/onnxruntime-fp32",
        requires=Requirements(engine="onnxruntime"),
        points=(OperatingPoint(streams=1, threads=1, batch=256),),
        latency=tuple(LatencyPoint(batch=batch, p50_ms=0.1, p99_ms=0.2, runs=100) for batch in (1, 32, 256)),
        tolerance={"logits": 1e-3},
    )
    points, logits, _ = draw(4, np.random.default_rng(0))
    candidate = Candidate(engine="torch", precision="fp32")
    return write_package(
        folder,
        contract=of or contract(),
        variants=[(variant, graph)],
        golden=Golden((GoldenCase({"point": points}, {"logits": logits}),)),
        record=BuildRecord(
            name="points",
            contract_digest=contract().digest,
            created="2026-01-02T03:04:05Z",
            environment=Environment(host={"cpu": "none"}, versions={"python": "3.11"}),
            results=(CandidateResult(candidate=candidate, verdict="baseline", reason="eager fp32"),),
            chosen="onnxruntime-fp32",
            why="written by hand",
        ),
        report_html="<!doctype html><title>points</title><p>Points.</p>\n",
        card="# points\n\nPoints.\n",
        references={"onnxruntime-fp32": kept} if watched else {},
    )


def _graph(folder: Path) -> Path:
    import onnx
    from onnx import TensorProto, helper, numpy_helper

    folder.mkdir(parents=True, exist_ok=True)
    graph = helper.make_graph(
        [helper.make_node("MatMul", ["point", "centres"], ["logits"])],
        "points",
        [helper.make_tensor_value_info("point", TensorProto.FLOAT, ["batch", 2])],
        [helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["batch", 3])],
        [numpy_helper.from_array(np.ascontiguousarray(CENTRES.T), "centres")],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)
    onnx.save(model, folder / "model.onnx")
    return folder
