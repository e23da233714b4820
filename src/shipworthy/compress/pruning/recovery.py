"""What a pruned model gets back: the statistics of its batch normalisation, and fine-tuning."""

from __future__ import annotations

import itertools
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import nn

from ...data import Chunk, Dataset
from ...errors import ContractError
from ...evidence import Epoch, Finding
from ...usercode import importing_from
from ..methods import Training
from ..progress import Shown, epochs_shown
from ..steps import device_of
from ..subject import Subject
from ..training import Loader, resolve_step, train, validator

if TYPE_CHECKING:
    from ..methods import TrainStep

_BATCHES, _SIZE = 32, 64
"""As many samples as statistics of a channel need."""


def renew_statistics(module: nn.Module, data: Dataset | Loader | None, inputs: Iterable[str]) -> bool:
    """Measure means and variances of every batch normalisation anew on training data; False where there is none.

    They were those of other channels' sums. Leaves the module in evaluation mode."""
    norms = [layer for layer in module.modules() if isinstance(layer, nn.modules.batchnorm._BatchNorm)]
    norms = [layer for layer in norms if layer.track_running_stats]
    if data is None or not norms:
        return False
    kept, names = [layer.momentum for layer in norms], tuple(inputs)
    module.eval()
    for layer in norms:
        layer.reset_running_stats()
        # None averages over all batches alike.
        layer.momentum = None
        layer.train()
    try:
        with torch.no_grad():
            for chunk in itertools.islice(_chunks(data), _BATCHES):
                module(*(torch.tensor(chunk.inputs[name], device=device_of(module)) for name in names))
    finally:
        for layer, momentum in zip(norms, kept, strict=True):
            layer.momentum = momentum
        module.eval()
    return True


def _chunks(data: Dataset | Loader) -> Iterable[Chunk]:
    if isinstance(data, Loader):
        return data
    step = max(1, -(-len(data) // (_BATCHES * _SIZE)))
    spread = data if step == 1 else data.take(torch.arange(0, len(data), step).numpy())
    # One sample alone has no variance.
    return (batch for batch in spread.batches(_SIZE) if len(batch) > 1)


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
