"""The sweep: every candidate through its trial, the most promising first, and what came of it."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import nullcontext
from dataclasses import dataclass, replace

from ..errors import MeasureError, MissingExtra
from ..evidence import Candidate, CandidateResult
from ..runtime import this_host
from .agenda import Agenda
from .bench import Bench
from .budget import Budget
from .candidates import Plan, parents, skip
from .judge import judge_pace, judge_quality
from .lean import leaner
from .recipes import LEAN, RESTED, Recipe, halves
from .shaping import shaped
from .store import NotStoredError
from .trial import Trial
from .tried import Outcome, Tried
from .way import Way


@dataclass(frozen=True, slots=True)
class Sweep:
    baseline: Tried
    tried: tuple[Tried, ...]
    """In the order in which they were tried."""
    skipped: tuple[CandidateResult, ...]


def sweep(bench: Bench, plan: Plan, baseline: Tried, budget: Budget) -> Sweep:
    """Try the candidates of a plan; when the budget is used up, only those whose stages are all in the store."""
    agenda = Agenda(plan, bench.contract, this_host(), baseline.candidate.id)
    pending, done = list(plan.candidates), dict[str, Outcome]()
    while pending:
        candidate = agenda.next(pending, done)
        pending.remove(candidate)
        why = agenda.why_not(candidate, done)
        if why is not None:
            outcome: Outcome = skip(candidate, why, gate="search")
        else:
            outcome = _within(bench, candidate, plan.recipe(candidate.recipe), baseline, done, budget)
        done[candidate.id] = outcome
        bench.progress.step(f"{candidate.id}: {_word(outcome, baseline)}")
    tried = tuple(outcome for outcome in done.values() if isinstance(outcome, Tried))
    return Sweep(baseline, tried, tuple(row for row in done.values() if isinstance(row, CandidateResult)))


def _within(
    bench: Bench, candidate: Candidate, recipe: Recipe, baseline: Tried, done: Mapping[str, Outcome], budget: Budget
) -> Outcome:
    """The candidate tried in what is left of the time, or the row that says why it was not."""
    accepted = [t for t in done.values() if isinstance(t, Tried) and t.refusal is None]
    bench.deadline.at = budget.end_of_search(bench, accepted or [baseline])
    late = bench.deadline.left() <= 0
    try:
        with bench.store.finished_only() if late else nullcontext():
            return _try(bench, candidate, recipe, baseline, done)
    except NotStoredError:
        return skip(candidate, f"the budget of {budget.text} was used up", gate="budget")
    except MissingExtra as missing:
        return skip(candidate, str(missing), gate="extra")
    except MeasureError as error:
        if error.gate != "budget":
            raise
        bench.keep()
        return skip(candidate, f"the budget of {budget.text} ended while it was tried", gate="budget")
    finally:
        bench.deadline.at = None
        bench.keep(baseline.candidate.id, candidate.id)


def measure_baseline(bench: Bench) -> Tried:
    """Eager, by which all others are judged. Raises what ends it: without it there is nothing to compare with."""
    with Trial(bench, bench.baseline) as trial:
        exported = trial.export()
        quality = trial.quality(exported)
        pace = trial.pace(exported, ())
    bench.progress.step(f"{bench.baseline.id}: the baseline")
    return Tried(bench.baseline, Way(), exported, quality, pace)


def _try(bench: Bench, candidate: Candidate, recipe: Recipe, baseline: Tried, done: Mapping[str, Outcome]) -> Outcome:
    if halves(recipe.name)[1] == LEAN:
        found = leaner(bench, candidate, recipe, done)
        if isinstance(found, str):
            return skip(candidate, found, gate="search")
        recipe = found
    origin = _origin(candidate, done)
    restated = halves(recipe.name)[1].endswith(RESTED)
    way = Way(
        recipe,
        shaped(bench, recipe),
        None if origin is None or origin.exported.reply is None else origin.exported.reply.artifact,
        origin.exported.reply.compression if restated and origin and origin.exported.reply else None,
    )
    simpler = [other for parent in parents(candidate) if isinstance(other := done.get(parent.id), Tried)]
    with Trial(bench, candidate, way) as trial:
        exported = trial.export()
        tried = Tried(candidate, way, exported)
        if exported.refusal is not None:
            return replace(tried, refusal=exported.refusal)
        quality = trial.quality(exported)
        tried = replace(tried, quality=quality)
        refusal = judge_quality(bench.contract, candidate, exported, quality)
        if refusal is not None:
            return replace(tried, refusal=refusal)
        rivals = [rival for other in (baseline, *simpler) if (rival := other.rival()) is not None]
        pace = trial.pace(exported, rivals)
    refusal = judge_pace(bench.contract, pace, baseline.candidate.id, [other.candidate.id for other in simpler])
    return replace(tried, pace=pace, refusal=refusal)


def _origin(candidate: Candidate, done: Mapping[str, Outcome]) -> Tried | None:
    """What a quantization starts from, if there is one: the same engine's graph in fp32 of the same module, and for
    what only executes another rest, the graph in int8."""
    shaping, quantization = halves(candidate.recipe)
    if quantization.endswith(RESTED):
        origin = candidate.model_copy(update={"recipe": candidate.recipe.removesuffix(RESTED)})
    else:
        origin = Candidate(recipe=shaping, engine=candidate.engine, precision="fp32")
    found = done.get(origin.id)
    return found if isinstance(found, Tried) else None


def _word(outcome: Outcome, baseline: Tried) -> str:
    if isinstance(outcome, CandidateResult):
        return f"skipped: {outcome.reason}"
    if outcome.refusal is not None:
        return f"rejected ({outcome.refusal.gate}): {outcome.refusal.reason}"
    against = next((s for s in outcome.pace.speed if s.against == baseline.candidate.id), None)
    return "accepted" + (f", {against.ratio:.2f}× eager's {against.objective}" if against is not None else "")
