"""The verb: a model and a contract in, a pruned module with its report out."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from ...contract import Contract
from ...errors import CompressError
from ...evidence import Compression, Epoch
from ...model import LoadedModel
from ...model.live import private_copy
from ..made import Reshaped
from ..methods import Structured, Unstructured
from ..progress import Shown
from ..reports import macs_of, mean_abs_diff, one_feed
from ..sizes import bytes_of, parameters_of
from ..subject import ModelLike, Subject, subject_of
from ..training import Loader
from .recovery import fine_tune, renew_statistics
from .structured import cut_channels
from .unstructured import apply_masks, emptied, masked_layers, masks_for, packed_bytes, scopes_compared, zeros_held

if TYPE_CHECKING:
    from ..methods import TrainStep


def prune(
    model: ModelLike,
    contract: Contract | str | Path | None,
    method: Structured | Unstructured,
    *,
    train: object = None,
    validation: object = None,
    train_step: TrainStep | None = None,
    checkpoint: Path | None = None,
    progress: Shown = True,
) -> Reshaped:
    """Prune a copy of `model`, for good, and fine-tune it where there is labelled training data.

    `Unstructured` sets weights to zero: smaller once compressed, and rarely faster. `Structured` removes channels with
    all that depends on them, so that the model has fewer operations; the shapes of its outputs stay.
    `train` and `validation` are all that `data.as_dataset` takes, or paths; `train` may be a DataLoader, which is
    iterated over in each epoch. By default they are what the contract names. `checkpoint` is a file from which an
    interrupted fine-tuning goes on. `progress` shows it, or is a function that hears of each epoch.

    Raises CompressError where the model cannot be pruned, or its training step fails; ContractError, DataError and
    ModelError for what is wrong with the contract, the data and the model; MissingExtra without Torch-Pruning."""
    subject = subject_of(model, contract, train, validation)
    if isinstance(method, Structured):
        return _structured(subject, method, train_step, checkpoint, progress)
    if isinstance(method, Unstructured):
        return _unstructured(subject, method, train_step, checkpoint, progress)
    raise CompressError("method", f"is a {type(method).__name__}", "give Structured(share=0.5) or Unstructured(...)")


def _structured(
    subject: Subject, method: Structured, step: TrainStep | None, checkpoint: Path | None, progress: Shown
) -> Reshaped:
    cut = cut_channels(subject, method)
    renewed = renew_statistics(cut.module, subject.train, subject.contract.inputs, _seed(method))
    epochs, untuned = fine_tune(cut.module, subject, method.training, step, checkpoint, progress, repr(method))
    report = Compression(
        recipe=f"prune{round(method.share * 100)}",
        parameters_before=parameters_of(subject.module),
        parameters_after=parameters_of(cut.module),
        bytes_before=bytes_of(subject.module),
        bytes_after=bytes_of(cut.module),
        macs_before=cut.macs_before,
        macs_after=cut.macs_after,
        mean_abs_diff=mean_abs_diff(
            subject.answers_of(subject.module), subject.answers_of(cut.module), subject.samples
        ),
        samples=_samples(subject, epochs),
        layers=cut.layers,
        epochs=epochs,
        notes=(*cut.notes, *(["batch normalisation was measured anew on the training data"] if renewed else [])),
    )
    return Reshaped(LoadedModel("module", cut.module), report, (*cut.findings, *untuned))


def _unstructured(
    subject: Subject, method: Unstructured, step: TrainStep | None, checkpoint: Path | None, progress: Shown
) -> Reshaped:
    module = private_copy(subject.module, subject.contract.name).eval()
    masks = masks_for(module, method.share, method.scope)
    apply_masks(module, masks)
    with zeros_held(module, masks):
        epochs, untuned = fine_tune(module, subject, method.training, step, checkpoint, progress, repr(method))
    macs = macs_of(module, subject.contract, one_feed(subject.contract, subject.samples))
    packed = tuple(packed_bytes(one) / 1e6 for one in (subject.module, module))
    report = Compression(
        recipe=f"sparse{round(method.share * 100)}",
        parameters_before=parameters_of(subject.module),
        parameters_after=parameters_of(module, nonzero=True),
        bytes_before=bytes_of(subject.module),
        bytes_after=bytes_of(module),
        macs_before=macs,
        macs_after=macs,
        mean_abs_diff=mean_abs_diff(subject.answers_of(subject.module), subject.answers_of(module), subject.samples),
        samples=_samples(subject, epochs),
        layers=masked_layers(module, masks),
        epochs=epochs,
        notes=(
            scopes_compared(subject, method),
            f"compressed, the weights take {packed[1]:.3g} MB, before {packed[0]:.3g} MB; engines execute zeros too",
        ),
    )
    return Reshaped(LoadedModel("module", module), report, (*emptied(masks), *untuned))


def _seed(method: Structured) -> int:
    return 0 if method.training is None else method.training.seed


def _samples(subject: Subject, epochs: tuple[Epoch, ...]) -> int | None:
    if not epochs or subject.train is None or isinstance(subject.train, Loader):
        return None
    return len(subject.train)
