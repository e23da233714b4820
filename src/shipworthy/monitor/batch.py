"""A file of rows scored with a package: drift against its reference, and accuracy where the file has labels."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np

from ..contract import Array, Contract
from ..errors import DataError
from ..predict import Predictor, load
from ..registry import Losses
from ..signals import classified
from ..signals.probabilities import predicted_classes
from .evidence import quality
from .groups import Group
from .monitor import Monitor
from .options import MonitorOptions
from .quality import quality_of
from .tables import Block, blocks
from .view import Quality, View


def score(
    package: str | Path,
    data: str | Path,
    *,
    options: MonitorOptions | None = None,
    variant: str | None = None,
    label: str | None = None,
    allow_code: bool = False,
) -> View:
    """Answer every row of a file with the package's model, in their order, and look for drift as a server would.

    `data` is a .npz, .safetensors, .parquet or .csv file with arrays or columns named like the inputs. `label` names
    the column with the truth; by default `label` or `target`. Times of the view are places of rows. Raises PackageError
    where the package is refused, MonitorError where it has no reference, DataError where the file does not fit."""
    with load(package, allow_code=allow_code, variant=variant) as predictor:
        monitor = Monitor(predictor.package, options=options, variant=predictor.variant.id, clock="rows")
        losses = np.zeros(quality.CELLS, np.int64)
        labelled = False
        for block in blocks(Path(data), predictor.contract, predictor.codec, label):
            counts = _answer(monitor, predictor, block)
            labelled |= counts is not None
            losses += 0 if counts is None else counts
    if not monitor.scored and monitor.collecting is None:
        raise DataError(str(data), "has no rows", "give at least one")
    view = monitor.check()
    notes = (*view.notes, *_notes(monitor))
    return replace(view, notes=notes, quality=_quality(losses, monitor) if labelled else None)


def drifted(view: View) -> bool:
    """Whether an alarm stands: of drift, or of an accuracy that is proven to be below its level."""
    below = view.quality is not None and view.quality.below
    return below or any(alarm.acknowledged is None for alarm in view.alarms)


def _answer(monitor: Monitor, predictor: Predictor, block: Block) -> Array | None:
    """Losses of the rows, counted; None where they have no labels, or none that can be compared."""
    contract = predictor.contract
    batched = [name for name, spec in contract.outputs.items() if spec.batched]
    groups, classes = [], np.zeros(sum(len(places) for places, _ in block.groups), np.int64)
    name = classified(contract)
    for places, feeds in block.groups:
        outputs = predictor.run(feeds)
        groups.append(Group(feeds, {each: outputs[each] for each in batched}, places))
        if name is not None:
            classes[places] = predicted_classes(outputs[name], contract.outputs[name].kind)
    monitor.update_groups(groups, np.arange(len(classes), dtype=np.float64) + monitor.seen)
    if block.labels is None or name is None:
        return None
    return quality.count(classes != _classes(block.labels, contract))


def _classes(labels: Array, contract: Contract) -> Array:
    """int64 [n]: the class of each label, which is its number or its name. Raises DataError where it is neither."""
    flat = labels.reshape(len(labels), -1)
    if flat.shape[1] != 1:
        raise DataError("the labels", f"have the shape {list(labels.shape)}", "give one class for each row")
    named = {name: place for place, name in enumerate(contract.task.labels or ())}
    try:
        if flat.dtype.kind in "biuf":
            numbers = flat[:, 0].astype(np.int64)
            if (numbers != flat[:, 0]).any():
                raise ValueError("it is no whole number")
            return numbers
        texts = map(str, flat[:, 0].tolist())
        return np.array([named[text] if text in named else _index(text) for text in texts])
    except (ValueError, TypeError) as error:
        known = ", ".join(list(named)[:12]) or "numbers from 0"
        raise DataError("the labels", f"have one that is no class: {error}", f"classes are {known}") from None


def _index(text: str) -> int:
    """A whole number, also as tables write it: `3.0`. Raises ValueError."""
    number = float(text)
    if not number.is_integer():
        raise ValueError(f"{text!r} is no whole number")
    return int(number)


def _quality(counts: Array, monitor: Monitor) -> Quality | None:
    """As of labels that came to a server, all of one time."""
    losses = Losses("classification", None, 0.0, np.zeros(1, np.int64), counts[None], 0)
    found = quality_of(losses, None if monitor.own is None else monitor.own.accepted)
    return None if found is None else replace(found, by_hour=())


def _notes(monitor: Monitor) -> list[str]:
    if monitor.compared is None:
        return ["all rows were taken as the reference: there is nothing to compare with it"]
    left = monitor.compared.drift.filled % monitor.compared.drift.window
    return [f"the last {left} rows are no whole window: only the sequential detector looked at them"] if left else []
