"""The proof is honest: a drop just over the limit is hardly ever proven to be within it, however the search chose."""

from __future__ import annotations

import numpy as np
import pytest

from shipworthy.contract import Contract, InputSpec, Limits, OutputSpec, TaskSpec
from shipworthy.evidence import Candidate, Speed
from shipworthy.measure import ExportReply
from shipworthy.quality import Claim, compare, metric_for
from shipworthy.runtime import Artifact
from shipworthy.select.final import MOST_FINALISTS, pick_finalists
from shipworthy.select.judge import judge_proof, judge_quality
from shipworthy.select.results import Exported, Pace, Quality
from shipworthy.select.tried import Tried
from shipworthy.select.way import Way

LIMIT, CONFIDENCE = 0.02, 0.95
SAMPLES = 400
CANDIDATES = 12
CLASSES = 3


def _contract() -> Contract:
    return Contract(
        name="n",
        inputs={"x": InputSpec(dtype="float32", shape=("batch", 2))},
        outputs={"logits": OutputSpec(dtype="float32", shape=("batch", CLASSES), kind="logits")},
        task=TaskSpec(kind="classification"),
        limits=Limits(max_metric_drop=LIMIT, confidence=CONFIDENCE),
    )


def _logits(answers: np.ndarray) -> dict[str, np.ndarray]:
    return {"logits": np.eye(CLASSES, dtype=np.float32)[answers]}


def _candidate(random: np.random.Generator, targets: np.ndarray, right: np.ndarray, excess: float) -> np.ndarray:
    """Answers whose true drop is LIMIT + excess: it harms and mends, each answer by itself."""
    mends = random.uniform(0, 0.3)
    share = right.mean()
    harms = (LIMIT + excess + mends * (1 - share)) / share
    now = np.where(right, random.random(len(right)) >= harms, random.random(len(right)) < mends)
    return np.where(now, targets, (targets + 1) % CLASSES)


def _search(seed: int, contract: Contract) -> bool:
    """Whether a search among candidates that are all too bad ends with one that is proven."""
    random, metric = np.random.default_rng(seed), metric_for(contract)
    assert metric is not None
    splits = {}
    for split in ("validation", "holdout"):
        targets = random.integers(0, CLASSES, SAMPLES)
        right = random.random(SAMPLES) < 0.9
        splits[split] = (targets, right, _logits(np.where(right, targets, (targets + 1) % CLASSES)))
    acceptable: list[Tried] = []
    answers: dict[str, dict[str, np.ndarray]] = {}
    for number in range(CANDIDATES):
        excess = random.uniform(1e-5, 2e-3)
        given = {s: _logits(_candidate(random, t, r, excess)) for s, (t, r, _) in splits.items()}
        targets, _, eager = splits["validation"]
        tried = _tried(number, compare(metric, "validation", targets, eager, given["validation"]), random)
        answers[tried.candidate.id] = given["holdout"]
        if judge_quality(contract, tried.candidate, tried.exported, tried.quality) is None:
            acceptable.append(tried)
    finalists = pick_finalists(acceptable, contract, "torch-fp32")
    claim = Claim(LIMIT, CONFIDENCE, len(finalists) or 1)
    targets, _, eager = splits["holdout"]
    return any(
        judge_proof(
            contract,
            tried.candidate,
            compare(metric, "holdout", targets, eager, answers[tried.candidate.id], claim=claim),
        )
        is None
        for tried in finalists
    )


def _tried(number: int, metric: object, random: np.random.Generator) -> Tried:
    from pathlib import Path

    from shipworthy.contract import Signature
    from shipworthy.runtime import Kernel

    candidate = Candidate(recipe=f"static{number}", engine="openvino", precision="int8")
    artifact = Artifact("openvino", "int8", Path("nowhere"), Signature(inputs={}))
    kernels = (Kernel(op="Convolution", precision="int8", count=3, heavy=True),)
    ratio = float(random.uniform(1.5, 9))
    speed = Speed(against="torch-fp32", objective="throughput", ratio=ratio, lower=ratio, upper=ratio, rounds=5)
    quality = Quality.model_validate({"metric": metric, "kernels": kernels})
    return Tried(candidate, Way(), Exported(reply=ExportReply(artifact=artifact)), quality, Pace(speed=(speed,)))


@pytest.mark.long
def test_what_is_just_over_the_limit_is_seldom_proven(effort: float) -> None:
    contract, searches = _contract(), max(100, int(1000 * effort))
    proven = sum(_search(seed, contract) for seed in range(searches))
    assert proven <= 0.05 * searches, f"{proven} of {searches} searches proved what is false"


def test_the_search_does_find_finalists_to_prove() -> None:
    """Else the promise would be kept by never coming to a proof."""
    contract = _contract()
    random = np.random.default_rng(0)
    metric = metric_for(contract)
    assert metric is not None
    targets = random.integers(0, CLASSES, SAMPLES)
    right = random.random(SAMPLES) < 0.9
    eager = _logits(np.where(right, targets, (targets + 1) % CLASSES))
    passed = 0
    for number in range(200):
        given = _logits(_candidate(random, targets, right, 0.001))
        tried = _tried(number, compare(metric, "validation", targets, eager, given), random)
        passed += judge_quality(contract, tried.candidate, tried.exported, tried.quality) is None
    assert passed > 200 * MOST_FINALISTS / CANDIDATES
