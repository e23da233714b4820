"""The whole way from a model to a proven choice."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from ..compress.quantization.calibration import unlike_validation
from ..contract import Contract
from ..errors import MeasureError, MissingExtra, ShipworthyError
from ..evidence import BuildRecord, CandidateResult, Evidence, Finding, Speed
from ..measure import CheckModel, CheckReply, busy_share, load_findings, precision_note
from .bench import Bench, Effort, Job
from .budget import budget_of, paced
from .candidates import Given, Plan, calibrates, plan
from .final import Final, final
from .job import Model, environment, prepare, tidy
from .outcome import Best, BuildReport
from .pareto import pareto
from .progress import progress_for
from .references import references
from .results import Checked, Refusal
from .store import Store
from .sweep import Sweep, measure_baseline, sweep
from .tried import Tried


def build(
    model: Model | Contract | str | Path,
    contract: Contract | Mapping[str, Any] | str | Path | None = None,
    *,
    train: object = None,
    calibration: object = None,
    validation: object = None,
    holdout: object = None,
    engines: Sequence[str] | None = None,
    work: str | Path | None = None,
    mend: bool = False,
    budget: str | None = None,
    progress: bool = True,
    effort: Effort | None = None,
) -> BuildReport:
    """Check, export to every engine, measure each candidate in a process of its own, and choose on the evidence.

    `model`: a contract (or the path of one) that names the model, or a live module followed by its contract.
    `train`, `calibration`, `validation`, `holdout`: a Dataset, arrays by name, a DataLoader or a path, instead of what
    the contract names. `engines` narrows the search. `work` is where results are kept (default: `.shipworthy/NAME`
    beside the contract): a build that was killed takes up there, and repeats no finished measurement. `mend` takes
    known prefixes off the keys of the weights. `budget` is the time for the whole build (`90s`, `10min`), instead of
    the contract's. `effort` says how long is measured.

    A candidate that fails is a row of the record, never an exception. Raises ContractError, DataError, ModelError or
    WeightsError for what the user gave, MeasureError where the model itself cannot be run or another build is at work
    in the same folder."""
    start = time.monotonic()
    effort = effort or Effort()
    data = {"train": train, "calibration": calibration, "validation": validation, "holdout": holdout}
    with progress_for(progress) as shown:
        shown.doing("loading the model and the data")
        given = None if work is None else Path(work)
        job, folder = prepare(model, contract, data, work=given, mend=mend, effort=effort, budget=budget)
        splits = job.splits
        given_data = Given(splits.train is not None, splits.calibration is not None)
        planned = plan(job.contract, engines, given_data)
        shown.begin(len(planned.candidates) + 2)
        busy = load_findings(busy_share())
        limit = budget_of(job.contract, start)
        effort, budgeted = paced(effort, limit), limit.end is not None
        with Store(folder, job.identity) as store, Bench(job, store, effort, shown, budgeted=budgeted) as bench:
            tidy(job.source, folder)
            checked = _check(bench)
            unlike = _calibration_findings(job, planned)
            baseline = measure_baseline(bench)
            swept = sweep(bench, planned, baseline, limit)
            ended = final(bench, swept, limit.end)
            created = datetime.now(UTC).isoformat(timespec="seconds")
            ended = replace(ended, references=references(bench, ended.packed, created))
            shown.step("the choice is made")
            record = _record(bench, checked, (*busy, *unlike), planned, swept, ended, created)
            record = record.model_copy(update={"seconds": time.monotonic() - start})
            return BuildReport(record, job.contract, _best(bench, record, ended))


def _check(bench: Bench) -> Checked:
    """The preflight rules, in a process of their own: what they try may crash or hang as any export may."""

    def measure(_: str) -> Checked:
        start = time.perf_counter()
        command = CheckModel(source=bench.job.source, data=bench.feeds("validation"))
        try:
            with bench.worker("check", "check", pinned=False) as worker:
                reply = worker.ask(command, CheckReply)
            checked = Checked(findings=reply.findings, skipped=reply.skipped)
        except MissingExtra:
            raise
        except ShipworthyError as error:
            gate = error.gate if isinstance(error, MeasureError) else "check"
            checked = Checked(refusal=Refusal(gate=gate, reason=error.reason))
        return checked.model_copy(update={"seconds": time.perf_counter() - start})

    bench.progress.doing("checking the model")
    return bench.store.once("check", "model", Checked, measure)


def _calibration_findings(job: Job, planned: Plan) -> tuple[Finding, ...]:
    """Whether what ranges are found on resembles what the metric is measured on."""
    splits = job.splits
    used = {candidate.recipe for candidate in planned.candidates}
    if splits.calibration is None or splits.validation is None or splits.calibration is splits.validation:
        return ()
    if not any(calibrates(recipe) for recipe in planned.recipes if recipe.name in used):
        return ()
    return unlike_validation(splits.calibration, splits.validation, job.contract)


def _record(
    bench: Bench, checked: Checked, busy: tuple[Finding, ...], planned: Plan, swept: Sweep, ended: Final, created: str
) -> BuildRecord:
    final_form = {tried.candidate.id: tried for tried in ended.finalists}
    tried = [final_form.get(each.candidate.id, each) for each in swept.tried]
    skipped = (*planned.skipped, *swept.skipped)
    return BuildRecord(
        name=bench.contract.name,
        contract_digest=bench.contract.digest,
        created=created,
        environment=environment(),
        findings=(
            *bench.job.splits.findings,
            *bench.job.findings,
            *busy,
            *_findings(checked),
            *ended.references.findings,
        ),
        results=(_baseline_row(swept.baseline), *(_row(each, ended) for each in tried), *skipped),
        chosen=None if ended.chosen is None else ended.chosen.candidate.id,
        why=ended.why,
        pareto=pareto(tried, swept.baseline.candidate.id),
        skipped=(
            *(f"{row.candidate.id}: {row.reason}" for row in skipped),
            *(f"check {rule}" for rule in checked.skipped),
        ),
    )


def _findings(checked: Checked) -> tuple[Finding, ...]:
    if checked.refusal is None:
        return checked.findings
    return (
        *checked.findings,
        Finding(
            rule="check-ended",
            severity="warning",
            where="the model",
            why=f"the checks did not reach their end: {checked.refusal.reason}",
            remedy="see what in the model's forward crashes, waits or grows when it is traced",
        ),
    )


def _baseline_row(baseline: Tried) -> CandidateResult:
    return CandidateResult(
        candidate=baseline.candidate,
        verdict="baseline",
        reason="the model as it is; everything is compared with it",
        evidence=baseline.evidence(),
        seconds=baseline.seconds,
    )


def _row(tried: Tried, ended: Final) -> CandidateResult:
    evidence = tried.evidence()
    head_to_head = ended.playoff.speed.get(tried.candidate.id, ())
    speed = (*evidence.speed, *_new(head_to_head, evidence.speed))
    reference = ended.references.evidence.get(tried.candidate.id)
    evidence = evidence.model_copy(update={"speed": speed, "reference": reference})
    findings = (*(() if tried.exported.reply is None else tried.exported.reply.findings), *_partly(tried, evidence))
    row = CandidateResult(
        candidate=tried.candidate,
        verdict="accepted",
        reason="meets the contract",
        evidence=evidence,
        compression=tried.compression,
        findings=(*findings, *(() if tried.way.shaped is None else tried.way.shaped.findings)),
        seconds=tried.seconds,
    )
    if tried.refusal is not None:
        update = {"verdict": "rejected", "reason": tried.refusal.reason, "gate": tried.refusal.gate}
        return row.model_copy(update=update)
    if ended.chosen is not None and tried.candidate == ended.chosen.candidate:
        return row.model_copy(update={"verdict": "chosen", "reason": ended.why})
    if tried.candidate.id not in {finalist.candidate.id for finalist in ended.finalists}:
        reason = "meets the contract, but is not among the finalists, and so was not proven on the holdout"
        return row.model_copy(update={"reason": reason})
    beside = next((s for s in head_to_head if ended.chosen and s.against == ended.chosen.candidate.id), None)
    if beside is not None:
        reason = f"meets the contract; {beside.ratio:.2f}× the {beside.objective} of {beside.against} in the playoff"
        return row.model_copy(update={"reason": reason})
    return row


def _partly(tried: Tried, evidence: Evidence) -> tuple[Finding, ...]:
    """A lower precision in which only a part of the heavy work is executed is no false claim, but worth a word."""
    note = precision_note(evidence.kernels, tried.candidate.precision)
    if note is None:
        return ()
    where = tried.candidate.id
    remedy = "see what each operation is executed in, in the report"
    return (Finding(rule="partly-lowered", severity="note", where=where, why=note, remedy=remedy),)


def _new(found: Sequence[Speed], known: Sequence[Speed]) -> list[Speed]:
    """A comparison of the sweep is not repeated by one of the playoff."""
    against = {(speed.against, speed.objective) for speed in known}
    return [speed for speed in found if (speed.against, speed.objective) not in against]


def _best(bench: Bench, record: BuildRecord, ended: Final) -> Best | None:
    """What a package holds: the finalists that stand, the chosen first."""
    if not ended.packed:
        return None
    answers = bench.answers(bench.baseline.id, "probes")
    return Best(bench.contract, record, bench.probes(), answers, ended.packed, ended.references.files)
