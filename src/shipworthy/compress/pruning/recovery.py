"""What a pruned model gets back: the statistics of its batch normalisation, and fine-tuning."""

from __future__ import annotations

import contextlib
import itertools
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from ...data import Chunk, Dataset
from ...errors import ContractError
from ...evidence import Epoch, Finding
from ...usercode import importing_from
from ..batches import generators_of
from ..methods import Training
from ..progress import Shown, epochs_shown
from ..steps import device_of
from ..subject import Subject
from ..training import Loader, own_randomness, resolve_step, seeded_by, train, validator

if TYPE_CHECKING:
    from ..methods import TrainStep

_BATCHES, _SIZE = 32, 64
"""As many samples as statistics of a channel need."""


def renew_statistics(module: nn.Module, data: Dataset | Loader | None, inputs: Iterable[str], seed: int = 0) -> bool:
    """Measure means and variances of every batch normalisation anew on training data.

    They were those of other channels' sums. False, and all as it was, where there is none, or no batch of at least two
    samples: one alone has no variance. What a loader draws is seeded, so that the same call gives the same statistics,
    and the caller's random states stay. Leaves the module in evaluation mode."""
    norms = [layer for layer in module.modules() if isinstance(layer, _BatchNorm)]
    norms = [layer for layer in norms if layer.track_running_stats]
    module.eval()
    if data is None or not norms:
        return False
    with own_randomness(), torch.no_grad(), _generators_kept(data):
        seeded_by(seed, 0)
        chunks = itertools.islice((chunk for chunk in _chunks(data) if len(chunk) > 1), _BATCHES)
        first = next(chunks, None)
        if first is None:
            return False
        _measure(module, norms, itertools.chain([first], chunks), tuple(inputs))
    return True


def _measure(module: nn.Module, norms: Sequence[_BatchNorm], chunks: Iterable[Chunk], names: tuple[str, ...]) -> None:
    kept = [layer.momentum for layer in norms]
    for layer in norms:
        layer.reset_running_stats()
        # None averages over all batches alike.
        layer.momentum = None
        layer.train()
    try:
        for chunk in chunks:
            module(*(torch.tensor(chunk.inputs[name], device=device_of(module)) for name in names))
    finally:
        for layer, momentum in zip(norms, kept, strict=True):
            layer.momentum = momentum
        module.eval()


@contextlib.contextmanager
def _generators_kept(data: Dataset | Loader) -> Iterator[None]:
    """A loader's own generators stand where they stood: the fine-tuning begins as if nothing had been drawn."""
    generators = generators_of(data)
    states = [generator.get_state() for generator in generators]
    try:
        yield
    finally:
        for generator, state in zip(generators, states, strict=True):
            generator.set_state(state)


def _chunks(data: Dataset | Loader) -> Iterable[Chunk]:
    if isinstance(data, Loader):
        return data
    step = max(1, -(-len(data) // (_BATCHES * _SIZE)))
    spread = data if step == 1 else data.take(torch.arange(0, len(data), step).numpy())
    return spread.batches(_SIZE)


def fine_tune(
    module: nn.Module,
    subject: Subject,
    settings: Training | None,
    train_step: TrainStep | None,
    checkpoint: Path | None,
    progress: Shown,
    identified_by: str,
) -> tuple[tuple[Epoch, ...], list[Finding]]:
    """Train `module` in place where there is labelled data and a step for it; else a finding says why not."""
    if settings is None:
        return (), []
    data, contract = subject.train, subject.contract
    if data is None:
        return (), [_not_tuned("there is no training data", "name it in data.train, or give train=...")]
    if isinstance(data, Dataset) and not data.labelled:
        return (), [_not_tuned("the training data has no targets", 'add an array "label" (or "target")')]
    try:
        step = resolve_step(contract, train_step)
    except ContractError as exc:
        if contract.search.train_step is not None:
            raise
        return (), [_not_tuned(exc.reason, exc.remedy)]
    validate = validator(contract, subject.validation, subject.module)
    with importing_from(contract.root), epochs_shown("fine-tuning", settings.epochs, progress) as told:
        epochs = train(
            module,
            step,
            data,
            settings,
            validate=validate,
            checkpoint=checkpoint,
            told=told,
            identified_by=identified_by,
        )
    return epochs, []


def _not_tuned(why: str, remedy: str) -> Finding:
    return Finding(rule="not-fine-tuned", severity="note", where="data.train", why=why, remedy=remedy)
