"""Kept samples as a data set for the next training, with a draft of the contract for the next build."""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from zipfile import ZIP_DEFLATED, ZipFile

import numpy as np
from pydantic import ValidationError

from ..contract import FILE_NAME, Array, Contract, KeyPath, TextEncode, contract_toml
from ..errors import MonitorError
from ..registry.folders import appearing
from ..signals import classified
from ..signals.probabilities import class_probabilities, predicted_classes
from .samples import Sample
from .store import States

COLUMNS = ("id", "time", "version", "predicted_class", "confidence", "reason")
"""What the data set has of each sample beside the inputs; those of a name that an input has are called `sample_id` and
so on."""
_DATA = "samples.npz"
_DRAFT = """The draft of a contract for the next build. What is still to be done:
1. Label the samples: add an array "label" (or "target") with the truth to each .npz beside this file. They were chosen
   because they drifted, lie far out, or left the model unsure, so the model's own answers are no labels.
2. Join them with the data that the model was trained with ({train}), so that what was known is not forgotten.
3. Move this file to the project's folder, or correct the paths: those of data start from the folder that it is in.
4. Build anew. The new package has a new reference, which knows what is now."""


@dataclass(frozen=True, slots=True)
class Exported:
    """What was written."""

    folder: Path
    samples: int
    by_reason: dict[str, int]
    files: tuple[str, ...]
    """The data sets, that with most samples first: there are several where samples differ in shape."""
    left_out: int = 0
    """Samples of older versions whose inputs are not those of the newest one."""

    def __str__(self) -> str:
        counts = ", ".join(f"{count} {reason}" for reason, count in self.by_reason.items())
        left = f"; {self.left_out} of older versions have other inputs, and are left out" if self.left_out else ""
        return f"{self.samples} samples ({counts}) and the draft of a contract in {self.folder}{left}"


