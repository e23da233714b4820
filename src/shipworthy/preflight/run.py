"""Ask every rule, and survive each of them."""

from __future__ import annotations

import random
import time
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace

import numpy as np

from ..contract import Contract
from ..data import Dataset, load_splits, probes
from ..errors import DataError, ModelError, ShipworthyError, UnsafePickle, WeightsError
from ..evidence import Finding
from ..model import LoadedModel, load_model
from .context import Context
from .report import CheckReport, worst_first


def check(model: LoadedModel, contract: Contract, data: Dataset | None = None) -> CheckReport:
    """Ask every rule of `RULES` of a model, with real samples of `data` where it is given.

    The rules run a copy of the model, and leave the random generators as they were. A rule that cannot be run says so
    in a note; it does not end the check. Rules that a kind of model cannot be asked are listed as skipped."""
    from .rules import RULES

    began = time.perf_counter()
    findings: list[Finding] = []
    skipped: list[str] = []
    context = Context(_private(model), contract, probes(contract, data))
    broken = False
    with _undisturbed():
        for rule in RULES:
            if model.source not in rule.sources:
                skipped.append(f"{rule.name}: needs the model's own code, and this is {_WORDS[model.source]}")
            elif broken and rule.runs_model:
                skipped.append(f"{rule.name}: the model does not run")
            else:
                found = _ask(rule.name, lambda rule=rule: list(rule.find(context)))
                findings += found
                broken = broken or (rule.name == "runs" and any(f.severity == "error" for f in found))
    return CheckReport(worst_first(findings), tuple(skipped), time.perf_counter() - began)


def check_contract(contract: Contract, *, mend: bool = False, data: Dataset | None = None) -> CheckReport:
    """Load the model and the data that a contract names, and check them.

    What fails to load is a finding. Weights that a known prefix keeps from fitting are mended for the rest of the
    check, whether or not `mend` asks for it; without it, the prefix is an error. Raises MissingExtra without torch."""
    began = time.perf_counter()
    findings: list[Finding] = []
    loaded = _load(contract, findings, mend=mend)
    if data is None:
        data = _data(contract, findings)
    if loaded is None:
        return CheckReport(worst_first(findings), ("all rules: the model does not load",), time.perf_counter() - began)
    report = check(loaded, contract, data)
    findings += report.findings
    return CheckReport(worst_first(findings), report.skipped, time.perf_counter() - began)


_WORDS = {"torchscript": "TorchScript", "exported": "an ExportedProgram", "onnx": "ONNX", "module": "a module"}


def _private(model: LoadedModel) -> LoadedModel:
    """A copy that rules may run: forward may change the module it belongs to."""
    from ..model.live import private_copy

    if model.source != "module" or model.module is None:
        return model
    return replace(model, module=private_copy(model.module, "the model").eval())


@contextmanager
def _undisturbed() -> Iterator[None]:
    """Keep the warnings of the user's code out of the output, and put random generators back."""
    import torch

    python, numpy = random.getstate(), np.random.get_state()
    try:
        with warnings.catch_warnings(), torch.random.fork_rng(devices=[]):
            warnings.simplefilter("ignore")
            yield
    finally:
        random.setstate(python)
        np.random.set_state(numpy)


def _ask(name: str, find: object) -> list[Finding]:
    from ..usercode import raised_at

    assert callable(find)
    try:
        found: list[Finding] = find()
        return found
    except Exception as exc:  # noqa: BLE001 - rules run the user's code on unusual input; one that fails must not end the check
        return [
            Finding(
                rule=name,
                severity="note",
                where="the rule itself",
                why=f"it could not be run to its end: {raised_at(exc)}",
                remedy="look at the other findings first; this one is often their consequence",
            )
        ]


def _load(contract: Contract, findings: list[Finding], *, mend: bool) -> LoadedModel | None:
    try:
        loaded = load_model(contract, mend=mend)
    except WeightsError as exc:
        findings.append(_finding("weights-fit", exc))
        return None if mend else _mended(contract)
    except UnsafePickle as exc:
        findings.append(_finding("unsafe-pickle", exc))
        return None
    except ModelError as exc:
        findings.append(_finding("loads", exc))
        return None
    if loaded.mended:
        findings.append(
            Finding(
                rule="weights-fit",
                severity="note",
                where=str(contract.weights),
                why=f"the prefix {', '.join(map(repr, loaded.mended))} was taken off the keys",
                remedy="save the weights of the inner module, and no mend is needed",
            )
        )
    return loaded


def _mended(contract: Contract) -> LoadedModel | None:
    try:
        return load_model(contract, mend=True)
    except ModelError:
        # The finding is written already; that no mend helps adds nothing to it.
        return None


def _data(contract: Contract, findings: list[Finding]) -> Dataset | None:
    if contract.data.validation is None and contract.data.calibration is None:
        return None
    try:
        splits = load_splits(contract)
    except DataError as exc:
        findings.append(_finding("data", exc))
        return None
    return splits.validation or splits.calibration


def _finding(rule: str, exc: ShipworthyError) -> Finding:
    return Finding(rule=rule, severity="error", where=exc.culprit, why=exc.reason, remedy=exc.remedy)
