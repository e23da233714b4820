"""The plan of a sweep: what, in which order, and what not."""

from __future__ import annotations

import pytest

from shipworthy.contract import Contract, InputSpec, SearchSpec
from shipworthy.contract.spec import Precision
from shipworthy.errors import ContractError
from shipworthy.evidence import Candidate
from shipworthy.runtime import this_host
from shipworthy.select import candidates
from shipworthy.select.candidates import Given, parents, plan, simplicity


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


def test_the_recipes_follow_from_the_contract() -> None:
    search = {"precisions": ("fp32", "int8"), "engines": ("openvino",), "prune": (0.0, 0.3), "sparsify": (0.125,)}
    search |= {"quantize": ("dynamic", "static", "qat"), "distill": "train:student", "train_step": "train:step"}
    names = [candidate.recipe for candidate in plan(_contract(**search)).candidates]
    assert names[:4] == ["plain", "dynamic", "static", "lean"]
    assert names[4:8] == ["qat", "sparse12.5", "prune30", "distill"]
    assert set(names[8:]) == {f"{s}+{q}" for s in names[5:8] for q in ("dynamic", "static")}


def test_without_a_way_to_int8_the_data_decides() -> None:
    contract = _contract(precisions=("int8",), engines=("onnxruntime",))
    found = plan(contract, given=Given()).candidates
    assert [c.recipe for c in found] == ["plain", "static", "lean"]
    assert found[0].precision == "fp32", "what int8 starts from and is compared with is always there"
    assert [c.recipe for c in plan(contract, given=Given(calibration=False)).candidates] == ["plain", "dynamic"]


def test_a_recipe_that_no_engine_asked_for_has_is_a_row() -> None:
    contract = _contract(precisions=("fp32", "int8"), quantize=("static",), engines=("aoti",))
    rows = {row.candidate.recipe: row.reason for row in plan(contract).skipped}
    assert "it is for onnxruntime, openvino" in rows["lean"]


def test_a_recipe_without_its_data_is_one_skipped_row() -> None:
    contract = _contract(precisions=("fp32", "int8"), quantize=("static",), distill="train:student")
    rows = plan(contract, given=Given(train=False, calibration=False)).skipped
    assert {row.candidate.recipe for row in rows if row.candidate.engine != "onnxruntime"} == set()
    reasons = {row.candidate.recipe: row.reason for row in rows}
    assert reasons["distill"].startswith("needs training data")
    assert reasons["static"].startswith("needs calibration data")


def test_the_contract_and_the_caller_narrow_the_engines() -> None:
    contract = _contract(precisions=("fp32",), engines=("openvino", "aoti"))
    assert [c.id for c in plan(contract).candidates] == ["openvino-fp32", "aoti-fp32"]
    assert [c.id for c in plan(contract, ["onnxruntime"]).candidates] == ["onnxruntime-fp32"]
    with pytest.raises(ContractError, match="'onxruntime' is no engine; did you mean 'onnxruntime'"):
        plan(_contract(), ["onxruntime"])


def test_what_cannot_be_made_is_skipped_with_the_reason(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(candidates, "engine_version", lambda engine: None if engine == "openvino" else "1.0")
    planned = plan(_contract(precisions=("fp32", "int8"), engines=("openvino", "onnxruntime")))
    assert {c.engine for c in planned.candidates} == {"onnxruntime"}
    reasons = {row.candidate.id: row.reason for row in planned.skipped}
    assert reasons == {"openvino-fp32": "openvino is not installed; pip install 'shipworthy[openvino]'"}
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


@pytest.mark.parametrize(("recipe", "precision", "expected"), [
    ("plain", "fp32", []),
    ("plain", "bf16", ["openvino-fp32"]),
    ("prune30", "fp32", ["openvino-fp32"]),
    ("prune30", "bf16", ["openvino-bf16"]),
    ("static", "int8", ["openvino-fp32"]),
    ("qat", "int8", ["openvino-fp32"]),
    ("static-bf16", "int8", ["static+openvino-int8"]),
    ("lean", "int8", ["static+openvino-int8"]),
    ("accuracy-aware-bf16", "int8", ["accuracy-aware+openvino-int8"]),
    ("prune30+static", "int8", ["prune30+openvino-fp32", "static+openvino-int8"]),
    ("prune30+static-bf16", "int8", ["prune30+static+openvino-int8"]),
    ("prune30+dynamic-fp8", "fp8", ["prune30+openvino-fp32", "dynamic-fp8+openvino-fp8"]),
    ("distill+accuracy-aware", "int8", ["distill+openvino-fp32", "accuracy-aware+openvino-int8"]),
])  # fmt: skip
def test_what_a_candidate_was_derived_from(recipe: str, precision: Precision, expected: list[str]) -> None:
    candidate = Candidate(recipe=recipe, engine="openvino", precision=precision)
    assert [parent.id for parent in parents(candidate)] == expected


def test_a_shaped_model_is_less_simple_than_a_quantized_one() -> None:
    def ranked(*recipes: str) -> list[str]:
        every = [Candidate(recipe=name, engine="openvino", precision="int8") for name in recipes]
        return [candidate.recipe for candidate in sorted(every, key=simplicity)]

    names = ("plain", "static", "static-bf16", "qat", "sparse30", "prune30", "prune30+static", "distill")
    assert ranked(*reversed(names)) == list(names)


@pytest.mark.parametrize(
    ("target", "said"),
    [
        ({"device": "cuda"}, 'target.device: "cuda" cannot be measured here'),
        ({"arch": "elsewhere"}, "is not this host"),
    ],
    ids=["cuda", "arch"],
)
def test_a_target_that_cannot_be_measured_here_is_refused(target: dict[str, str], said: str) -> None:
    if "arch" in target:
        target = {"arch": next(arch for arch in ("x86-64", "aarch64") if arch != this_host().arch)}
    contract = Contract(name="x", inputs={"x": {"dtype": "float32", "shape": ["batch", 4]}}, target=target)
    with pytest.raises(ContractError, match=said):
        plan(contract)