def export(
    states: States, model: str, folder: str | Path, *, version: str | None = None, assets: Path | None = None
) -> Exported:
    """Write the samples of a model that drifted, lie far out, or left it unsure, each once, into a new folder.

    Without `version` those of all versions; the contract of the newest one is drafted. `assets`: the folder that the
    contract's tokenizer files are relative to, such as an open package's `root`; only models of texts need it. Raises
    MonitorError where nothing was kept, or the folder is not empty."""
    target = Path(folder)
    if target.exists() and (not target.is_dir() or any(target.iterdir())):
        raise MonitorError(str(target), "is not empty", "name a new folder")
    kept = states.kept(model, version)
    if not kept:
        remedy = "serve it with --monitor-keep 200, and wait for requests"
        raise MonitorError(f"the samples of {model}", "are none: nothing is kept", remedy)
    contract = _contract(kept[-1][1].contract)
    found = [(each, one) for each, file in kept for one in file.samples if one.reason != "recent"]
    fitting = [(each, one) for each, one in found if _fits(one, contract)]
    chosen = _distinct(fitting)
    if not chosen:
        reason = "are none that drifted, lie far out, or left the model unsure"
        raise MonitorError(f"the samples of {model}", reason, "wait for more requests")
    _check_assets(contract, assets)
    target.mkdir(parents=True, exist_ok=True)
    groups = _by_shape(chosen, contract)
    files = [_DATA if not place else f"samples-{place + 1}.npz" for place in range(len(groups))]
    for name, group in zip(files, groups, strict=True):
        _write(target / name, _arrays(group, contract))
    if assets is not None:
        for name in _tokenizers(contract):
            (target / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(assets / name, target / name)
    (target / FILE_NAME).write_text(_draft(contract, files), encoding="utf-8")
    reasons: list[str] = [sample.reason for _, sample in chosen]
    counts = {reason: reasons.count(reason) for reason in dict.fromkeys(reasons)}
    return Exported(target, len(chosen), counts, tuple(files), len(found) - len(fitting))


def _contract(text: str) -> Contract:
    try:
        parts: dict[str, Any] = json.loads(text)
        return Contract.model_validate(parts)
    except (ValidationError, ValueError, TypeError) as error:
        raise MonitorError("the samples", f"have a contract that cannot be read: {error}", "remove them") from None


def _check_assets(contract: Contract, assets: Path | None) -> None:
    for name in _tokenizers(contract):
        if assets is None or not (assets / name).is_file():
            raise MonitorError(name, "is named by the contract, and is not here", "give the package of the model")


def _tokenizers(contract: Contract) -> list[str]:
    return [encode.tokenizer for encode in contract.encode.values() if isinstance(encode, TextEncode)]


def _fits(sample: Sample, contract: Contract) -> bool:
    return all(
        name in sample.feeds and spec.misfit(sample.feeds[name], instance=True) is None
        for name, spec in contract.inputs.items()
    )


def _distinct(samples: Iterable[tuple[str, Sample]]) -> list[tuple[str, Sample]]:
    """Of those with the same inputs the one with the highest priority; what drifted first, then by time."""
    found: dict[bytes, tuple[str, Sample]] = {}
    for version, sample in samples:
        digest = hashlib.sha256()
        for name, array in sorted(sample.feeds.items()):
            digest.update(f"{name} {array.dtype.str} {array.shape} ".encode() + np.ascontiguousarray(array).tobytes())
        other = found.get(digest.digest())
        if other is None or _rank(other[1]) > _rank(sample):
            found[digest.digest()] = version, sample
    order = ("drift", "unusual", "low-confidence")
    return sorted(found.values(), key=lambda one: (order.index(one[1].reason), one[1].at, one[1].id))


def _rank(sample: Sample) -> tuple[int, float]:
    return ("drift", "low-confidence", "unusual").index(sample.reason), -sample.priority


def _by_shape(samples: Sequence[tuple[str, Sample]], contract: Contract) -> list[list[tuple[str, Sample]]]:
    groups: dict[tuple[tuple[int, ...], ...], list[tuple[str, Sample]]] = {}
    for version, sample in samples:
        shapes = tuple(sample.feeds[name].shape for name in contract.inputs if name in sample.feeds)
        groups.setdefault(shapes, []).append((version, sample))
    return sorted(groups.values(), key=len, reverse=True)


def _arrays(samples: Sequence[tuple[str, Sample]], contract: Contract) -> dict[str, Array]:
    arrays = {name: np.stack([sample.feeds[name] for _, sample in samples]) for name in contract.inputs}
    classes, confidence = _answers([sample for _, sample in samples], contract)
    columns: tuple[Array, ...] = (
        np.array([sample.id for _, sample in samples]),
        np.array([sample.at for _, sample in samples]),
        np.array([version for version, _ in samples]),
        classes,
        confidence,
        np.array([sample.reason for _, sample in samples]),
    )
    for name, column in zip(COLUMNS, columns, strict=True):
        arrays[f"sample_{name}" if name in contract.inputs else name] = column
    return arrays


def _answers(samples: Sequence[Sample], contract: Contract) -> tuple[Array, Array]:
    """Predicted classes and confidences [n]: -1 and NaN where the model gives none."""
    name, none = classified(contract), (np.full(len(samples), -1), np.full(len(samples), np.nan))
    if name is None or any(name not in one.outputs for one in samples):
        return none
    scores = np.stack([sample.outputs[name] for sample in samples])
    kind = contract.outputs[name].kind
    probabilities = class_probabilities(scores, kind)
    return predicted_classes(scores, kind), none[1] if probabilities is None else probabilities.max(axis=1)


def _draft(contract: Contract, files: Sequence[str]) -> str:
    data = contract.data
    update = {"train": files[0], "calibration": files[0]}
    draft = contract.model_copy(update={"data": data.model_copy(update=update)})
    others = f"\nSamples of other shapes are in {', '.join(files[1:])}." if len(files) > 1 else ""
    comments: dict[KeyPath, str] = {
        ("name",): _DRAFT.format(train=data.train or "the training data") + others,
        ("data", "train"): f"Was: {data.train or 'not given'}. Needs labels.",
        ("data", "calibration"): f"Was: {data.calibration or 'not given'}. Needs none.",
    }
    return contract_toml(draft, comments)


def _write(target: Path, arrays: dict[str, Array]) -> None:
    # NumPy's own function takes arrays by keyword, so that none can be called `file`.
    with appearing(target.with_name(f".{target.name}.part"), target) as file, ZipFile(file, "w", ZIP_DEFLATED) as whole:
        for name, array in arrays.items():
            with whole.open(f"{name}.npy", "w", force_zip64=True) as part:
                np.lib.format.write_array(part, array, allow_pickle=False)
