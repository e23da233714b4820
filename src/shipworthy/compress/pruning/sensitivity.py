"""What each group of channels is worth: a share of it is removed alone, and the answers are looked at."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from ...contract import Arrays
from ...data import Dataset
from ..reports import macs_of, relative_error
from ..steps import outputs_of
from .channels import ChannelGroup, Cutter, first_line

TRIAL = 0.25
"""Share of a group's units that is removed to see what that does."""


@dataclass(frozen=True, slots=True)
class Sensitivity:
    """What became of the model when only the least important units of one group were removed."""

    group: ChannelGroup
    share: float
    """Of the units that were removed."""
    macs: int
    """Multiply-accumulates of a sample that this saved."""
    error: float
    """‖Δ‖ / ‖y‖ of the outputs."""
    loss: float | None
    """Of the metric on the validation data; None where it cannot be measured."""

    @property
    def harm(self) -> float:
        """The relative error, which is smooth, and what the metric lost besides, which is what counts."""
        return self.error + max(0.0, self.loss or 0.0)

    @property
    def shown(self) -> float:
        return self.error if self.loss is None else self.loss


def sensitivities(
    cutter: Cutter,
    groups: Sequence[ChannelGroup],
    samples: Dataset,
    feed: Arrays,
    score: Callable[[Arrays], float] | None,
) -> tuple[list[Sensitivity], dict[str, str]]:
    """One entry for each group whose removal saves operations, before any fine-tuning; and why others have none.

    `score` gives the metric of the outputs for `samples`."""
    module, contract = cutter.module, cutter.contract
    whole, wanted = macs_of(module, contract, feed), outputs_of(module, contract, samples)
    before = None if score is None else score(wanted)
    found, refused = [], {}
    for group in groups:
        count = max(1, int(len(group.units) * TRIAL))
        try:
            private = cutter.cut({group.root: group.least(count)})
            saved = whole - macs_of(private, contract, feed)
            answers = outputs_of(private, contract, samples)
        except Exception as exc:  # noqa: BLE001 - the user's forward may refuse its new width in any way
            refused[group.root] = f"the model does not run without {count} of its channels ({first_line(exc)})"
            continue
        if saved > 0:
            loss = None if score is None or before is None else before - score(answers)
            found.append(Sensitivity(group, count / len(group.units), saved, relative_error(wanted, answers), loss))
    return found, refused


def removal_order(measured: Sequence[Sensitivity]) -> list[int]:
    """Positions of `measured`, one for each unit that may go, in the order in which units go.

    The harm of removing a share x of a group is taken as quadratic, as it is near an optimum (LeCun et al. 1990,
    "Optimal Brain Damage"): harm · (x / x₀)², where x₀ is the share that was tried. Operations saved grow with x. So
    the k-th least important of a group's n units costs, for each operation that it saves, in proportion to

        harm / (x₀ · saved) · (k / n) · importance_k

    with importances as multiples of the group's mean. Units of all groups stand in one order by this cost: the more
    sensitive a group, the less is taken from it. A tenth of each group's units, and one at least, is never removed."""
    costs = []
    floor = max((one.harm for one in measured), default=0.0) * 1e-3 or 1.0
    for place, one in enumerate(measured):
        units = len(one.group.units)
        price = max(one.harm, floor) / (one.share * one.macs)
        highest = 0.0
        for k, unit in enumerate(one.group.ascending[: units - max(1, -(-units // 10))], start=1):
            # Units of no weight at all would tie at 0 in every group, and the cost must not fall within one.
            highest = max(highest, price * k / units * max(float(one.group.importance[unit]), 1e-6))
            costs.append((highest, place, k))
    return [place for _, place, _ in sorted(costs)]
