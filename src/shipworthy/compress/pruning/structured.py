"""Whole channels removed until a share of the operations is gone."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from torch import nn

from ...contract import Arrays
from ...data import probes
from ...errors import CompressError
from ...evidence import Finding, PrunedLayer
from ..methods import Structured
from ..reports import macs_of, one_feed
from ..steps import scorer
from ..subject import Subject, evenly
from .channels import Cutter, first_line
from .sensitivity import Sensitivity, removal_order, sensitivities

_WORK, _FEWEST = 10**11, 32
"""Multiply-accumulates that one trial of a group may cost, and samples that it has in any case."""
_BLOCK, _WIDE = 8, 32
"""Kernels take channels in blocks: a layer of at least `_WIDE` channels keeps a multiple of `_BLOCK`."""


@dataclass(frozen=True, slots=True)
class Cut:
    """A module without the channels that were removed."""

    module: nn.Module
    macs_before: int
    macs_after: int
    layers: tuple[PrunedLayer, ...]
    findings: tuple[Finding, ...]
    notes: tuple[str, ...]


def cut_channels(subject: Subject, method: Structured) -> Cut:
    """Remove the least important channels until at most 1 − share of the operations is left.

    How much is taken from which group of layers is `sensitivity.removal_order`; how many units in all is found by
    bisection over modules that are really cut and counted. The outputs keep their channels. Raises CompressError where
    the module cannot be traced, nothing of it can be removed, or the operations do not become fewer."""
    feed = one_feed(subject.contract, subject.samples)
    sizes = probes(subject.contract, subject.samples, subject.contract.search.seed)
    cutter = Cutter.of(subject.module, subject.contract, (feed, *sizes), method.norm)
    before = macs_of(subject.module, subject.contract, feed)
    groups, refused = cutter.groups()
    samples = evenly(subject.samples, max(_FEWEST, _WORK // max(1, before)))
    score = scorer(subject.contract, None if subject.validation is None else samples, subject.module)
    measured, failed = sensitivities(cutter, groups, samples, feed, score)
    refused |= failed
    if not measured:
        reason = "; ".join(f"{root}: {why}" for root, why in list(refused.items())[:3]) or "it has no inner layers"
        raise CompressError(subject.contract.name, f"has no channels that can be removed ({reason})", _OTHERWISE)
    module, after = _least_that_suffices(cutter, measured, feed, (1 - method.share) * before)
    if after >= before:
        raise CompressError(subject.contract.name, f"has {after:,} operations after pruning as before", _OTHERWISE)
    return Cut(
        module,
        before,
        after,
        tuple(_layers(subject.module, module, measured)),
        (*_left_alone(refused), *_short_of(method.share, before, after)),
        (_summary(measured, before, after, len(samples)),),
    )


_OTHERWISE = "prune unstructured, or distil it into a smaller model"


def _least_that_suffices(
    cutter: Cutter, measured: Sequence[Sensitivity], feed: Arrays, allowed: float
) -> tuple[nn.Module, int]:
    """The module with the fewest units removed that has at most `allowed` operations; where none has, the one with the
    most units removed that runs.

    A width at which the user's forward fails is not feasible. Raises CompressError where all that were tried are not,
    or where what comes out does not run on other feeds."""
    order = removal_order(measured)
    failed: dict[int, BaseException] = {}

    def at(count: int) -> tuple[nn.Module, int] | None:
        try:
            module = cutter.cut(_plan(measured, order[:count]))
            return module, macs_of(module, cutter.contract, feed)
        except Exception as exc:  # noqa: BLE001 - the user's forward may refuse its new widths in any way
            failed[count] = exc
            return None

    low, high = 0, len(order)
    most: tuple[nn.Module, int] | None = None
    best = at(high)
    while high - low > 1:
        middle = (low + high) // 2
        tried = at(middle)
        if tried is None:
            # Above is a width that runs, or there is none and only those below are left.
            low, high = (middle, high) if best is not None else (low, middle)
        elif tried[1] <= allowed:
            high, best = middle, tried
        else:
            low, most = middle, tried
    found = best or most
    if found is None:
        raise _does_not_run(cutter, failed[min(failed)]) from failed[min(failed)]
    return _checked(cutter, found[0]), found[1]


def _checked(cutter: Cutter, module: nn.Module) -> nn.Module:
    try:
        return cutter.check(module)
    except CompressError:
        raise
    except Exception as exc:  # the user's forward may refuse its new widths in any way
        raise _does_not_run(cutter, exc) from exc


def _does_not_run(cutter: Cutter, exc: BaseException) -> CompressError:
    reason = f"does not run with fewer channels ({type(exc).__name__}: {first_line(exc)})"
    return CompressError(cutter.contract.name, reason, _OTHERWISE)


def _plan(measured: Sequence[Sensitivity], taken: Sequence[int]) -> dict[str, list[int]]:
    plan = {}
    for place, one in enumerate(measured):
        count = _rounded(taken.count(place), len(one.group.units))
        if count:
            plan[one.group.root] = one.group.least(count)
    return plan


def _rounded(removed: int, units: int) -> int:
    if units < _WIDE:
        return removed
    kept = -(-(units - removed) // _BLOCK) * _BLOCK
    return max(0, units - kept)


def _layers(before: nn.Module, after: nn.Module, measured: Sequence[Sensitivity]) -> list[PrunedLayer]:
    worth = {name: one.shown for one in measured for name in (one.group.root, *one.group.members)}
    found = []
    for name, layer in before.named_modules():
        if not isinstance(layer, nn.modules.conv._ConvNd | nn.Linear):
            continue
        weight, left = layer.weight, after.get_submodule(name).weight
        assert isinstance(left, nn.Parameter)
        axis = 1 if getattr(layer, "transposed", False) else 0
        found.append(
            PrunedLayer(
                name=name,
                kind=type(layer).__name__,
                mask_shape=tuple(weight.shape),
                zeros=weight.numel() - left.numel(),
                ones=left.numel(),
                neurons_kept=left.shape[axis],
                neurons_pruned=weight.shape[axis] - left.shape[axis],
                sensitivity=worth.get(name),
            )
        )
    return found


def _left_alone(refused: dict[str, str]) -> list[Finding]:
    return [
        Finding(
            rule="channels-left-alone",
            severity="note",
            where=root,
            why=why,
            remedy="nothing to do; write fixed sizes in forward as -1 where more should be prunable",
        )
        for root, why in refused.items()
    ]


def _short_of(share: float, before: int, after: int) -> list[Finding]:
    if after <= (1 - share) * before:
        return []
    return [
        Finding(
            rule="pruned-less",
            severity="warning",
            where="prune",
            why=f"{1 - after / before:.0%} of the operations could be removed, where {share:.0%} was asked for",
            remedy="ask for less, or distil it into a smaller model",
        )
    ]


def _summary(measured: Sequence[Sensitivity], before: int, after: int, samples: int) -> str:
    ranked = sorted(measured, key=lambda one: one.harm)
    by = "loss of the metric" if ranked[0].loss is not None else "relative error of the outputs"
    return (
        f"{before:,} multiply-accumulates of a sample became {after:,}; of {len(measured)} groups of channels "
        f"{ranked[-1].group.root} is the most sensitive and {ranked[0].group.root} the least, by the {by} "
        f"on {samples} samples when a quarter of it is removed"
    )
