"""Training steps and validation: what one mini-batch costs, and how good a module is by the contract's metric."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from ..contract import Array, Arrays, Contract
from ..data import Dataset
from ..errors import CompressError, ContractError, DataError
from ..model.run import named_outputs, to_numpy
from ..quality import gather, join, metric_for
from ..usercode import raised_at, resolve

if TYPE_CHECKING:
    from .methods import TrainStep

_ROWS = 256
"""Samples that run at once where nothing is recorded."""


def task_loss(contract: Contract) -> Callable[[Tensor, Tensor], Tensor]:
    """The loss of (output that the task reads, targets): cross-entropy for classification, binary cross-entropy for
    multilabel, mean squared error for regression; the mean over the samples.

    Probabilities have their logarithm taken. Raises ContractError for another task, which has no loss of its own."""
    losses: dict[str, Callable[[Tensor, Tensor, bool], Tensor]] = {
        "classification": _classification,
        "multilabel": _multilabel,
        "regression": _regression,
    }
    kind = contract.task.kind
    if kind not in losses:
        raise ContractError(
            "search.train_step",
            f"is needed: a task of the kind {kind!r} has no loss of its own",
            'write train_step = "module:callable", a function (model, inputs, targets) -> loss',
        )
    loss, probabilities = losses[kind], gives_probabilities(contract)
    return lambda output, targets: loss(output, targets, probabilities)


def gives_probabilities(contract: Contract) -> bool:
    """Whether the output that the task reads is behind a softmax or sigmoid already."""
    return contract.scored is not None and contract.outputs[contract.scored].kind == "probabilities"


def default_step(contract: Contract) -> TrainStep:
    """The step with the loss of the contract's task. Targets are as `data` gives them.

    Raises ContractError for a task that has no loss of its own."""
    loss = task_loss(contract)

    def step(model: nn.Module, inputs: dict[str, Tensor], targets: Tensor) -> Tensor:
        return loss(scores(contract, model(*inputs.values())), targets)

    return checked(step, "the training step")


def resolve_step(contract: Contract, given: TrainStep | None = None) -> TrainStep:
    """The step that is given, else the contract's `search.train_step`, else the task's.

    What it raises, and a result that is no loss, becomes a CompressError that names its own line. Raises ContractError
    where there is no step, ModelError where the named one cannot be imported."""
    if given is not None:
        if not callable(given):
            raise CompressError(
                "train_step", f"is a {type(given).__name__}", "give a function (model, inputs, targets) -> loss"
            )
        return checked(given, f"train_step ({getattr(given, '__name__', type(given).__name__)})")
    reference = contract.search.train_step
    if reference is None:
        return default_step(contract)
    found = resolve(reference, contract.root)
    if not callable(found):
        reason = f"{reference!r} is a {type(found).__name__}"
        raise ContractError("search.train_step", reason, "name a function (model, inputs, targets) -> loss")
    return checked(found, f"search.train_step = {reference!r}")


def checked(step: Callable[..., Any], culprit: str) -> TrainStep:
    """The step with its faults named: what it raises, and what it gives instead of a loss."""

    def run(model: nn.Module, inputs: dict[str, Tensor], targets: Tensor) -> Tensor:
        try:
            loss = step(model, inputs, targets)
        except (CompressError, ContractError, DataError):
            raise
        except Exception as exc:  # a step and a module of the user's own may raise anything at all
            raise CompressError(culprit, f"raises {raised_at(exc)}", "correct it, or call it in Python to see") from exc
        if fault := _loss_fault(loss):
            remedy = "return the loss of the mini-batch as one tensor, not loss.item(), and leave backward() out"
            raise CompressError(culprit, f"expected a scalar loss that can be differentiated, got {fault}", remedy)
        return loss  # type: ignore[no-any-return]

    run.__qualname__ = getattr(step, "__qualname__", type(step).__qualname__)
    return run


def _loss_fault(loss: object) -> str | None:
    if not isinstance(loss, Tensor):
        return f"a {type(loss).__name__}"
    if loss.numel() != 1:
        return f"a tensor of shape {list(loss.shape)}"
    return None if loss.requires_grad else "a tensor without a gradient"


def named(contract: Contract, result: object) -> dict[str, Tensor]:
    """A module's result by the names of the contract's outputs, or by its own where the contract has none."""
    found = named_outputs(result)
    if not contract.outputs or set(found) == set(contract.outputs):
        return found
    if len(found) != len(contract.outputs):
        raise CompressError(
            "the model's result",
            f"has {len(found)} outputs ({', '.join(found)}); the contract has {', '.join(contract.outputs)}",
            "return the contract's outputs in training as well",
        )
    return dict(zip(contract.outputs, found.values(), strict=True))


def scores(contract: Contract, result: object) -> Tensor:
    """The output that the task reads. Raises CompressError where it has no gradient to give."""
    outputs = named(contract, result)
    name = contract.scored or next(iter(outputs))
    if not outputs[name].is_floating_point():
        reason = f"is {str(outputs[name].dtype).removeprefix('torch.')}, which cannot be trained on"
        raise CompressError(f"output {name!r}", reason, "give a train_step that reads the scores before it")
    return outputs[name]


def _classification(output: Tensor, targets: Tensor, probabilities: bool) -> Tensor:
    """Classes along the last axis; a single score is the logit of class 1."""
    if output.shape[-1] == 1 or output.numel() == targets.numel():
        return _multilabel(output, targets, probabilities)
    flat, wanted = output.reshape(-1, output.shape[-1]), targets.reshape(-1)
    if len(flat) != len(wanted) or wanted.is_floating_point():
        raise _target_error(output, targets, "class numbers")
    wanted = wanted.long()
    if not probabilities:
        return functional.cross_entropy(flat, wanted)
    return functional.nll_loss(flat.clamp_min(torch.finfo(flat.dtype).tiny).log(), wanted)


def _multilabel(output: Tensor, targets: Tensor, probabilities: bool) -> Tensor:
    if output.numel() != targets.numel():
        raise _target_error(output, targets, "0 and 1, one for each score,")
    wanted = targets.reshape(output.shape).to(output.dtype)
    if probabilities:
        return functional.binary_cross_entropy(output.clamp(0, 1), wanted)
    return functional.binary_cross_entropy_with_logits(output, wanted)


def _regression(output: Tensor, targets: Tensor, _: bool) -> Tensor:
    if output.numel() != targets.numel():
        raise _target_error(output, targets, "one number for each value")
    return functional.mse_loss(output, targets.reshape(output.shape).to(output.dtype))


def _target_error(output: Tensor, targets: Tensor, wanted: str) -> DataError:
    kind = str(targets.dtype).removeprefix("torch.")
    reason = f"expected {wanted} for an output of shape {list(output.shape)}, got {kind} {list(targets.shape)}"
    return DataError("the training targets", reason, "correct the targets, or give a train_step that reads them")


def device_of(module: nn.Module) -> torch.device:
    """Where its weights are; the CPU where it has none."""
    first = next(module.parameters(), None)
    return torch.device("cpu") if first is None else first.device


def outputs_of(module: nn.Module, contract: Contract, data: Dataset) -> dict[str, Array]:
    """Every output for every sample, rows in the data's order, in the mode that the module is in and without gradients.

    Not in inference mode: what a module caches in its forward must still serve in training."""
    return gather(_answers(module, contract, chunk.inputs) for chunk in data.batches(_ROWS))


def _answers(module: nn.Module, contract: Contract, feeds: Arrays) -> Arrays:
    with torch.no_grad():
        tensors = (torch.tensor(feeds[name], device=device_of(module)) for name in contract.inputs)
        return {name: to_numpy(tensor) for name, tensor in named(contract, module(*tensors)).items()}


def scorer(
    contract: Contract, data: Dataset | None, reference: nn.Module | None = None
) -> Callable[[Arrays], float] | None:
    """A function that gives the metric of outputs for all of `data`, higher is better; None where there is nothing to
    measure by.

    A metric without targets (the cosine of embeddings) compares with the answers of `reference`, in evaluation mode.
    The function raises DataError where the metric is not finite."""
    metric = None if data is None else metric_for(contract)
    if metric is None or data is None or not len(data):
        return None
    if metric.against_eager:
        if reference is None:
            return None
        wanted = next(iter(metric.answers(outputs_of(reference.eval(), contract, data)).values()))
    elif data.labelled:
        wanted = join([chunk.targets for chunk in data.chunks if chunk.targets is not None])
    else:
        return None

    def score(outputs: Arrays) -> float:
        value = metric.score(metric.answers(outputs), wanted)
        if value != value:
            remedy = "give more of them, or another metric"
            raise DataError("the validation data", f"{metric.name} is not defined on them", remedy)
        return value

    return score


def validator(
    contract: Contract, data: Dataset | None, reference: nn.Module | None = None
) -> Callable[[nn.Module], float] | None:
    """A function that gives a module's metric on `data`, as `scorer` does, and leaves it in evaluation mode."""
    score = scorer(contract, data, reference)
    if score is None or data is None:
        return None
    return lambda module: score(outputs_of(module.eval(), contract, data))
