"""Build records as a real sweep would write them, with numbers from formulas instead of clocks."""

from __future__ import annotations

from shipworthy.contract import (
    Contract,
    DataSpec,
    Dim,
    ImageAccept,
    InputSpec,
    Limits,
    OutputSpec,
    SearchSpec,
    TargetSpec,
    TaskSpec,
)
from shipworthy.evidence import (
    BuildRecord,
    Candidate,
    CandidateResult,
    Environment,
    Evidence,
    Finding,
    LatencyPoint,
    MetricEvidence,
    Parity,
    Speed,
    ThroughputPoint,
)
from shipworthy.runtime.protocol import Kernel, OperatingPoint

BATCHES = (1, 2, 4, 8, 16, 32, 64)
EAGER_RATE = 5200.0


def digits_contract() -> Contract:
    batch = Dim("batch")
    accept = ImageAccept(kind="image", size=(8, 8), mode="L", scale=0.0625, resize="exact")
    return Contract(
        name="digits",
        model="train:build_model",
        weights="digits.safetensors",
        inputs={"image": InputSpec(dtype="float32", shape=(batch, 1, 8, 8), accept=accept)},
        outputs={"logits": OutputSpec(dtype="float32", shape=(batch, 10), kind="logits")},
        task=TaskSpec(kind="classification", labels=tuple("0123456789")),
        data=DataSpec(
            calibration="calibration.npz", validation="validation.npz", holdout="holdout.npz", metric="accuracy"
        ),
        limits=Limits(max_metric_drop=0.01, confidence=0.95, p99_ms=10.0, size_mb=20.0),
        target=TargetSpec(threads=2),
        search=SearchSpec(precisions=("fp32", "bf16", "int8")),
    )


def _latency(overhead: float, each: float, tail: float) -> tuple[LatencyPoint, ...]:
    times = {batch: overhead + each * batch for batch in BATCHES}
    return tuple(LatencyPoint(batch=b, p50_ms=t, p99_ms=t * tail, runs=400) for b, t in times.items())


def _throughput(overhead: float, each: float, tail: float) -> tuple[ThroughputPoint, ...]:
    points = []
    for streams in (1, 2):
        for batch in (1, 8, 32, 64):
            wall = overhead + each * batch * (1.0 if streams == 1 else 1.7)
            rate = 1000 * streams * batch / wall
            point = OperatingPoint(streams=streams, threads=2, batch=batch)
            points.append(ThroughputPoint(point=point, items_per_s=rate, p50_ms=wall, p99_ms=wall * tail))
    return tuple(points)


def _parity(error: float, sqnr: float, agreement: float = 1.0) -> tuple[Parity, ...]:
    return (
        Parity(
            output="logits",
            max_abs=error,
            max_rel=error / 14.2,
            cosine=1 - error * 1e-3,
            sqnr_db=sqnr,
            top1_agreement=agreement,
            worst_shape=(3, 1, 8, 8),
        ),
    )


def _metrics(drop: float, *, proven: bool = True) -> tuple[MetricEvidence, ...]:
    validation = MetricEvidence(
        name="accuracy", split="validation", samples=270, eager=0.9815, candidate=0.9815 - drop, drop=drop
    )
    holdout = MetricEvidence(
        name="accuracy",
        split="holdout",
        samples=360,
        eager=0.9778,
        candidate=0.9778 - drop,
        drop=drop,
        drop_upper=drop + 0.0083,
        confidence=0.9875,
        method="Clopper–Pearson, paired",
        samples_needed=None if drop == 0 else 2400,
        per_class={"1": 0.0, "8": 8 * drop, "9": 2 * drop},
    )
    return (validation, holdout) if proven else (validation,)


