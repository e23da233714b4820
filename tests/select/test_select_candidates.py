"""The plan of a sweep: what, in which order, and what not."""

from __future__ import annotations

import pytest

from shipworthy.contract import Contract, InputSpec, SearchSpec
from shipworthy.errors import ContractError
from shipworthy.evidence import Candidate
from shipworthy.runtime import this_host
from shipworthy.select import candidates
from shipworthy.select.candidates import parent, plan, simplicity


def _contract(**search: object) -> Contract:
    inputs = {"x": InputSpec(dtype="float32", shape=("batch", 2))}
    return Contract(name="n", inputs=inputs, search=SearchSpec.model_validate(search))


def test_engines_come_simple_first_and_each_precision_after_fp32() -> None:
    ids = [candidate.id for candidate in plan(_contract(precisions=("bf16", "fp32"))).candidates]
    assert ids == [
        f"{engine}-{precision}"
        for engine in ("onnxruntime", "openvino", "torchscript", "aoti")
        for precision in ("fp32", "bf16")
    ]


def test_the_contract_and_the_caller_narrow_the_engines() -> None:
    contract = _contract(precisions=("fp32",), engines=("openvino", "aoti"))
    assert [c.id for c in plan(contract).candidates] == ["openvino-fp32", "aoti-fp32"]
    assert [c.id for c in plan(contract, ["onnxruntime"]).candidates] == ["onnxruntime-fp32"]
    with pytest.raises(ContractError, match="'onxruntime' is no engine; did you mean 'onnxruntime'"):
        plan(_contract(), ["onxruntime"])


def test_what_cannot_be_made_is_skipped_with_the_reason(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(candidates, "engine_version", lambda engine: None if engine == "openvino" else "1.0")
    planned = plan(_contract(precisions=("fp32", "int8"), engines=("openvino", "onnxruntime")))
    assert [c.id for c in planned.candidates] == ["onnxruntime-fp32"]
    reasons = {row.candidate.id: row.reason for row in planned.skipped}
    assert reasons["openvino-fp32"] == "openvino is not installed; pip install 'shipworthy[openvino]'"
    assert reasons["onnxruntime-int8"] == "no recipe of this build gives int8"
    assert {row.verdict for row in planned.skipped} == {"skipped"}


def test_the_simpler_brings_no_code_and_then_keeps_fp32() -> None:
    every = plan(_contract(precisions=("fp32", "bf16"))).candidates
    assert [c.id for c in sorted(every, key=simplicity)][:5] == [
        "onnxruntime-fp32",
        "openvino-fp32",
        "onnxruntime-bf16",
        "openvino-bf16",
        "torchscript-fp32",
    ]


@pytest.mark.parametrize(("candidate", "expected"), [
    (Candidate(engine="openvino", precision="fp32"), None),
    (Candidate(engine="openvino", precision="bf16"), "openvino-fp32"),
    (Candidate(recipe="prune30", engine="openvino", precision="bf16"), "openvino-bf16"),
    (Candidate(recipe="static", engine="openvino", precision="int8"), "openvino-fp32"),
])  # fmt: skip
def test_what_a_candidate_was_derived_from(candidate: Candidate, expected: str | None) -> None:
    found = parent(candidate)
    assert (None if found is None else found.id) == expected


def test_a_recipe_that_there_is_not_is_a_skipped_row() -> None:
    given = {"precisions": ["fp32"], "prune": [0.0, 0.3], "distill": "train:student"}
    contract = Contract(name="x", inputs={"x": {"dtype": "float32", "shape": ["batch", 4]}}, search=given)
    skipped = {result.candidate.recipe: result.reason for result in plan(contract).skipped}
    assert skipped == {
        "prune30": "no recipe of this build gives prune30",
        "distill": "no recipe of this build gives distill",
    }


@pytest.mark.parametrize(
    ("target", "said"),
    [({"device": "cuda"}, "target.device: 'cuda' cannot be measured yet"), ({"arch": "elsewhere"}, "is not this host")],
    ids=["cuda", "arch"],
)
def test_a_target_that_cannot_be_measured_here_is_refused(target: dict[str, str], said: str) -> None:
    if "arch" in target:
        target = {"arch": next(arch for arch in ("x86-64", "aarch64") if arch != this_host().arch)}
    contract = Contract(name="x", inputs={"x": {"dtype": "float32", "shape": ["batch", 4]}}, target=target)
    with pytest.raises(ContractError, match=said):
        plan(contract)
