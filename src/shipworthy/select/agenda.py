"""Which candidate is tried next, and which is not worth it: the best is to be found early, and nothing twice."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from ..compress import AccuracyAware
from ..contract import Contract
from ..evidence import Candidate
from ..runtime import Host
from .candidates import Plan, parents, simplicity
from .recipes import LEAN, PLAIN, RESTED, halves
from .tried import Outcome, Tried

HOPE = 2.0
"""A candidate is given up unseen only if twice what is expected of it would not be the best."""

_AHEAD_UNPROVEN = 3
"""Accepted candidates that must be out of reach before one is given up, where the drop has yet to be proven."""
_SLOW = 0.5
"""Of a calibration or a training."""
_LIKES: Mapping[str, tuple[float, float]] = {
    "openvino": (1.0, 1.0),
    "onnxruntime": (0.2, 0.8),
    "aoti": (0.5, 0.4),
    "torchscript": (0.5, 0.3),
}
"""What an engine makes of a lower precision, beside the best: bf16 and int8."""
_ENGINES: Mapping[str, float] = {"openvino": 2.0, "onnxruntime": 1.9, "aoti": 1.6, "torchscript": 1.5}
"""How many times as fast as eager an engine is in fp32, before it was measured: a guess that only orders."""


@dataclass(frozen=True, slots=True)
class Agenda:
    """The order of a sweep. It depends on what was measured and on nothing else, so that stored measurements give the
    same order again."""

    plan: Plan
    contract: Contract
    host: Host
    baseline: str

    def next(self, pending: Sequence[Candidate], done: Mapping[str, Outcome]) -> Candidate:
        """The most promising of those whose parents are done; among equals the simplest."""
        planned = {candidate.id for candidate in self.plan.candidates}
        ready = [c for c in pending if all(p.id in done or p.id not in planned for p in (*parents(c), *_judged_by(c)))]
        return max(ready, key=lambda c: (self._merit(c, done), [-int(part) for part in simplicity(c)]))

    def _merit(self, candidate: Candidate, done: Mapping[str, Outcome]) -> float:
        """What is expected of it or of its heirs, less for what takes long to make: quick ones are had first."""
        own = self.expected(candidate, done)
        steps = [(candidate, 1.0), *((heir, _haste(heir)) for heir in self._heirs(candidate, done))]
        best = max(own * haste * self._factor(step) / self._factor(candidate) for step, haste in steps)
        return best * _haste(candidate)

    def _heirs(self, candidate: Candidate, done: Mapping[str, Outcome]) -> list[Candidate]:
        return [heir for heir in self.plan.candidates if candidate in parents(heir) and heir.id not in done]

    def expected(self, candidate: Candidate, done: Mapping[str, Outcome]) -> float:
        """Times eager's speed: what its parents were measured at, times what the step from them usually gives."""
        known = [
            (parent, ratio)
            for parent in parents(candidate)
            if (ratio := measured(done.get(parent.id), self.baseline)) is not None
        ]
        if not known:
            return self._prior(candidate.engine, done) * self._factor(candidate)
        parent, ratio = max(known, key=lambda pair: pair[1])
        return ratio * self._factor(candidate) / self._factor(parent)

    def _prior(self, engine: str, done: Mapping[str, Outcome]) -> float:
        """The guess for an engine in fp32, as far off as the guesses for the other engines have turned out to be."""
        seen = [
            ratio / _ENGINES[name]
            for name in _ENGINES
            if (ratio := measured(done.get(Candidate(engine=name, precision="fp32").id), self.baseline)) is not None
        ]
        return _ENGINES.get(engine, 1.0) * (math.prod(seen) ** (1 / len(seen)) if seen else 1.0)

    def _promise(self, candidate: Candidate, done: Mapping[str, Outcome]) -> float:
        """What is expected of it, or of the best that is derived from it: a pruned model is a step to int8."""
        own = self.expected(candidate, done)
        heirs = self._heirs(candidate, done)
        return max([own, *(own * self._factor(heir) / self._factor(candidate) for heir in heirs)])

    def _factor(self, candidate: Candidate) -> float:
        """What precision and recipe usually give over fp32 on such a host."""
        shaping, quantization = halves(candidate.recipe)
        isa = self.host.isa
        factor = 1.0
        bf16, int8 = _LIKES.get(candidate.engine, (1.0, 1.0))
        if candidate.precision in ("bf16", "fp16"):
            factor = bf16 * (4.0 if "amx_bf16" in isa else 1.5 if "avx512_bf16" in isa else 0.8)
        elif candidate.precision in ("int8", "fp8"):
            dot = bool(isa & {"avx512_vnni", "avx_vnni", "asimddp"})
            factor = int8 * (6.0 if "amx_int8" in isa else 3.0 if dot else 1.5)
            factor *= {"dynamic": 0.5, "static-bf16": 1.1, LEAN: 1.05}.get(quantization, 1.0)
        if shaping.startswith("prune"):
            factor /= max(0.05, 1 - float(shaping.removeprefix("prune")) / 100)
        return factor * (2.0 if shaping == "distill" else 1.0)

    def why_not(self, candidate: Candidate, done: Mapping[str, Outcome]) -> str | None:
        """Why it is not worth a try, given what is known; None where it is."""
        return self._missing_part(candidate, done) or self._needless(candidate, done) or self._hopeless(candidate, done)

    def _missing_part(self, candidate: Candidate, done: Mapping[str, Outcome]) -> str | None:
        """What builds on something that was not accepted. A lower precision does not build on fp32's acceptance."""
        shaping, quantization = halves(candidate.recipe)
        combined = PLAIN not in (shaping, quantization)
        if not combined and quantization != LEAN and not quantization.endswith(RESTED):
            return None
        for parent in parents(candidate):
            found = self._stand_in(parent, done, combined=combined)
            if found is None or not isinstance(found, Tried):
                return f"its part {parent.id} was not tried"
            if found.refusal is not None:
                return f"its part {parent.id} was rejected ({found.refusal.gate})"
        return None

    def _stand_in(self, part: Candidate, done: Mapping[str, Outcome], *, combined: bool) -> Outcome | None:
        """The part; of a combination, static for an accuracy-aware one that static has made needless."""
        found = done.get(part.id)
        if part.recipe != "accuracy-aware" or isinstance(found, Tried) or not combined:
            return found
        return done.get(part.model_copy(update={"recipe": "static"}).id)

    def _needless(self, candidate: Candidate, done: Mapping[str, Outcome]) -> str | None:
        """Operations go back to float only where the metric asks for it."""
        static = next((done.get(twin.id) for twin in _judged_by(candidate)), None)
        if not isinstance(static, Tried):
            return None
        metric, method = static.quality.metric, self.plan.recipe(candidate.recipe).quantization
        assert isinstance(method, AccuracyAware), "the recipe is made so"
        if static.refusal is None:
            if metric is not None and metric.drop > method.max_drop:
                # It is accepted, but too near to the limit to be proven.
                return None
            return f"{static.candidate.id} keeps the limit with every operation in int8"
        if static.refusal.gate not in ("metric", "parity"):
            return f"{static.candidate.id} was rejected by {static.refusal.gate}, which float operations do not mend"
        return None

    def _hopeless(self, candidate: Candidate, done: Mapping[str, Outcome]) -> str | None:
        """Only what was measured on the same engine tells how a candidate will do; a guess alone skips nothing."""
        if self.contract.target.objective not in ("throughput", "latency"):
            return None
        if not any(measured(done.get(parent.id), self.baseline) is not None for parent in parents(candidate)):
            return None
        found = ((m, t.candidate.id) for t in done.values() if (m := _accepted(t, self.baseline)) is not None)
        best = sorted(found, reverse=True)
        # What was only seen to keep the limit may not be proven to: then one that is ahead tells too little.
        ahead = _AHEAD_UNPROVEN if self.contract.limits.confidence is not None else 1
        hoped = HOPE * self._promise(candidate, done)
        if len(best) < ahead or hoped >= best[ahead - 1][0]:
            return None
        hope = f"twice what is expected of it, or of what builds on it, is {hoped:.3g}×"
        ratio, name = best[ahead - 1]
        return f"{name} has {ratio:.3g}× eager's speed{_and_others(ahead)}, and {hope}"


def _judged_by(candidate: Candidate) -> tuple[Candidate, ...]:
    """Its twin with every operation in int8, which shows whether any has to go back to float."""
    shaping, quantization = halves(candidate.recipe)
    if quantization != "accuracy-aware":
        return ()
    return (candidate.model_copy(update={"recipe": "static" if shaping == PLAIN else f"{shaping}+static"}),)


def _and_others(ahead: int) -> str:
    return f", {ahead - 1} others have more" if ahead > 1 else ""


def _haste(candidate: Candidate) -> float:
    shaping, quantization = halves(candidate.recipe)
    calibrates = quantization != PLAIN and not quantization.endswith(RESTED)
    return (_SLOW if calibrates else 1.0) * (1.0 if shaping == PLAIN else _SLOW)


def measured(found: Outcome | None, baseline: str) -> float | None:
    """How many times as fast as eager it was measured to be."""
    if not isinstance(found, Tried):
        return None
    speeds = (s for s in found.pace.speed if s.against == baseline and s.objective in ("throughput", "latency"))
    return next((speed.ratio for speed in speeds), None)


def _accepted(found: Outcome, baseline: str) -> float | None:
    return measured(found, baseline) if isinstance(found, Tried) and found.refusal is None else None
