"""What a contract for a GPU may ask for, and what one for the CPU may not."""

from __future__ import annotations

from typing import Any

import pytest

from shipworthy.contract import Contract
from shipworthy.errors import ContractError

PARTS: dict[str, Any] = {
    "name": "net",
    "model": "train:build_model",
    "inputs": {"x": {"dtype": "float32", "shape": ["batch", 4]}},
}
ON_CUDA = {"target": {"device": "cuda"}}


@pytest.mark.parametrize(
    ("parts", "key", "told"),
    [
        ({"search": {"precisions": ["fp32", "fp16"]}}, "search.precisions", 'write "bf16", or target.device = "cuda"'),
        ({"search": {"precisions": ["fp8"]}}, "search.precisions", 'write "int8", or target.device = "cuda"'),
        ({**ON_CUDA, "search": {"engines": ["openvino"]}}, "search.engines", '"openvino" runs on the CPU only'),
        ({**ON_CUDA, "search": {"engines": ["aoti", "onnxruntime"]}}, "search.engines", '"torchscript" or "aoti"'),
        ({**ON_CUDA, "model": "net.onnx"}, "target.device", "no engine here runs an .onnx file on a GPU"),
        (
            {**ON_CUDA, "search": {"precisions": ["int8"], "quantize": ["static"]}},
            "search.quantize",
            'write quantize = ["dynamic"]',
        ),
        (
            {**ON_CUDA, "search": {"precisions": ["fp16"], "quantize": ["dynamic"]}},
            "search.quantize",
            "gives int8 or fp8, which is not among the precisions",
        ),
    ],
)
def test_what_does_not_go_with_the_device_is_refused(parts: dict[str, Any], key: str, told: str) -> None:
    with pytest.raises(ContractError) as caught:
        Contract(**{**PARTS, **parts})
    assert key in str(caught.value)
    assert told in str(caught.value)


@pytest.mark.parametrize(
    "parts",
    [
        ON_CUDA,
        {**ON_CUDA, "search": {"engines": ["aoti", "torchscript"], "precisions": ["fp32", "bf16", "fp16"]}},
        {**ON_CUDA, "search": {"precisions": ["fp8"], "quantize": ["dynamic"]}},
        {**ON_CUDA, "search": {"precisions": ["int8"], "quantize": ["dynamic"]}},
    ],
)
def test_what_goes_with_a_gpu_is_taken(parts: dict[str, Any]) -> None:
    assert Contract(**{**PARTS, **parts}).target.device == "cuda"
