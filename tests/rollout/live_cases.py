"""Rollouts without a registry, and lanes over small functions."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np

from shipworthy.contract import Array, Arrays, Contract
from shipworthy.evidence import LatencyPoint
from shipworthy.package import Manifest, Requirements, Variant
from shipworthy.predict import Predictor
from shipworthy.rollout.evidence import Evidence
from shipworthy.rollout.record import Rollout
from shipworthy.rollout.spec import Spec
from shipworthy.rollout.tally import Tally
from shipworthy.runtime.protocol import OperatingPoint

KEY = bytes(range(32))
BEGAN = datetime(2026, 1, 1, tzinfo=UTC)
Run = Callable[[Arrays], dict[str, Array]]

CLASSES: dict[str, Any] = {
    "name": "digits",
    "inputs": {"x": {"dtype": "float32", "shape": ("batch", 3)}},
    "outputs": {"y": {"dtype": "float32", "shape": ("batch", 3), "kind": "logits"}},
    "task": {"kind": "classification", "labels": ("a", "b", "c")},
}
NUMBERS: dict[str, Any] = {
    **CLASSES,
    "outputs": {"y": {"dtype": "float32", "shape": ("batch", 1)}},
    "task": {"kind": "regression"},
}
SETS: dict[str, Any] = {**CLASSES, "task": {"kind": "multilabel", "labels": ("a", "b", "c")}}
VECTORS: dict[str, Any] = {
    **CLASSES,
    "outputs": {"y": {"dtype": "float32", "shape": ("batch", 3)}},
    "task": {"kind": "embedding"},
}


def rollout(mode: str = "canary", *, number: int = 1, share: float | None = None, **options: Any) -> Rollout:
    """Of version 2 beside version 1."""
    spec = Spec(mode, **options)  # type: ignore[arg-type]
    made = Rollout(
        id=number,
        model="digits",
        champion=1,
        challenger=2,
        spec=spec,
        state="running",
        verdict=None,
        reason="",
        stage=0,
        share=spec.shares[0],
        stage_seen=0,
        stage_began=BEGAN,
        started=BEGAN,
        ended=None,
        who="tester",
        why="",
        evidence_json=Evidence(spec.mode, spec.delta).to_json(),
        tally_json=Tally().to_json(),
        revision=0,
    )
    return made if share is None else replace(made, share=share)


class Runner:
    """Runs a function; says so when it is run after it was closed."""

    def __init__(self, run: Run) -> None:
        self._run = run
        self.closed = False
        self.misused = False

    def run(self, feeds: Arrays) -> dict[str, Array]:
        self.misused = self.misused or self.closed
        made = self._run(feeds)
        self.misused = self.misused or self.closed
        return made

    def kernels(self) -> tuple[()]:
        return ()

    def close(self) -> None:
        self.closed = True


def same(feeds: Arrays) -> dict[str, Array]:
    """The input, as scores."""
    return {"y": feeds["x"]}


def predictor(given: Mapping[str, Any], run: Run = same, *, version: str = "1", threads: int = 1) -> Predictor:
    contract = Contract.model_validate({**given, "root": Path()})
    point = OperatingPoint(streams=1, threads=threads, batch=8)
    latency = tuple(LatencyPoint(batch=size, p50_ms=0.1, p99_ms=0.2, runs=1) for size in (1, 8))
    variant = Variant(
        id="numpy-fp32",
        precision="fp32",
        directory="variants/numpy-fp32",
        requires=Requirements(engine="numpy"),
        points=(point,),
        latency=latency,
        tolerance={},
    )
    manifest = Manifest(
        name=contract.name,
        created="2026-01-02T03:04:05Z",
        contract_digest=contract.digest,
        contract=contract,
        signature=contract.signature,
        variants=(variant,),
        files={},
    )
    package: Any = SimpleNamespace(
        manifest=manifest, contract=contract, root=Path(), digest="0" * 64, close=lambda: None
    )
    return Predictor(package, variant, Runner(run), point=point, version=version)


def lane(given: Mapping[str, Any] = CLASSES, run: Run = same, *, version: int = 1, threads: int = 1) -> Any:
    """What a trial needs of a lane."""
    made = predictor(given, run, version=str(version), threads=threads)
    queue = SimpleNamespace(rows=0, running=[], streams=1)
    borrowers = list[threading.Thread]()
    return SimpleNamespace(predictor=made, version=str(version), queue=queue, borrowers=borrowers, watch=None)


def scores(best: int) -> list[float]:
    """An instance that `same` takes for this class."""
    return [float(place == best) for place in range(3)]


def logits(*rows: Any) -> Array:
    return np.array(rows, np.float32)


def end(part: Any, status: int, seconds: float) -> None:
    """A request has ended, as the server tells the experiment."""
    if status == 200:
        part.answered(seconds)
    else:
        part.unserved(status, seconds)
