"""Training mode, and results that do not repeat."""

from __future__ import annotations

import random
from collections.abc import Iterator

import numpy as np

from ...evidence import Finding
from ...model import LoadedModel, run_eager
from ...model.live import private_copy
from ..compare import differing, show
from ..context import Context

_SHOWN = 3


def train_mode(context: Context) -> Iterator[Finding]:
    """No layer is left in training mode."""
    stuck = [path or "the model itself" for path, layer in context.module.named_modules() if layer.training]
    if stuck:
        yield Finding(
            rule="train-mode",
            severity="error",
            where=stuck[0],
            why=f"{len(stuck)} layers stay in training mode after eval(): {', '.join(stuck[:_SHOWN])}",
            remedy="let train(self, mode) set the mode of the layer and return super().train(mode)",
        )
    left = context.model.training
    if left:
        yield Finding(
            rule="train-mode",
            severity="warning",
            where=left[0],
            why=f"the model was handed over in training mode, with {len(left)} layers that behave otherwise then: "
            f"{', '.join(left[:_SHOWN])}{_cost(context)}",
            remedy="call model.eval() before you use it or compare with it; here a copy in evaluation mode is used",
        )


def _cost(context: Context) -> str:
    """How far the training mode's answer is from the evaluation mode's on the first probe."""
    feeds = context.probes[0]
    live = LoadedModel("module", private_copy(context.module, "the model").train())
    gaps = differing(context.run(feeds), run_eager(live, context.signature, feeds))
    return f"; its answers there differ: {show(gaps)}" if gaps else ""


def repeatable(context: Context) -> Iterator[Finding]:
    """Two runs of the same input give the same answer."""
    gaps = context.unrest
    if gaps:
        yield Finding(
            rule="repeatable",
            severity="error",
            where=next(iter(gaps)),
            why=f"two runs of the same input in evaluation mode differ: {show(gaps)}",
            remedy="take randomness and the memory of earlier calls out of forward; F.dropout(x, p, self.training)",
        )


def randomness(context: Context) -> Iterator[Finding]:
    """forward draws no random numbers."""
    seen: dict[tuple[str, str], str] = {}
    python, numpy = random.getstate(), _numpy_state()
    _watch_draws(context, seen)
    for (op, layer), line in list(seen.items())[:_SHOWN]:
        yield Finding(
            rule="randomness",
            severity="error",
            where=layer,
            why=f"{op} draws random numbers in evaluation mode" + (f", at {line}" if line else ""),
            remedy="draw only if self.training, as F.dropout(x, p, self.training), or make the noise an input",
        )
    drawn = [
        name for name, same in (("random", random.getstate() == python), ("numpy", _numpy_state() == numpy)) if not same
    ]
    if drawn:
        yield Finding(
            rule="randomness",
            severity="error",
            where="forward",
            why=f"forward draws from {' and '.join(drawn)}; an exported graph would keep one draw for ever",
            remedy="take it out of forward, or make the noise an input of the model",
        )


def _numpy_state() -> tuple[object, ...]:
    kind, keys, *rest = np.random.get_state()
    return (kind, bytes(np.asarray(keys).data), *rest)


def _watch_draws(context: Context, seen: dict[tuple[str, str], str]) -> None:
    """An operation that may draw does so where the generator's state has moved."""
    import torch

    from ...usercode import calling_line
    from ..watch import Op, ops_of

    state = torch.get_rng_state()

    def look(op: Op) -> None:
        nonlocal state
        if torch.Tag.nondeterministic_seeded not in op.tags:
            return
        now = torch.get_rng_state()
        if not torch.equal(now, state):
            seen.setdefault((op.name, op.layer), calling_line() or "")
            state = now

    with ops_of(context.module, look):
        context.module(*context.tensors(context.probes[0]))
