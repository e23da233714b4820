"""What a student is taught: the teacher's answers beside the samples, and the loss between the two."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeAlias

import torch
from torch import Tensor, nn
from torch.nn import functional

from ..contract import Array, Contract
from ..data import Chunk, Dataset
from ..errors import ContractError
from ..evidence import Finding
from ..model import LoadedModel, run_eager
from ..quality import gather
from .methods import Distill
from .steps import checked, gives_probabilities, named, resolve_step, task_loss
from .training import Loader

if TYPE_CHECKING:
    from .methods import TrainStep

_ROWS = 256
"""Samples that the teacher answers at once."""
_CACHE_BYTES = 2**30
"""Of the teacher's answers, at most, that are kept; beyond, it is asked anew in each epoch."""
_PREFIX = "teacher "
"""No input has a space in its name."""
_LEAST = 1e-7
"""Of a probability: its logarithm is finite."""

Soft: TypeAlias = Callable[[dict[str, Tensor], dict[str, Tensor]], Tensor]
"""Of the outputs of the student and of the teacher."""


@dataclass(frozen=True, slots=True)
class Lesson:
    """A training step, its data, and what there is to say of them."""

    step: TrainStep
    data: Dataset | Loader
    notes: tuple[str, ...]
    findings: tuple[Finding, ...]


def lesson_of(
    teacher: LoadedModel, contract: Contract, method: Distill, data: Dataset | Loader, train_step: TrainStep | None
) -> Lesson:
    """The lesson of `method`. Raises what finding a training step raises."""
    findings, said = [], []
    hard = _hard_loss(contract, train_step) if method.alpha < 1 else None
    if method.alpha < 1 and hard is None:
        said.append(f"a task of the kind {contract.task.kind!r} has no loss of its own: the teacher alone teaches")
    if method.alpha < 1 and isinstance(data, Dataset) and not data.labelled:
        unlabelled = sum(len(chunk) for chunk in data.chunks if chunk.targets is None)
        findings.append(_without_targets(unlabelled, len(data)))
    taught = data
    if isinstance(data, Dataset) and _fits(teacher, contract, data):
        taught = Dataset(tuple(_with_answers(teacher, contract, chunk) for chunk in data.chunks))
    else:
        said.append("the teacher answers anew in each epoch")
    weight = 1.0 if hard is None else method.alpha
    shares = f"{weight:g} from the teacher's answers, {1 - weight:g} from the targets"
    said.insert(0, f"loss: {shares}{_words(contract, method)}")
    step = _step(teacher, contract, weight, _soft_loss(contract, method.temperature), hard)
    return Lesson(checked(step, "the distillation step"), taught, tuple(said), tuple(findings))


def teacher_answers(teacher: LoadedModel, contract: Contract, data: Dataset) -> dict[str, Array]:
    """Every output of the teacher for every sample, in inference mode."""
    return gather(run_eager(teacher, contract.signature, chunk.inputs) for chunk in data.batches(_ROWS))


def _step(
    teacher: LoadedModel, contract: Contract, alpha: float, soft: Soft, hard: Callable[..., Tensor] | None
) -> TrainStep:
    def step(model: nn.Module, given: dict[str, Tensor], targets: Tensor) -> Tensor:
        inputs = {name: given[name] for name in contract.inputs}
        outputs = named(contract, model(*inputs.values()))
        device = next(iter(outputs.values())).device
        wanted = {name[len(_PREFIX) :]: value for name, value in given.items() if name.startswith(_PREFIX)}
        if not wanted:
            feeds = {name: value.cpu().numpy() for name, value in inputs.items()}
            answers = run_eager(teacher, contract.signature, feeds)
            wanted = {name: torch.tensor(value, device=device) for name, value in answers.items()}
        loss = soft(outputs, wanted)
        if hard is None or alpha == 1 or not targets.numel():
            return loss
        return alpha * loss + (1 - alpha) * hard(model, inputs, outputs, targets)

    return step


