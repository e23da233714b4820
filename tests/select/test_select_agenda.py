"""The order of a sweep, and what it leaves out."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from shipworthy.contract import Contract, Limits, SearchSpec, Signature, TargetSpec
from shipworthy.evidence import Candidate, MetricEvidence, Speed
from shipworthy.measure import ExportReply
from shipworthy.runtime import Artifact, Host
from shipworthy.select import candidates
from shipworthy.select.agenda import Agenda
from shipworthy.select.candidates import Given, plan, skip
from shipworthy.select.results import Exported, Pace, Quality, Refusal
from shipworthy.select.tried import Outcome, Tried
from shipworthy.select.way import Way

HOST = Host("x86-64", "a processor", frozenset({"avx512_vnni", "avx512_bf16"}), 2, 10**10, "an os", "3.11")


def _contract(objective: str = "throughput", **search: object) -> Contract:
    given = {"precisions": ("fp32", "int8"), "engines": ("onnxruntime", "openvino"), **search}
    return Contract(
        name="n",
        inputs={"x": {"dtype": "float32", "shape": ["batch", 2]}},  # type: ignore[dict-item]
        task={"kind": "classification"},  # type: ignore[arg-type]
        data={"validation": "v.npz"},  # type: ignore[arg-type]
        limits=Limits(max_metric_drop=0.01),
        search=SearchSpec.model_validate(given),
        target=TargetSpec.model_validate({"objective": objective}),
    )


def _agenda(contract: Contract) -> Agenda:
    return Agenda(plan(contract, given=Given()), contract, HOST, "torch-fp32")


def _tried(candidate: Candidate, ratio: float, gate: str | None = None) -> Tried:
    artifact = Artifact(candidate.engine, candidate.precision, Path("nowhere"), Signature(inputs={}))
    speed = Speed(against="torch-fp32", objective="throughput", ratio=ratio, lower=ratio, upper=ratio, rounds=5)
    refusal = None if gate is None else Refusal(gate=gate, reason="so it is")
    exported = Exported(reply=ExportReply(artifact=artifact))
    return Tried(candidate, Way(), exported, pace=Pace(speed=(speed,)), refusal=refusal)


def _walk(agenda: Agenda, ratios: dict[str, float]) -> tuple[list[str], dict[str, str]]:
    """The candidates in the order in which they are tried, and the reasons of those that are not."""
    pending, done = list(agenda.plan.candidates), dict[str, Outcome]()
    order, left_out = list[str](), dict[str, str]()
    while pending:
        candidate = agenda.next(pending, done)
        pending.remove(candidate)
        why = agenda.why_not(candidate, done)
        if why is None:
            order.append(candidate.id)
            done[candidate.id] = _tried(candidate, ratios.get(candidate.id, 1.5))
        else:
            left_out[candidate.id] = why
            done[candidate.id] = skip(candidate, why)
    return order, left_out


def test_int8_of_the_best_engine_comes_before_the_other_engine() -> None:
    order, _ = _walk(_agenda(_contract()), {"openvino-fp32": 2.0, "static+openvino-int8": 6.0})
    assert order[:2] == ["openvino-fp32", "static+openvino-int8"]


def test_one_that_may_not_be_proven_does_not_end_the_search() -> None:
    contract = _contract()
    limits = Limits(max_metric_drop=0.01, confidence=0.95)
    agenda = _agenda(contract.model_copy(update={"limits": limits}))
    fp32 = Candidate(engine="onnxruntime", precision="fp32")
    static = Candidate(recipe="static", engine="onnxruntime", precision="int8")
    done: dict[str, Outcome] = {fp32.id: _tried(fp32, 1.0)}
    for number, recipe in enumerate(("static", "lean", "dynamic")):
        assert agenda.why_not(static, done) is None
        quick = Candidate(recipe=recipe, engine="openvino", precision="int8")
        done[quick.id] = _tried(quick, 30.0 + number)
    assert "static+openvino-int8 has 30× eager's speed, 2 others have more" in str(agenda.why_not(static, done))


def test_a_guess_for_one_engine_learns_from_the_others() -> None:
    agenda = _agenda(_contract())
    fp32 = Candidate(engine="openvino", precision="fp32")
    other = Candidate(engine="onnxruntime", precision="fp32")
    assert agenda.expected(other, {}) == pytest.approx(1.9)
    assert agenda.expected(other, {fp32.id: _tried(fp32, 1.0)}) == pytest.approx(1.9 / 2)
    order, _ = _walk(agenda, {"openvino-fp32": 1.15, "static+openvino-int8": 6.0})
    assert order[:2] == ["openvino-fp32", "static+openvino-int8"]


def test_a_step_to_something_better_comes_before_what_leads_nowhere() -> None:
    contract = _contract(prune=(0.5,), engines=("openvino",), quantize=("dynamic", "static"))
    pruned = {"prune50+openvino-fp32": 6.0, "prune50+static+openvino-int8": 18.0}
    order, _ = _walk(_agenda(contract), {"openvino-fp32": 3.0, "static+openvino-int8": 9.0, **pruned})
    assert order.index("prune50+openvino-fp32") < order.index("dynamic+openvino-int8")
    assert order.index("prune50+static+openvino-int8") < order.index("dynamic+openvino-int8")


def test_what_was_measured_decides_the_order_and_nothing_else_does() -> None:
    agenda = _agenda(_contract(prune=(0.3,)))
    slow = {"openvino-fp32": 0.9, "onnxruntime-fp32": 3.0, "static+onnxruntime-int8": 4.0}
    order, _ = _walk(agenda, slow)
    assert order[2:4] == ["onnxruntime-fp32", "static+onnxruntime-int8"]
    assert [_walk(agenda, slow) for _ in range(3)] == [_walk(agenda, slow)] * 3


def test_operations_go_back_to_float_only_where_the_metric_asks_for_it() -> None:
    agenda = _agenda(_contract())
    static = Candidate(recipe="static", engine="openvino", precision="int8")
    aware = static.model_copy(update={"recipe": "accuracy-aware"})
    fp32 = Candidate(engine="openvino", precision="fp32")
    done: dict[str, Outcome] = {fp32.id: _tried(fp32, 2.0), static.id: _tried(static, 6.0)}
    assert agenda.why_not(aware, done) == "static+openvino-int8 keeps the limit with every operation in int8"
    done[static.id] = _tried(static, 6.0, "metric")
    assert agenda.why_not(aware, done) is None
    done[static.id] = _tried(static, 6.0, "kernels")
    assert "was rejected by kernels" in str(agenda.why_not(aware, done))


def test_combinations_wait_for_both_of_their_parts() -> None:
    agenda = _agenda(_contract(prune=(0.5,), distill="train:student"))
    parts = [
        Candidate(recipe="prune50", engine="openvino", precision="fp32"),
        Candidate(recipe="static", engine="openvino", precision="int8"),
    ]
    both = Candidate(recipe="prune50+static", engine="openvino", precision="int8")
    assert both in agenda.plan.candidates
    accepted: dict[str, Outcome] = {part.id: _tried(part, 3.0) for part in parts}
    assert agenda.why_not(both, accepted) is None
    refused = {**accepted, parts[0].id: _tried(parts[0], 3.0, "metric")}
    assert agenda.why_not(both, refused) == "its part prune50+openvino-fp32 was rejected (metric)"
    absent = {**accepted, parts[1].id: skip(parts[1], "for some reason")}
    assert agenda.why_not(both, absent) == "its part static+openvino-int8 was not tried"
    names = {candidate.recipe for candidate in agenda.plan.candidates}
    assert {"distill", "distill+static", "distill+accuracy-aware"} <= names
    assert not any(name.endswith("+lean") for name in names), "it was measured on the unchanged model"


def test_a_combination_may_need_float_operations_where_its_part_did_not() -> None:
    agenda = _agenda(_contract(prune=(0.5,)))
    static = Candidate(recipe="static", engine="openvino", precision="int8")
    aware = static.model_copy(update={"recipe": "accuracy-aware"})
    both = static.model_copy(update={"recipe": "prune50+accuracy-aware"})
    pruned = Candidate(recipe="prune50", engine="openvino", precision="fp32")
    worse = static.model_copy(update={"recipe": "prune50+static"})
    done: dict[str, Outcome] = {pruned.id: _tried(pruned, 3.0), static.id: _tried(static, 6.0)}
    done[aware.id] = skip(aware, "static keeps the limit")
    assert agenda.why_not(both, {**done, worse.id: _tried(worse, 9.0, "metric")}) is None
    assert "keeps the limit" in str(agenda.why_not(both, {**done, worse.id: _tried(worse, 9.0)}))


def test_a_rest_in_bf16_waits_for_the_graph_that_it_changes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(candidates, "this_host", lambda: HOST)
    contract = _contract(precisions=("fp32", "bf16", "int8"), prune=(0.5,))
    order, left_out = _walk(
        _agenda(contract),
        {"openvino-fp32": 2.0, "static+openvino-int8": 6.0, "prune50+static+openvino-int8": 9.0},
    )
    assert order.index("prune50+static+openvino-int8") < order.index("prune50+static-bf16+openvino-int8")
    assert left_out["accuracy-aware-bf16+openvino-int8"] == "its part accuracy-aware+openvino-int8 was not tried"


def test_static_that_is_too_near_to_the_limit_to_be_proven_does_not_end_the_search() -> None:
    contract = _contract()
    limits = Limits(max_metric_drop=0.01, confidence=0.95)
    agenda = _agenda(contract.model_copy(update={"limits": limits}))
    static = Candidate(recipe="static", engine="openvino", precision="int8")
    aware = static.model_copy(update={"recipe": "accuracy-aware"})
    near = MetricEvidence(name="accuracy", split="validation", samples=500, eager=0.9, candidate=0.892, drop=0.008)
    tried = replace(_tried(static, 6.0), quality=Quality(metric=near))
    assert agenda.why_not(aware, {static.id: tried}) is None
    far = replace(tried, quality=Quality(metric=near.model_copy(update={"drop": 0.002})))
    assert "keeps the limit" in str(agenda.why_not(aware, {static.id: far}))


@pytest.mark.parametrize(("objective", "left_out"), [("throughput", True), ("latency", True), ("size", False)])
def test_what_has_no_hope_is_left_out_with_the_figures(objective: str, left_out: bool) -> None:
    agenda = _agenda(_contract(objective))
    fp32 = Candidate(engine="onnxruntime", precision="fp32")
    static = Candidate(recipe="static", engine="onnxruntime", precision="int8")
    best = Candidate(recipe="static", engine="openvino", precision="int8")
    done: dict[str, Outcome] = {fp32.id: _tried(fp32, 1.0), best.id: _tried(best, 30.0)}
    why = agenda.why_not(static, done)
    assert (why is not None) == left_out
    if left_out:
        hope = "twice what is expected of it, or of what builds on it, is 5.04×"
        assert why == f"static+openvino-int8 has 30× eager's speed, and {hope}"
    done[best.id] = _tried(best, 5.0)
    assert agenda.why_not(static, done) is None


def test_operations_go_back_to_float_only_after_static_was_seen() -> None:
    contract = _contract(quantize=("static", "accuracy-aware"), prune=(0.5,))
    # On one engine the pruned model gains more by int8 than the unchanged one does, on the other less.
    ratios = {"openvino-fp32": 2.0, "static+openvino-int8": 3.0, "prune50+openvino-fp32": 9.0}
    order, left_out = _walk(_agenda(contract), ratios | {"prune50+onnxruntime-fp32": 8.0})
    assert not [name for name in order if "accuracy-aware" in name], "static keeps the limit everywhere"
    keeping = [why for name, why in left_out.items() if "accuracy-aware" in name]
    assert keeping and all("keeps the limit" in why or "twice what is expected" in why for why in keeping)
