"""Parts that are right by themselves and do not fit together."""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any

import pytest
from contract_cases import IDS, NET, image
from pydantic import ValidationError

from shipworthy.contract import Contract, Dim, OutputSpec, Strict, parse_contract
from shipworthy.errors import ContractError

SCORES = {"logits": {"dtype": "float32", "shape": ["batch", 3], "kind": "logits"}}
BINARY = {"kind": "classification", "labels": ["no", "yes"]}
RECORD = {"kind": "record", "fields": ["a", "b", "c", "d"]}
TEXT = {"kind": "text", "tokenizer": "tokenizer.json", "feeds": ["ids", "mask"]}

FAULTS: dict[str, tuple[dict[str, Any], str, str]] = {
    "model of no known kind": ({"model": "net.h5"}, "model", '".pt2", ".pt" or ".onnx"'),
    "weights as model": ({"model": "net.safetensors"}, "model", "holds weights"),
    "source as model": ({"model": "train.py"}, "model", '"train:build_model"'),
    "weights without model": ({"model": None, "weights": "w.pt"}, "weights", "need the model"),
    "weights with a graph": ({"model": "net.onnx", "weights": "w.pt"}, "weights", "has its own weights"),
    "post behind onnx": ({"model": "net.onnx", "task": {"post": "train:post"}}, "task.post", ".onnx"),
    "post that is no code": ({"task": {"post": "train.post"}}, "task.post", '"module:callable"'),
    "step that is no code": ({"search": {"train_step": "step"}}, "search.train_step", '"module:callable"'),
    "student that is no code": ({"search": {"distill": "a:b:c"}}, "search.distill", '"module:callable"'),
    "metric that is no code": ({"data": {"metric": "train:"}}, "data.metric", '"module:callable"'),
    "metric of no name": ({"data": {"metric": "accuracy_top5"}}, "data.metric", '"accuracy"'),
    "bounds that differ": (
        {"inputs": {**IDS, "mask": {"dtype": "int64", "shape": ["batch", "tokens"]}}},
        "inputs.mask.shape[1]",
        'write "tokens:1..512" in both',
    ),
    "batch twice": ({"inputs": {"x": {"dtype": "float32", "shape": ["batch", "batch"]}}}, "inputs.x.shape[1]", "once"),
    "image of another size": ({"inputs": image(size=[8, 9])}, "inputs.image.accept", "becomes [1, 8, 9]"),
    "image of other channels": ({"inputs": image(mode="RGB")}, "inputs.image.accept", "becomes [3, 8, 8]"),
    "image of another layout": ({"inputs": image(layout="HWC")}, "inputs.image.accept", "becomes [8, 8, 1]"),
    "image for integers": (
        {"inputs": {"image": {**image()["image"], "dtype": "uint8"}}},
        "inputs.image.accept",
        "scale = 1.0",
    ),
    "mean for other channels": ({"inputs": image(mean=[0, 0, 0])}, "inputs.image.accept", "mean has 3 values"),
    "crop without resize": ({"inputs": image(crop="center")}, "inputs.image.accept", "go together"),
    "record of other length": ({"encode": {"r": {**RECORD, "fields": ["a"]}}}, "encode.r.fields", "takes 4 numbers"),
    "record for an image": ({"inputs": image(), "encode": {"r": RECORD}}, "encode.r.fields", "takes 8 numbers"),
    "record for any length": (
        {"inputs": {"x": {"dtype": "float32", "shape": ["batch", "n"]}}, "encode": {"r": RECORD}},
        "encode.r.fields",
        'shape = ["batch", 4]',
    ),
    "record field twice": ({"encode": {"r": {**RECORD, "fields": list("abca")}}}, "encode.r.fields", '"a" stands 2'),
    "record for several": ({"inputs": IDS, "encode": {"r": RECORD}}, "encode.r", "does not say which input"),
    "unknown feed": ({"encode": {"r": {**RECORD, "feeds": ["X"]}}}, "encode.r.feeds", 'write "x"'),
    "named like another input": (
        {"inputs": IDS, "encode": {"mask": {**TEXT, "feeds": ["ids"]}}},
        "encode.mask",
        "another name",
    ),
    "text for floats": ({"encode": {"t": {**TEXT, "feeds": ["x"]}}}, "encode.t.feeds", 'dtype = "int64"'),
    "text too long": ({"inputs": IDS, "encode": {"t": {**TEXT, "max_length": 513}}}, "encode.t.max_length", "512 or"),
    "text of two lengths": (
        {"inputs": {**IDS, "mask": {"dtype": "int64", "shape": ["batch", "other"]}}, "encode": {"t": TEXT}},
        "encode.t.feeds",
        "one length",
    ),
    "labels without classes": ({"task": {"kind": "regression", "labels": ["a", "b"]}}, "task.labels", "has no classes"),
    "one label": ({"task": {"kind": "classification", "labels": ["a"]}}, "task.labels", "at least 2"),
    "label twice": ({"task": {"kind": "classification", "labels": ["a", "a"]}}, "task.labels", '"a" stands 2 times'),
    "labels and scores": (
        {"outputs": SCORES, "task": {"kind": "classification", "labels": ["a", "b"]}},
        "task.labels",
        '2 labels, and output "logits" has 3 scores',
    ),
    "confidence alone": ({"limits": {"confidence": 0.9}}, "limits.confidence", "max_metric_drop"),
    "drop of no metric": ({"limits": {"max_metric_drop": 0.1}}, "limits.max_metric_drop", "no metric of its own"),
    "qat without a loss": (
        {"search": {"quantize": ["qat"], "precisions": ["int8"]}},
        "search.quantize",
        "train_step",
    ),
    "quantization without int8": ({"search": {"quantize": ["dynamic"]}}, "search.quantize", 'add "int8"'),
    "engine twice": ({"search": {"engines": ["aoti", "aoti"]}}, "search.engines", "stands 2 times"),
}


