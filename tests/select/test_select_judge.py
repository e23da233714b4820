"""The gates and the choice, on evidence that is made up."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from shipworthy.contract import Contract, InputSpec, Limits, Signature, TargetSpec, TaskSpec
from shipworthy.contract.spec import Precision
from shipworthy.errors import DataError, MeasureError
from shipworthy.evidence import Candidate, MetricEvidence, Parity, Speed, ThroughputPoint
from shipworthy.measure import ExportReply
from shipworthy.runtime import Artifact, Kernel, OperatingPoint
from shipworthy.select.contest import Entrant, _worth_racing
from shipworthy.select.final import choose, pick_finalists
from shipworthy.select.judge import judge_pace, judge_proof, judge_quality
from shipworthy.select.pareto import pareto
from shipworthy.select.results import Exported, Pace, Playoff, Quality, Refusal
from shipworthy.select.trial import Trial
from shipworthy.select.tried import Tried
from shipworthy.select.way import Way

_POINT = OperatingPoint(streams=2, threads=2, batch=8)


def _contract(objective: str = "throughput", **limits: Any) -> Contract:
    inputs = {"x": InputSpec(dtype="float32", shape=("batch", 2))}
    target = TargetSpec.model_validate({"objective": objective})
    task = TaskSpec(kind="classification")
    return Contract(name="n", inputs=inputs, task=task, limits=Limits(**limits), target=target)


def _exported(engine: str = "openvino", size_mb: float = 1.0) -> Exported:
    artifact = Artifact(engine, "fp32", Path("nowhere"), Signature(inputs={}))
    return Exported(reply=ExportReply(artifact=artifact), size_mb=size_mb)


def _metric(drop: float, **more: Any) -> MetricEvidence:
    fields = {"name": "accuracy", "split": "validation", "samples": 100, "eager": 0.9, **more}
    return MetricEvidence(candidate=0.9 - drop, drop=drop, **fields)


def _speed(against: str, ratio: float, spread: float = 1.01, objective: str = "throughput") -> Speed:
    fields = {"against": against, "objective": objective, "ratio": ratio, "rounds": 10}
    return Speed.model_validate({**fields, "lower": ratio / spread, "upper": ratio * spread})


def _pace(*speeds: Speed, p99_ms: float = 5.0, **more: Any) -> Pace:
    point = ThroughputPoint(point=_POINT, items_per_s=100, p50_ms=1, p99_ms=p99_ms)
    return Pace(**{"throughput": (point,), "best": _POINT, "speed": speeds, "rss_mb": 100.0, **more})


def _kernels(precision: str) -> tuple[Kernel, ...]:
    return (
        Kernel(op="Convolution", precision=precision, count=3, heavy=True),
        Kernel(op="Add", precision="fp32", count=9),
    )


def _gate(refusal: Refusal | None) -> str | None:
    return None if refusal is None else refusal.gate


@pytest.mark.parametrize(("precision", "quality", "limits", "expected"), [
    ("fp32", Quality(kernels=_kernels("fp32")), {}, None),
    ("fp32", Quality(refusal=Refusal(gate="crash", reason="")), {}, "crash"),
    ("fp32", Quality(misfit="NaN"), {}, "parity"),
    ("fp32", Quality(too_far="Δ", metric=_metric(0), kernels=_kernels("fp32")), {"max_metric_drop": 0.1}, "parity"),
    ("bf16", Quality(too_far="Δ", kernels=_kernels("bf16")), {}, "parity"),
    ("bf16", Quality(too_far="Δ", metric=_metric(0), kernels=_kernels("bf16")), {}, "parity"),
    ("bf16", Quality(too_far="Δ", metric=_metric(0), kernels=_kernels("bf16")), {"max_metric_drop": 0.1}, None),
    ("bf16", Quality(metric=_metric(0.2), kernels=_kernels("bf16")), {"max_metric_drop": 0.1}, "metric"),
    ("bf16", Quality(metric=_metric(0.2), kernels=_kernels("bf16")), {}, None),
    ("bf16", Quality(kernels=_kernels("fp32")), {}, "kernels"),
    ("bf16", Quality(), {}, "kernels"),
    ("bf16", Quality(kernels=(*_kernels("fp32"), *_kernels("bf16"))), {}, None),
    ("int8", Quality(kernels=_kernels("bf16")), {}, "kernels"),
    ("fp32", Quality(kernels=_kernels("bf16")), {}, "kernels"),
    ("fp32", Quality(), {}, None),
    ("fp32", Quality(), {"size_mb": 0.5}, "limits"),
])  # fmt: skip
def test_the_gates_of_quality(
    precision: Precision, quality: Quality, limits: dict[str, float], expected: str | None
) -> None:
    candidate = Candidate(engine="openvino", precision=precision)
    assert _gate(judge_quality(_contract(**limits), candidate, _exported(), quality)) == expected


@pytest.mark.parametrize(("pace", "limits", "expected"), [
    (_pace(_speed("torch-fp32", 2.0)), {}, None),
    (_pace(_speed("torch-fp32", 1.035)), {}, "speed"),
    (_pace(_speed("torch-fp32", 0.5)), {}, "speed"),
    (_pace(_speed("torch-fp32", 2.0), _speed("openvino-fp32", 1.0)), {}, "speed"),
    (_pace(_speed("torch-fp32", 2.0), _speed("openvino-fp32", 1.2)), {}, None),
    (_pace(_speed("torch-fp32", 2.0)), {"rss_mb": 50}, "limits"),
    (_pace(best=None, p99_ms=9.0), {"p99_ms": 3}, "limits"),
    (Pace(refusal=Refusal(gate="hang", reason="")), {}, "hang"),
])  # fmt: skip
def test_the_gates_of_pace(pace: Pace, limits: dict[str, float], expected: str | None) -> None:
    assert _gate(judge_pace(_contract(**limits), pace, "torch-fp32", ["openvino-fp32"])) == expected


def test_a_tie_is_told_from_slower() -> None:
    tie = judge_pace(_contract(), _pace(_speed("torch-fp32", 1.01, 1.1)), "torch-fp32", [])
    slower = judge_pace(_contract(), _pace(_speed("torch-fp32", 0.5)), "torch-fp32", [])
    assert tie is not None
    assert slower is not None
    assert tie.reason.startswith("is a tie with torch-fp32")
    assert slower.reason.startswith("is slower than torch-fp32")


def test_size_is_judged_against_the_parent_and_not_against_eager() -> None:
    eager, parent = _speed("torch-fp32", 1.0, objective="size"), _speed("openvino-fp32", 1.0, objective="size")
    assert judge_pace(_contract("size"), _pace(eager), "torch-fp32", []) is None
    refusal = judge_pace(_contract("size"), _pace(eager, parent), "torch-fp32", ["openvino-fp32"])
    assert _gate(refusal) == "speed"


def judge_proof_of_bf16(contract: Contract, metric: MetricEvidence) -> Refusal | None:
    return judge_proof(contract, Candidate(engine="openvino", precision="bf16"), metric)


def test_the_unchanged_graph_in_fp32_needs_no_bound_that_cannot_be_had() -> None:
    contract = _contract(max_metric_drop=0.005, confidence=0.95)
    plain = Candidate(engine="openvino", precision="fp32")
    none = _metric(0.0, split="holdout", confidence=0.95, method="the differences are too small")
    assert judge_proof(contract, plain, none) is None
    assert _gate(judge_proof(contract, plain.model_copy(update={"recipe": "prune30"}), none)) == "metric"
    wide = none.model_copy(update={"drop_upper": 0.02})
    assert _gate(judge_proof(contract, plain, wide)) == "metric"
    assert _gate(judge_proof(contract, plain, none.model_copy(update={"drop": 0.01}))) == "metric"


def test_the_proof_needs_the_bound_only_where_a_confidence_is_asked_for() -> None:
    metric = _metric(0.001, split="holdout", drop_upper=0.02, confidence=0.975, samples_needed=1234)
    assert judge_proof_of_bf16(_contract(max_metric_drop=0.005), metric) is None
    refusal = judge_proof_of_bf16(_contract(max_metric_drop=0.005, confidence=0.95), metric)
    assert _gate(refusal) == "metric"
    assert refusal is not None
    assert "1,234 such samples would be enough" in refusal.reason
    assert judge_proof_of_bf16(_contract(max_metric_drop=0.03, confidence=0.95), metric) is None
    assert judge_proof_of_bf16(_contract(), metric) is None
    assert _gate(judge_proof_of_bf16(_contract(max_metric_drop=0.0005), metric)) == "metric"


def test_what_gives_no_bound_is_not_proven() -> None:
    contract = _contract(max_metric_drop=0.005, confidence=0.95)
    metric = _metric(0.0, split="holdout", confidence=0.95, method="20 samples are fewer than 30")
    refusal = judge_proof_of_bf16(contract, metric)
    assert _gate(refusal) == "metric"
    assert refusal is not None
    assert "no bound: 20 samples are fewer than 30; how many would be enough cannot be told" in refusal.reason
    more = judge_proof_of_bf16(contract, metric.model_copy(update={"samples_needed": 2000}))
    assert more is not None
    assert "about 2,000 such samples may be enough" in more.reason


@pytest.mark.parametrize(("runs", "few"), [(120, False), (40, True)])
def test_a_p99_of_few_runs_says_so(runs: int, few: bool) -> None:
    closest = ThroughputPoint(point=_POINT, items_per_s=100, p50_ms=1, p99_ms=4)
    pace = _pace(best=None, p99_ms=9.0, closest=closest, closest_runs=runs)
    refusal = judge_pace(_contract(p99_ms=3), pace, "torch-fp32", [])
    assert refusal is not None
    assert f"p99 is 4 ms over {runs} runs at 2 × 8 in flight" in refusal.reason
    assert ("would have taken too long" in refusal.reason) == few


def _bench(contract: Contract) -> Any:
    """What a trial and a race read of a bench, with a store that keeps nothing."""
    store = SimpleNamespace(once=lambda stage, subject, kind, measure, **_: measure("key"))
    progress = SimpleNamespace(doing=lambda _: None)
    baseline = Candidate(engine="torch", precision="fp32")
    return SimpleNamespace(contract=contract, baseline=baseline, store=store, progress=progress)


def test_a_metric_that_fails_for_a_candidate_is_its_refusal_and_for_eager_the_end() -> None:
    def failing(error: Exception) -> Callable[[str], Quality]:
        def measure(_: str) -> Quality:
            raise error

        return measure

    bench = _bench(_contract())
    own = MeasureError("openvino-bf16", "own:f of its answers is nan", gate="metric")
    trial = Trial(bench, Candidate(engine="openvino", precision="bf16"))
    assert _gate(trial._once("quality", Quality, failing(own)).refusal) == "metric"
    with pytest.raises(DataError):
        Trial(bench, bench.baseline)._once("quality", Quality, failing(DataError("the data", "undefined")))


def test_the_point_with_the_lowest_p99_is_raced_in_any_case() -> None:
    def seen(streams: int, batch: int, rate: float, p50_ms: float, p99_ms: float) -> ThroughputPoint:
        point = OperatingPoint(streams=streams, threads=2, batch=batch)
        return ThroughputPoint(point=point, items_per_s=rate, p50_ms=p50_ms, p99_ms=p99_ms)

    bench = _bench(_contract(p99_ms=3))
    points = [seen(1, 1, 50, 1, 4), seen(1, 2, 80, 2, 9), seen(2, 2, 90, 2, 9), seen(2, 4, 100, 3.5, 3.6)]
    own = Entrant("openvino-fp32", _exported().reply.artifact, 1.0, None)  # type: ignore[union-attr]
    raced = [(p.point.streams, p.point.batch) for p in _worth_racing(bench, own, points)]
    assert raced == [(2, 2), (1, 2), (1, 1)], "p99 of a survey rules nothing out, p50 does"
    assert _worth_racing(bench, own, points[3:]) == []


def _tried(engine: str, ratio: float, precision: Precision = "fp32", size_mb: float = 1.0, drop: float = 0.0) -> Tried:
    quality = Quality(parity=(Parity(output="y", max_abs=0, max_rel=0, cosine=1, sqnr_db=50, worst_shape=(1,)),))
    return Tried(
        Candidate(engine=engine, precision=precision),
        Way(),
        _exported(engine, size_mb),
        quality.model_copy(update={"metric": _metric(drop)}),
        _pace(_speed("torch-fp32", ratio)),
    )


def _ids(tried: Any) -> list[str]:
    return [each.candidate.id for each in tried]


def test_at_most_four_finalists_and_one_of_them_without_code() -> None:
    coded = [_tried("aoti", 9), _tried("aoti", 8, "bf16"), _tried("torchscript", 7), _tried("torchscript", 6, "bf16")]
    plain = [_tried("openvino", 2), _tried("onnxruntime", 3)]
    picked = pick_finalists([*coded, *plain], _contract(), "torch-fp32")
    assert _ids(picked) == ["aoti-fp32", "aoti-bf16", "torchscript-fp32", "onnxruntime-fp32"]
    assert _ids(pick_finalists(coded, _contract(), "torch-fp32")) == _ids(coded)
    assert pick_finalists([], _contract(), "torch-fp32") == []


def test_where_the_drop_must_be_proven_the_unchanged_model_is_a_finalist() -> None:
    quick = [_tried("openvino", 9 - n, "int8", drop=0.01) for n in range(5)]
    safe = _tried("onnxruntime", 1.2)
    proven = pick_finalists([*quick, safe], _contract(max_metric_drop=0.02, confidence=0.95), "torch-fp32")
    assert _ids(proven)[-1] == "onnxruntime-fp32"
    assert len(proven) == 4
    observed = pick_finalists([*quick, safe], _contract(max_metric_drop=0.02), "torch-fp32")
    assert _ids(observed) == ["openvino-int8"] * 4


def test_the_best_wins_and_a_tie_goes_to_the_simpler() -> None:
    simple, middle, best = _tried("onnxruntime", 2), _tried("openvino", 2), _tried("aoti", 2)
    names = ("onnxruntime-fp32", "openvino-fp32", "aoti-fp32")

    def playoff(rates: tuple[float, float, float]) -> Playoff:
        pairs = {a: tuple(_speed(b, ra / rb) for b, rb in zip(names, rates, strict=True) if a != b)
                 for a, ra in zip(names, rates, strict=True)}  # fmt: skip
        return Playoff(speed=pairs)

    standing = [simple, middle, best]
    assert choose(standing, playoff((1.0, 1.2, 1.5))).candidate.id == "aoti-fp32"
    assert choose(standing, playoff((1.0, 1.48, 1.5))).candidate.id == "openvino-fp32"
    assert choose(standing, playoff((1.49, 1.48, 1.5))).candidate.id == "onnxruntime-fp32"
    assert choose([simple], Playoff()).candidate.id == "onnxruntime-fp32"


def test_the_pareto_set_leaves_out_what_is_beaten_in_everything() -> None:
    fast, small, beaten, twin = (
        _tried("openvino", 3.0, size_mb=2),
        _tried("onnxruntime", 1.5, size_mb=1),
        _tried("torchscript", 2.0, size_mb=2),
        _tried("aoti", 3.0, size_mb=2),
    )
    lossy = _tried("openvino", 5.0, "bf16", size_mb=2, drop=0.1)
    unmeasured = Tried(Candidate(engine="aoti", precision="bf16"), Way(), _exported("aoti"))
    assert set(pareto([fast, small, beaten, twin, lossy, unmeasured], "torch-fp32")) == {
        "openvino-fp32",
        "onnxruntime-fp32",
        "aoti-fp32",
        "openvino-bf16",
    }
