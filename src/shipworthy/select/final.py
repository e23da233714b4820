"""The final: the proof on the holdout, the finalists against each other, and the choice."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

from ..contract import Contract
from ..errors import MeasureError
from ..evidence import Speed
from ..measure import SIZES, Pacing, is_faster, race, size_ratio, speed
from ..quality import Claim
from ..runtime import ENGINES
from .bench import Bench
from .candidates import simplicity
from .contest import Rival
from .identity import toolchain
from .judge import judge_proof
from .recipes import PLAIN
from .references import References
from .results import Playoff, Proof, Refusal
from .sweep import Sweep
from .trial import Trial
from .tried import Tried
from .way import artifact_of

MOST_FINALISTS = 4
"""Each one more makes the proof of all harder, for the holdout is looked at once for each."""


@dataclass(frozen=True, slots=True)
class Final:
    finalists: tuple[Tried, ...]
    """With their proofs, those whom the holdout refused included."""
    playoff: Playoff
    chosen: Tried | None
    why: str
    references: References = field(default_factory=References)
    """Of the variants that are packed."""

    @property
    def packed(self) -> tuple[Tried, ...]:
        """The finalists that stand, the chosen one first."""
        if self.chosen is None:
            return ()
        others = (
            tried for tried in self.finalists if tried.refusal is None and tried.candidate != self.chosen.candidate
        )
        return (self.chosen, *others)


def final(bench: Bench, sweep: Sweep, end: float | None = None) -> Final:
    """Prove the finalists, race those who stand, and choose.

    A race that is not over at `end` (of time.monotonic()) is given up; the proof never is: without it there is no
    result."""
    acceptable = [tried for tried in sweep.tried if tried.refusal is None]
    entered = pick_finalists(acceptable, bench.contract, sweep.baseline.candidate.id)
    if not entered:
        return Final((), Playoff(), None, "No candidate meets the contract; the reasons stand with each.")
    proven = [_prove(bench, tried, sweep.baseline, len(entered)) for tried in entered]
    bench.deadline.at = end
    return _decide(bench, sweep, proven)


def _decide(bench: Bench, sweep: Sweep, proven: Sequence[Tried]) -> Final:
    standing = sorted((t for t in proven if t.refusal is None), key=lambda t: simplicity(t.candidate))
    if not standing:
        return Final(
            tuple(proven), Playoff(), None, "No finalist passed the proof on the holdout; the reasons stand with each."
        )
    try:
        playoff = _playoff(bench, standing) if len(standing) > 1 else Playoff()
    except MeasureError as error:
        if error.gate == "budget":
            return _by_merit(bench, sweep, proven, standing)
        return _without(bench, sweep, proven, error)
    chosen = choose(standing, playoff)
    return Final(tuple(proven), playoff, chosen, _why(chosen, standing, playoff, sweep.baseline))


def _by_merit(bench: Bench, sweep: Sweep, proven: Sequence[Tried], standing: Sequence[Tried]) -> Final:
    """The choice without a playoff: by what each was measured at beside eager."""
    baseline = sweep.baseline.candidate.id
    chosen = max(standing, key=lambda tried: _merit(tried, bench.contract, baseline))
    why = _why(chosen, standing, Playoff(), sweep.baseline)
    return Final(tuple(proven), Playoff(), chosen, f"{why} The budget was used up before the finalists could race.")


def _without(bench: Bench, sweep: Sweep, proven: Sequence[Tried], error: MeasureError) -> Final:
    """The final again after one finalist died in it; the proofs stand, they are in the store."""
    refusal = Refusal(gate=error.gate, reason=f"{error.reason} (in the playoff)")
    after = [replace(t, refusal=refusal) if t.candidate.id == error.culprit else t for t in proven]
    if after == list(proven):
        raise error
    bench.keep()
    return _decide(bench, sweep, after)


def pick_finalists(acceptable: Sequence[Tried], contract: Contract, baseline: str) -> list[Tried]:
    """The best by the objective, at most four; one without code among them if any is acceptable, and where the drop
    must be proven, one that hardly has any."""
    best = sorted(acceptable, key=lambda tried: _merit(tried, contract, baseline), reverse=True)
    picked = best[:MOST_FINALISTS]
    for needed in (_without_code(best), _surest(best, contract)):
        if needed is not None and needed not in picked:
            picked = [*picked[: MOST_FINALISTS - 1], needed]
    return picked


def _without_code(best: Sequence[Tried]) -> Tried | None:
    """The best that brings no code, where those that do would be alone."""
    coded = best[:MOST_FINALISTS]
    return next((t for t in best if not _executes_code(t)), None) if all(map(_executes_code, coded)) else None


def _surest(best: Sequence[Tried], contract: Contract) -> Tried | None:
    """Where the drop must be proven: the unchanged model in fp32, so that there is a result if all else fails."""
    if contract.limits.confidence is None:
        return None
    unchanged = (t for t in best if t.candidate.recipe == PLAIN and t.candidate.precision == "fp32")
    return next((t for t in unchanged if not _executes_code(t)), None)


def _merit(tried: Tried, contract: Contract, baseline: str) -> float:
    if contract.target.objective in SIZES:
        rival = tried.rival()
        return -(tried.exported.size_mb if rival is None else rival.megabytes)
    return next((s.ratio for s in tried.pace.speed if s.against == baseline), 0.0)


def _executes_code(tried: Tried) -> bool:
    return ENGINES[tried.candidate.engine].executes_code


def _prove(bench: Bench, tried: Tried, baseline: Tried, finalists: int) -> Tried:
    if bench.job.metric is None or bench.feeds("holdout") is None:
        return tried
    limits = bench.contract.limits
    claim = Claim(limits.max_metric_drop, limits.confidence, finalists)
    with Trial(bench, baseline.candidate) as eager:
        eager.answer(artifact_of(baseline.exported), "holdout")
    with Trial(bench, tried.candidate, tried.way) as trial:
        proof: Proof = trial.proof(tried.exported, claim)
    return replace(
        tried, proof=proof, refusal=proof.refusal or judge_proof(bench.contract, tried.candidate, proof.metric)
    )


def _playoff(bench: Bench, standing: Sequence[Tried]) -> Playoff:
    ids = [tried.candidate.id for tried in standing]
    bench.progress.doing(f"playoff of {', '.join(ids)}")
    tools = [toolchain(tried.candidate.engine) for tried in standing]
    racing = [rival for tried in standing if (rival := tried.rival()) is not None]
    return bench.store.once(
        "playoff",
        " ".join(ids),
        Playoff,
        lambda _: _run_playoff(bench, racing),
        depends=[tools, [rival.key for rival in racing]],
        intact=bench.good_enough,
    )


def _run_playoff(bench: Bench, rivals: Sequence[Rival]) -> Playoff:
    start = time.perf_counter()
    objective = bench.contract.target.objective
    if objective in SIZES:
        ratios = {
            a.id: tuple(size_ratio(a.megabytes, b.megabytes, b.id, objective) for b in rivals if b is not a)
            for a in rivals
        }
        return Playoff(speed=ratios, seconds=time.perf_counter() - start)
    bench.keep(*(rival.id for rival in rivals))
    racers = [bench.racer(rival.id, rival.artifact, rival.point)[0] for rival in rivals]
    pacing: Pacing = "latency" if objective == "latency" else "throughput"
    laps = race(racers, pacing, bench.effort.course, bench.deadline)
    speeds = {a: tuple(speed(laps[a], laps[b], pacing) for b in laps if b != a) for a in laps}
    return Playoff(speed=speeds, hurried=bench.hurried(laps), seconds=time.perf_counter() - start)


def choose(standing: Sequence[Tried], playoff: Playoff) -> Tried:
    """The best by the objective gives way to the simplest that it is not proven to beat. `standing`: simplest first."""
    best = max(standing, key=lambda tried: _strength(tried, playoff))
    beaten = {s.against for s in playoff.speed.get(best.candidate.id, ()) if is_faster(s)}
    return next(tried for tried in standing if tried.candidate.id not in beaten)


def _strength(tried: Tried, playoff: Playoff) -> float:
    """The least ratio to any other: above 1 for the one that is ahead of all."""
    return min((s.ratio for s in playoff.speed.get(tried.candidate.id, ())), default=1.0)


def _why(chosen: Tried, standing: Sequence[Tried], playoff: Playoff, baseline: Tried) -> str:
    parts = [f"{chosen.candidate.id} has {_against(chosen, baseline.candidate.id)}"]
    metric = chosen.proof.metric or chosen.quality.metric
    if metric is not None:
        bound = "" if metric.drop_upper is None else f", at most {metric.drop_upper:.4g} at {metric.confidence:.4g}"
        parts.append(f"its {metric.name} drops by {metric.drop:.4g} on the {metric.split}{bound}")
    others = playoff.speed.get(chosen.candidate.id, ())
    slower = [s.against for s in others if is_faster(s)]
    ties = [s.against for s in others if not is_faster(s)]
    text = "; ".join(parts) + "."
    if slower:
        text += f" It beats {', '.join(slower)} in the playoff."
    if ties:
        text += f" It is simpler than {', '.join(ties)}, not proven to be more than 3 % better."
    if len(standing) == 1:
        text += " It is the only finalist that stands."
    return text


def _against(chosen: Tried, baseline: str) -> str:
    words: dict[str, str] = {
        "throughput": "eager's throughput",
        "latency": "eager's speed",
        "size": "the smallness of eager",
        "compressed-size": "the smallness of eager, zipped",
    }
    wanted: Speed | None = next((s for s in chosen.pace.speed if s.against == baseline), None)
    if wanted is None or chosen.pace.best is None:
        return "no rival"
    point = chosen.pace.best
    at = f"{point.streams} × {point.batch} in flight on {point.threads} threads"
    return f"{wanted.ratio:.2f}× {words[wanted.objective]} (at 95 % at least {wanted.lower:.2f}×) at {at}"
