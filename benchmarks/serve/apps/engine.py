"""The model as every peer runs it: one graph, opened with ONNX Runtime or OpenVINO. Nothing but numpy is needed."""

from __future__ import annotations

import json
import os
import threading
from typing import Any


def described() -> dict[str, Any]:
    """What the benchmark says of the model and of how it is to be served."""
    told: dict[str, Any] = json.loads(os.environ["BENCH_MODEL"])
    return told


def from_environment() -> tuple[Any, dict[str, Any]]:
    """The function of a model, arrays [n, ...] to arrays [n, width], and what the benchmark says of it."""
    told = described()
    return opened(told), told


def opened(told: dict[str, Any]) -> Any:
    """Safe to call from several threads."""
    return _openvino(told) if told["graph"].endswith(".xml") else _onnxruntime(told)


def _onnxruntime(told: dict[str, Any]) -> Any:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = told["threads"]
    # Threads that spin between two requests take the processor from the web server.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    session = onnxruntime.InferenceSession(told["graph"], options, providers=["CPUExecutionProvider"])
    name = told["input"]

    def run(array: Any) -> Any:
        return session.run(None, {name: array})[0]

    return run


def _openvino(told: dict[str, Any]) -> Any:
    import openvino

    config = {
        "INFERENCE_PRECISION_HINT": "f32",
        "INFERENCE_NUM_THREADS": told["threads"],
        "NUM_STREAMS": told["streams"],
    }
    compiled = openvino.Core().compile_model(told["graph"], "CPU", config)
    own = threading.local()

    def run(array: Any) -> Any:
        if not hasattr(own, "request"):
            own.request = compiled.create_infer_request()
        return own.request.infer({0: array}, share_inputs=True)[0].copy()

    return run