def measured(
    engine: str,
    precision: str,
    verdict: str,
    reason: str,
    *,
    gate: str | None = None,
    overhead: float,
    each: float,
    tail: float = 1.6,
    error: float = 2.4e-6,
    sqnr: float = 128.0,
    drop: float = 0.0,
    size: float = 0.12,
    recipe: str = "plain",
    kernels: tuple[Kernel, ...] = (),
    findings: tuple[Finding, ...] = (),
) -> CandidateResult:
    """A candidate whose time for a batch is `overhead` + `each` × batch milliseconds."""
    throughput = _throughput(overhead, each, tail)
    best = max(throughput, key=lambda point: point.items_per_s)
    ratio = best.items_per_s / EAGER_RATE
    speed = Speed(
        against="torch-fp32", objective="throughput", ratio=ratio, lower=ratio * 0.97, upper=ratio * 1.025, rounds=15
    )
    evidence = Evidence(
        parity=_parity(error, sqnr, 1.0 - drop),
        tolerance={"logits": 4 * error},
        metrics=_metrics(drop),
        latency=_latency(overhead, each, tail),
        throughput=throughput,
        best=best.point,
        speed=() if verdict == "baseline" else (speed,),
        load_s=0.08 + overhead / 3,
        rss_mb=96.0 + 40 * overhead,
        size_mb=size,
        kernels=kernels
        or (
            Kernel(op="Convolution", precision=precision, count=2, heavy=True),
            Kernel(op="Reorder", precision="fp32", count=3),
        ),
    )
    candidate = Candidate(recipe=recipe, engine=engine, precision=precision)
    return CandidateResult(
        candidate=candidate,
        verdict=verdict,
        reason=reason,
        gate=gate,
        evidence=evidence,
        findings=findings,
        seconds=8.2,
    )


def refused(
    engine: str,
    precision: str,
    gate: str,
    reason: str,
    evidence: Evidence | None = None,
    findings: tuple[Finding, ...] = (),
) -> CandidateResult:
    return CandidateResult(
        candidate=Candidate(engine=engine, precision=precision),
        verdict="rejected",
        reason=reason,
        gate=gate,
        evidence=evidence or Evidence(),
        findings=findings,
        seconds=3.1,
    )


def _sweep() -> tuple[CandidateResult, ...]:
    scripted = Finding(
        rule="trace-froze-branch",
        severity="warning",
        where="DigitsNet.forward",
        why="Tracing kept one side of a branch that depends on the input; 2 of 6 probes differ from eager.",
        remedy="The scripted graph is used instead; it agrees with eager on all probes.",
    )
    return (
        measured(
            "torch",
            "fp32",
            "baseline",
            "Eager fp32: what all others are compared with.",
            overhead=0.16,
            each=0.0192,
            sqnr=999.0,
            error=0.0,
        ),
        measured(
            "torchscript",
            "fp32",
            "accepted",
            "1.31× eager, but slower than openvino-fp32.",
            overhead=0.11,
            each=0.0142,
            findings=(scripted,),
        ),
        measured(
            "torch",
            "bf16",
            "rejected",
            "0.61× eager: not faster than torch-fp32, which it is derived from.",
            gate="speed",
            overhead=0.22,
            each=0.029,
            error=0.031,
            sqnr=41.0,
        ),
        measured(
            "aoti",
            "fp32",
            "accepted",
            "2.2× eager, but slower than openvino-fp32.",
            overhead=0.06,
            each=0.0093,
            size=0.31,
        ),
        measured(
            "onnxruntime", "fp32", "accepted", "3.5× eager, but slower than openvino-fp32.", overhead=0.035, each=0.0066
        ),
        measured(
            "openvino",
            "fp32",
            "chosen",
            "The highest throughput of all that meet the contract.",
            overhead=0.028,
            each=0.0042,
            tail=1.35,
        ),
        measured(
            "openvino",
            "bf16",
            "rejected",
            "Asked for bf16, but both convolutions execute in fp32 on this processor.",
            gate="kernels",
            overhead=0.029,
            each=0.0043,
            kernels=(Kernel(op="Convolution", precision="fp32", count=2, heavy=True),),
        ),
        measured(
            "openvino",
            "int8",
            "rejected",
            "accuracy drops by 0.0389 on the validation data; the contract allows 0.01.",
            gate="metric",
            overhead=0.026,
            each=0.0031,
            error=1.9,
            sqnr=14.0,
            drop=0.0389,
            size=0.05,
        ),
        refused("onnxruntime", "bf16", "export", "The ONNX exporter cannot write bf16 weights for this operator set."),
        refused(
            "aoti",
            "bf16",
            "parity",
            "logits: SQNR 9 dB, below the 25 dB that bf16 must reach.",
            Evidence(parity=_parity(4.4, 9.0, 0.81), size_mb=0.2),
        ),
        refused(
            "executorch", "fp32", "crash", "The worker process died of signal 11 (segmentation fault) while loading."
        ),
        refused("executorch", "bf16", "hang", "No answer in 60 s; the worker was ended."),
        refused(
            "torchscript",
            "bf16",
            "memory",
            "Used more than 500 MB, the contract's rss_mb; the worker was ended.",
            Evidence(parity=_parity(0.03, 40.0), rss_mb=None, size_mb=0.1),
        ),
        refused("onnxruntime", "int8", "load", "The engine refuses the graph: Conv_3 has no int8 kernel."),
        measured(
            "tensorrt",
            "fp32",
            "rejected",
            "p99 of 14.1 ms is above the contract's 10 ms.",
            gate="limits",
            overhead=9.1,
            each=0.012,
        ),
        CandidateResult(
            candidate=Candidate(engine="executorch", precision="int8"),
            verdict="skipped",
            reason="The budget of 10 min was used up.",
        ),
    )