@pytest.mark.parametrize("case", FAULTS)
def test_contradiction_is_refused(case: str) -> None:
    parts, key, said = FAULTS[case]
    with pytest.raises(ContractError) as caught:
        parse_contract({**NET, **parts}, "c.toml")
    assert caught.value.culprit == f"c.toml: {key}"
    assert said in str(caught.value)


@pytest.mark.parametrize(
    "parts",
    [
        {"model": "net.pt2"},
        {"model": "models/net.onnx"},
        {"model": "a:b.pt"},
        {"model": "package.train:Net.build", "weights": "../w.safetensors"},
        {"inputs": image(size=[8, 8], mean=[0.5], std=[0.25])},
        {"inputs": {"image": {**image(scale=1.0)["image"], "dtype": "uint8"}}},
        {"inputs": {"image": {**image(scale=1.0, mean=[128.0])["image"], "dtype": "int8"}}},
        {"inputs": {"image": {**image()["image"], "shape": ["batch", 1, "h:4..16", "w"]}}},
        {"inputs": image(resize="shorter", crop="center")},
        {"encode": {"r": RECORD}},
        {"encode": {"x": {**RECORD, "feeds": ["x"]}}},
        {"task": BINARY, "outputs": {"p": {"dtype": "float32", "shape": ["batch", 1]}}},
        {"task": BINARY, "outputs": {"p": {"dtype": "float32", "shape": ["batch"]}}},
        {"task": {"kind": "classification"}, "limits": {"max_metric_drop": 0, "confidence": 0.99}},
        {"data": {"metric": "train:score"}, "limits": {"max_metric_drop": 0.1}},
        {"search": {"quantize": ["qat"], "precisions": ["int8"], "train_step": "train:step"}},
        {"search": {"prune": [0.0, 0.3], "distill": "train:student", "budget": "1.5 h"}},
    ],
)  # fmt: skip
def test_what_fits_is_taken(parts: dict[str, Any]) -> None:
    assert parse_contract({**NET, **parts}).name == "net"


def test_all_contradictions_are_named() -> None:
    parts = {**NET, "model": "net.h5", "limits": {"confidence": 0.9}, "search": {"quantize": ["static"]}}
    with pytest.raises(ContractError) as caught:
        parse_contract(parts)
    lines = str(caught.value).splitlines()
    assert [line.split(": ")[1] for line in lines] == ["model", "limits.confidence", "search.quantize"]


def test_outputs_that_are_found_later_are_checked() -> None:
    contract = parse_contract({**NET, "task": {"kind": "classification", "labels": ["a", "b"]}})
    outputs = {"logits": OutputSpec(dtype="float32", shape=(Dim("batch"), 3), kind="logits")}
    with pytest.raises(ContractError, match="2 labels, and output"):
        contract.with_outputs(outputs)
    two = {"logits": OutputSpec(dtype="float32", shape=(Dim("batch"), 2), kind="logits")}
    assert contract.with_outputs(two).outputs == two
    assert contract.with_outputs(two).root == contract.root


def test_python_face_refuses_in_the_same_words() -> None:
    with pytest.raises(ContractError, match=r'contract: task\.kind: expected .*; write "classification"'):
        Contract(**{**NET, "task": {"kind": "clasification"}})
    with pytest.raises(ContractError, match=r"contract: limits\.confidence: "):
        Contract(**{**NET, "limits": {"confidence": 0.9}})


def test_a_model_that_holds_a_contract_keeps_its_own_error() -> None:
    class Holder(Strict):
        contract: Contract

    assert Holder.model_validate({"contract": NET}).contract.name == "net"
    with pytest.raises(ValidationError, match=r"contract\.task\.kind"):
        Holder.model_validate({"contract": {**NET, "task": {"kind": "none"}}})
    with pytest.raises(ValidationError, match="is no setting"):
        Holder.model_validate_json('{"contract": {"name": "x", "inputs": {}, "root": "/etc"}}')


def test_a_contract_survives_pickling() -> None:
    contract = parse_contract({**NET, "task": BINARY}, root=Path("/somewhere"))
    assert pickle.loads(pickle.dumps(contract)) == contract
    assert pickle.loads(pickle.dumps(contract)).root == Path("/somewhere")


def test_metrics_are_those_that_are_measured() -> None:
    from shipworthy.contract.crosscheck import DEFAULT_METRIC, METRICS
    from shipworthy.quality import metrics

    assert set(METRICS) == set(metrics.BUILT_IN)
    assert set(DEFAULT_METRIC) == {kind for kind, metric in metrics.DEFAULT.items() if metric is not None}
