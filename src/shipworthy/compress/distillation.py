"""The verb: a smaller model learns the answers of a larger one (Hinton, Vinyals and Dean 2015, "Distilling the
Knowledge in a Neural Network")."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from torch import nn

from ..contract import Arrays, Contract
from ..data import Dataset
from ..errors import CompressError
from ..evidence import Compression, Epoch
from ..model import LoadedModel, from_module, load_model, run_eager
from ..usercode import importing_from, raised_at
from . import training
from .checkpoint import identity
from .lessons import Lesson, lesson_of, teacher_answers
from .made import Reshaped
from .methods import Distill
from .progress import Shown, epochs_shown
from .reports import macs_of, mean_abs_diff, one_feed, output_shapes
from .sizes import bytes_of, parameters_of, size_of
from .steps import outputs_of, validator
from .subject import (
    ModelLike,
    contract_of,
    loaded_of,
    samples_of,
    trainable_module,
    training_data,
    validation_data,
    with_outputs,
)

if TYPE_CHECKING:
    from .methods import TrainStep
    from .training import MakeOptimizer, MakeScheduler


def distill(
    teacher: ModelLike,
    student: nn.Module | str | None,
    contract: Contract | str | Path | None,
    method: Distill | None = None,
    *,
    train: object = None,
    validation: object = None,
    optimizer: MakeOptimizer | None = None,
    scheduler: MakeScheduler | None = None,
    train_step: TrainStep | None = None,
    checkpoint: Path | None = None,
    progress: Shown = True,
) -> Reshaped:
    """Train a copy of `student` on the answers of `teacher` and on the targets; the copy is what is returned.

    `student` is an nn.Module or `module:callable` (default: the contract's `search.distill`); it takes the contract's
    inputs and gives its outputs. The loss is alpha · L(teacher's answers) + (1 - alpha) · the task's own loss; L is

    * for classification T² · KL(softmax(teacher / T) ‖ softmax(student / T))
    * for multilabel T² times the binary cross-entropy with sigmoid(teacher / T), less its least value
    * otherwise the mean squared difference from the teacher's answers

    A mini-batch without targets, and a task without a loss of its own, is taught by the teacher alone. `train_step`
    replaces the task's own loss. The teacher stays in evaluation mode; over a data set it answers each sample once,
    over a DataLoader, which is iterated as it is, in each epoch anew.

    Raises CompressError where the student does not fit or the training fails, ContractError, DataError and ModelError
    for what is wrong with the contract, the data and the models."""
    stated = contract_of(teacher, contract)
    settings = method or Distill()
    data, validating = training_data(train, stated), validation_data(validation, stated)
    if data is None:
        raise CompressError("distillation", "has no training data", "name it in data.train, or give train=...")
    master = loaded_of(teacher, stated)
    stated = with_outputs(master, stated, data, validating)
    pupil = _student(student, stated)
    samples = samples_of(stated, data, validating)
    _refuse_misfit(pupil, master, stated, one_feed(stated, samples))
    lesson = lesson_of(master, stated, settings, data, train_step)
    with importing_from(stated.root), epochs_shown("distilling", settings.training.epochs, progress) as told:
        epochs = training.train(
            pupil,
            lesson.step,
            lesson.data,
            settings.training,
            validate=validator(stated, validating, master.module),
            checkpoint=checkpoint,
            told=told,
            optimizer=optimizer,
            scheduler=scheduler,
            identified_by=f"{settings!r} {'' if master.module is None else identity(master.module, None)}",
        )
    size = len(data) if isinstance(data, Dataset) else None
    report = _report(master, pupil, stated, samples, epochs, lesson, size)
    return Reshaped(LoadedModel("module", pupil), report, lesson.findings)


def _student(student: nn.Module | str | None, contract: Contract) -> nn.Module:
    """A private copy, with the contract's `task.post` behind it as behind the teacher."""
    if isinstance(student, nn.Module):
        return trainable_module(from_module(student, contract), contract).eval()
    reference = student or contract.search.distill
    if reference is None:
        remedy = 'name what builds it in search.distill = "module:callable", or give an nn.Module'
        raise CompressError("distillation", "has no student", remedy)
    named = contract.model_copy(update={"model": reference, "weights": None})
    return trainable_module(load_model(named), named).eval()


def _refuse_misfit(student: nn.Module, teacher: LoadedModel, contract: Contract, feed: Arrays) -> None:
    wanted = {name: value.shape for name, value in run_eager(teacher, contract.signature, feed).items()}
    try:
        found = output_shapes(student, contract, feed)
    except Exception as exc:  # a module of the user's own may raise anything at all
        reason = f"does not take the contract's inputs: raises {raised_at(exc)}"
        raise CompressError("the student", reason, "give it the inputs of the teacher") from exc
    # Outputs meet by name, or by their order where the names are the student's own.
    by_name = found if set(found) == set(wanted) else dict(zip(wanted, found.values(), strict=False))
    if len(found) != len(wanted) or by_name != wanted:
        raise CompressError(
            "the student",
            f"gives {_shown(found)} for a batch of {len(next(iter(feed.values())))}, and the teacher {_shown(wanted)}",
            "give it the outputs of the teacher: as many, of the same shapes",
        )


def _shown(shapes: Mapping[str, tuple[int, ...]]) -> str:
    return ", ".join(f"{name} {list(shape)}" for name, shape in shapes.items())


def _report(
    teacher: LoadedModel,
    student: nn.Module,
    contract: Contract,
    samples: Dataset,
    epochs: tuple[Epoch, ...],
    lesson: Lesson,
    size: int | None,
) -> Compression:
    parameters, held = size_of(teacher)
    feed = one_feed(contract, samples)
    module = teacher.module if teacher.source == "module" else None
    return Compression(
        recipe="distill",
        parameters_before=parameters,
        parameters_after=parameters_of(student),
        bytes_before=held,
        bytes_after=bytes_of(student),
        macs_before=None if module is None else macs_of(module, contract, feed),
        macs_after=macs_of(student, contract, feed),
        mean_abs_diff=mean_abs_diff(
            partial(teacher_answers, teacher, contract), partial(outputs_of, student, contract), samples
        ),
        samples=size,
        epochs=epochs,
        notes=lesson.notes,
    )