def full_record() -> BuildRecord:
    """A sweep in which every verdict and every gate occurs."""
    contract = digits_contract()
    findings = (
        Finding(
            rule="train-mode",
            severity="warning",
            where="dropout",
            why="The factory returns the model in train mode; two runs on the same input differ.",
            remedy="It was switched to eval(); call model.eval() in build_model.",
        ),
        Finding(
            rule="float64-input",
            severity="note",
            where="calibration.npz: image",
            why="The array is float64 and was cast to float32.",
            remedy='Save it with .astype("float32").',
        ),
        Finding(
            rule="nan-output",
            severity="error",
            where="logits",
            why="NaN for an all-zero image.",
            remedy="Add an epsilon to the norm's denominator.",
        ),
    )
    return BuildRecord(
        name=contract.name,
        contract_digest=contract.digest,
        created="2025-06-01T12:00:00Z",
        environment=Environment(
            host={
                "cpu": "AMD EPYC 7B13",
                "arch": "x86-64",
                "cores": "2",
                "isa": "avx2, avx512f, avx512_bf16",
                "memory": "8.3 GB",
                "os": "Linux 6.1",
                "python": "3.11.9",
            },
            versions={"torch": "2.13.0", "openvino": "2026.4.1", "onnxruntime": "1.31.1", "shipworthy": "0.1.0"},
        ),
        findings=findings,
        results=_sweep(),
        chosen="openvino-fp32",
        why="openvino-fp32 has the highest throughput of the 4 candidates that meet the contract, "
        "and no drop in accuracy was seen on 360 samples that the search never saw.",
        pareto=("openvino-fp32", "onnxruntime-fp32"),
        seconds=112.0,
        skipped=("int8 by quantization-aware training, as the contract names no train_step",),
    )


def none_chosen() -> BuildRecord:
    """A sweep that ended without a candidate within the limits."""
    results = tuple(result for result in _sweep() if result.verdict in ("baseline", "rejected", "skipped"))
    return full_record().model_copy(
        update={
            "results": results,
            "chosen": None,
            "why": "The nearest is openvino-int8, which loses 0.0389 of accuracy where 0.01 is allowed.",
            "pareto": (),
        }
    )


def unmeasured() -> BuildRecord:
    """A sweep in which nothing could be measured at all."""
    results = (refused("torch", "fp32", "load", "The module raises on every probe."),)
    return full_record().model_copy(
        update={"results": results, "chosen": None, "why": "", "pareto": (), "findings": (), "skipped": ()}
    )
