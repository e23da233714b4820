"""The data sets of a build: which is given, which is made of another, and what they share."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, TypeAlias

import numpy as np

from ..contract import Array, Contract
from ..errors import ContractError, DataError
from ..evidence import Finding
from .dataset import Dataset
from .leaks import find_leaks, row_digests
from .live import as_dataset
from .read import read_data

Split: TypeAlias = Literal["train", "calibration", "validation", "holdout"]


@dataclass(frozen=True, slots=True)
class Splits:
    """The data sets of a build, checked against the contract; None where there is none."""

    train: Dataset | None = None
    calibration: Dataset | None = None
    validation: Dataset | None = None
    """What the search looks at."""
    holdout: Dataset | None = None
    """Never seen by the search; shares no sample with `validation` where it was split off from it."""
    findings: tuple[Finding, ...] = ()
    """Leaks between them, and what was made of what."""


def load_splits(
    contract: Contract,
    *,
    train: object = None,
    calibration: object = None,
    validation: object = None,
    holdout: object = None,
) -> Splits:
    """The data of a build: what is given here (all that `as_dataset` takes, or a path), else what the contract names.

    Without a holdout, a seeded half of the validation data becomes it, with the classes in equal shares. Without
    calibration data, static quantization calibrates on what is left for validation.
    Raises DataError where data does not fit, ContractError where a limit or a method has not the data it needs."""
    training = _load("train", train, contract)
    calibrating = _load("calibration", calibration, contract)
    validating = _load("validation", validation, contract)
    held = _load("holdout", holdout, contract)
    _require(contract, validating, held)
    findings: list[Finding] = []
    if held is None and validating is not None:
        validating, held = _halves(validating, contract)
        findings.extend(_split_findings(validating, held))
    if calibrating is None and (_calibrates(contract) or (_may_calibrate(contract) and validating is not None)):
        calibrating = validating
        findings.append(_calibrated_on_validation(contract, validating))
    given: dict[str, Dataset | None] = {
        "train": training,
        "calibration": None if calibrating is validating else calibrating,
        "validation": validating,
        "holdout": held,
    }
    findings.extend(find_leaks({name: dataset for name, dataset in given.items() if dataset is not None}))
    return Splits(training, calibrating, validating, held, tuple(findings))


def _load(split: Split, given: object, contract: Contract) -> Dataset | None:
    source = getattr(contract.data, split) if given is None else given
    if source is None:
        return None
    if isinstance(source, str | Path):
        return read_data(str(source), contract)
    return as_dataset(source, contract, split)


def _require(contract: Contract, validation: Dataset | None, holdout: Dataset | None) -> None:
    limits, metric = contract.limits, contract.data.metric
    if limits.max_metric_drop is not None and validation is None:
        remedy = "name it in data.validation, or give validation=... in Python"
        raise ContractError("limits.max_metric_drop", "needs validation data to measure the metric on", remedy)
    if metric == "cosine" or (metric is None and contract.task.kind in ("embedding", "tensors")):
        return
    if limits.max_metric_drop is None and metric is None:
        return
    for name, dataset in (("validation", validation), ("holdout", holdout)):
        if dataset is not None and not dataset.labelled:
            remedy = 'add an array "label" (or "target"), one for each sample'
            raise DataError(f"data.{name}", "has no targets, which the metric needs", remedy)


def _calibrates(contract: Contract) -> bool:
    return bool({"static", "accuracy-aware", "qat"}.intersection(contract.search.quantize))


def _may_calibrate(contract: Contract) -> bool:
    """Where int8 is asked for and no way to it is named, the data decides which way is taken."""
    return "int8" in contract.search.precisions and not contract.search.quantize


def _calibrated_on_validation(contract: Contract, validation: Dataset | None) -> Finding:
    if validation is None:
        reason = "static quantization needs data to find the ranges of activations"
        raise ContractError("search.quantize", reason, "name it in data.calibration or data.validation")
    return Finding(
        rule="no-calibration-data",
        severity="note",
        where="data.calibration",
        why="there is none, so static quantization calibrates on the validation data, which then flatters it",
        remedy="name a few hundred other samples in data.calibration",
    )


def _halves(dataset: Dataset, contract: Contract) -> tuple[Dataset, Dataset | None]:
    """Two halves in which no row of the inputs is in both, each class in equal shares where there are classes.

    Every second one of the seeded, class by class shuffled list of distinct rows goes to the holdout."""
    digests = row_digests(dataset)
    groups: dict[bytes, list[int]] = {}
    for row, digest in enumerate(digests):
        groups.setdefault(digest, []).append(row)
    members = list(groups.values())
    if len(members) < 2:
        return dataset, None
    random = np.random.default_rng([contract.search.seed, 0x5EED])
    order = random.permutation(len(members))
    classes = _classes(dataset, contract)
    if classes is not None:
        first = np.array([rows[0] for rows in members])
        order = order[np.argsort(classes[first[order]], kind="stable")]
    held = [row for place in order[1::2] for row in members[place]]
    kept = [row for place in order[0::2] for row in members[place]]
    return dataset.take(np.array(kept)), dataset.take(np.array(held))


def _classes(dataset: Dataset, contract: Contract) -> Array | None:
    """The class of each sample; None where the samples have no one class each."""
    if contract.task.kind != "classification" or not dataset.labelled:
        return None
    targets = [chunk.targets for chunk in dataset.chunks if chunk.targets is not None]
    return np.concatenate(targets) if all(array.ndim == 1 for array in targets) else None


def _split_findings(validation: Dataset, holdout: Dataset | None) -> Iterator[Finding]:
    if holdout is None:
        yield Finding(
            rule="no-holdout",
            severity="warning",
            where="data.validation",
            why="it has one distinct sample, which cannot be split into validation and holdout",
            remedy="give more validation data, or data.holdout",
        )
        return
    yield Finding(
        rule="holdout-from-validation",
        severity="note",
        where="data.holdout",
        why=f"there is none, so {len(holdout)} of the {len(validation) + len(holdout)} validation samples are held out",
        remedy="name data that the model was never chosen on in data.holdout",
    )
