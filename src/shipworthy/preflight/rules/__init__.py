"""The table of rules. A rule is a function of the context that yields findings; a new one is a file and a row."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import TypeAlias

from ...evidence import Finding
from ...model import Source
from ..context import Context
from . import batch, branches, devices, dtypes, effects, finite, gradients, mode, running, sizes, support, weights

Find: TypeAlias = Callable[[Context], Iterable[Finding]]

_LIVE: tuple[Source, ...] = ("module",)
_TORCH: tuple[Source, ...] = ("module", "torchscript", "exported")
_ALL: tuple[Source, ...] = ("module", "torchscript", "exported", "onnx")


@dataclass(frozen=True, slots=True)
class Rule:
    """One thing that is looked for. `sources` are the kinds of model that it can be asked of."""

    name: str
    find: Find
    sources: tuple[Source, ...]
    runs_model: bool = True
    """Whether it needs a model that runs."""


RULES: tuple[Rule, ...] = (
    Rule("runs", running.runs, _ALL, runs_model=False),
    Rule("input-order", running.input_order, _LIVE, runs_model=False),
    Rule("train-mode", mode.train_mode, _LIVE),
    Rule("repeatable", mode.repeatable, _ALL),
    Rule("randomness", mode.randomness, _TORCH),
    Rule("gradients", gradients.gradients, _LIVE),
    Rule("dtype", dtypes.dtype, _TORCH),
    Rule("device", devices.device, _LIVE, runs_model=False),
    Rule("branches", branches.branches, _LIVE),
    Rule("side-effects", effects.side_effects, _LIVE),
    Rule("batch-coupling", batch.batch_coupling, _ALL),
    Rule("fixed-size", sizes.fixed_size, _ALL),
    Rule("finite-weights", finite.finite_weights, _TORCH, runs_model=False),
    Rule("non-finite", finite.non_finite, _ALL),
    Rule("unused-weights", weights.unused_weights, _TORCH),
    Rule("shared-weights", weights.shared_weights, _LIVE, runs_model=False),
    Rule("exportable", support.exportable, _LIVE),
    Rule("custom-autograd", support.custom_autograd, _LIVE),
    Rule("unsupported", support.unsupported, ("module", "exported")),
)