def _hard_loss(contract: Contract, train_step: TrainStep | None) -> Callable[..., Tensor] | None:
    """The task's own loss of (model, inputs, outputs, targets); None for a task that has none."""
    if train_step is not None or contract.search.train_step is not None:
        own = resolve_step(contract, train_step)
        return lambda model, inputs, outputs, targets: own(model, inputs, targets)
    try:
        loss = task_loss(contract)
    except ContractError:
        return None
    return lambda model, inputs, outputs, targets: loss(outputs[_read(contract, outputs)], targets)


def _soft_loss(contract: Contract, temperature: float) -> Soft:
    kind, probabilities = contract.task.kind, gives_probabilities(contract)

    def of_scores(outputs: dict[str, Tensor], wanted: dict[str, Tensor]) -> Tensor:
        name = _read(contract, outputs)
        student, teacher = outputs[name], wanted[name].to(outputs[name].dtype)
        exclusive = kind == "classification" and student.shape[-1] > 1 and student.ndim > 1
        return (_divergence if exclusive else _binary)(student, teacher, temperature, probabilities)

    return of_scores if kind in ("classification", "multilabel") else _squares(contract)


def _divergence(student: Tensor, teacher: Tensor, temperature: float, probabilities: bool) -> Tensor:
    """T² · KL(softmax(teacher / T) ‖ softmax(student / T)) along the last axis, the mean over the rest."""
    if probabilities:
        student, teacher = student.clamp_min(_LEAST).log(), teacher.clamp_min(_LEAST).log()
    found, wanted = (functional.log_softmax(s.flatten(0, -2) / temperature, -1) for s in (student, teacher))
    return temperature**2 * functional.kl_div(found, wanted, reduction="batchmean", log_target=True)


def _binary(student: Tensor, teacher: Tensor, temperature: float, probabilities: bool) -> Tensor:
    """T² · KL between the two Bernoulli distributions of each score, the mean over all."""
    if probabilities:
        student, teacher = (torch.logit(s.clamp(0, 1), eps=_LEAST) for s in (student, teacher))
    wanted, found = torch.sigmoid(teacher / temperature), student / temperature
    loss = functional.binary_cross_entropy_with_logits
    return temperature**2 * (loss(found, wanted) - loss(teacher / temperature, wanted))


def _squares(contract: Contract) -> Soft:
    """The mean over all outputs of floats; for regression of the one that the task reads."""

    def soft(outputs: dict[str, Tensor], wanted: dict[str, Tensor]) -> Tensor:
        names = [name for name, value in outputs.items() if value.is_floating_point()]
        if contract.task.kind == "regression":
            names = [_read(contract, outputs)]
        parts = [functional.mse_loss(outputs[name], wanted[name].to(outputs[name].dtype)) for name in names]
        return torch.stack(parts).mean()

    return soft


def _read(contract: Contract, outputs: dict[str, Tensor]) -> str:
    return contract.scored or next(iter(outputs))


def _words(contract: Contract, method: Distill) -> str:
    scored = contract.task.kind in ("classification", "multilabel")
    return f", at temperature {method.temperature:g}" if scored else ", by squared differences"


def _without_targets(count: int, total: int) -> Finding:
    return Finding(
        rule="distilled-without-targets",
        severity="note",
        where="data.train",
        why=f"{count} of {total} training samples have no targets: there the teacher alone teaches",
        remedy='nothing to do; an array "label" (or "target") would be used',
    )


def _fits(teacher: LoadedModel, contract: Contract, data: Dataset) -> bool:
    """Whether the teacher's answers to all of the data can be kept: in size, and one row of one shape for each."""
    total = 0.0
    for chunk in data.chunks:
        first = chunk.rows(0, 2)
        answers = run_eager(teacher, contract.signature, first.inputs)
        if any(len(value) != len(first) for value in answers.values()):
            return False
        total += sum(value.nbytes for value in answers.values()) / len(first) * len(chunk)
    return total <= _CACHE_BYTES


def _with_answers(teacher: LoadedModel, contract: Contract, chunk: Chunk) -> Chunk:
    answers = teacher_answers(teacher, contract, Dataset((chunk,)))
    return Chunk({**chunk.inputs, **{f"{_PREFIX}{name}": value for name, value in answers.items()}}, chunk.targets)
