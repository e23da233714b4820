"""The training loop: seeded, resumable after each epoch, and without a trace outside of the module.

What a training comes out at depends on the module, the data, the step and the settings alone: an interrupted one that
is resumed ends with the same bits. The caller's random states are as before when it ends."""

from __future__ import annotations

import contextlib
import copy
import math
import random
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias

import numpy as np
import torch
from torch import Tensor, nn

from ..data import Chunk, Dataset
from ..errors import CompressError
from ..evidence import Epoch
from .batches import Loader, generators_of, mini_batches
from .checkpoint import State, identity, load_checkpoint, save_checkpoint
from .methods import Training
from .steps import default_step, device_of, resolve_step, validator

if TYPE_CHECKING:
    from torch.optim import Optimizer
    from torch.optim.lr_scheduler import LRScheduler

    from .methods import TrainStep

    MakeOptimizer: TypeAlias = Callable[[Iterable[nn.Parameter]], Optimizer]
    MakeScheduler: TypeAlias = Callable[[Optimizer], LRScheduler]

__all__ = ["Loader", "default_step", "resolve_step", "train", "validator"]

Validate: TypeAlias = Callable[[nn.Module], float]


def train(
    module: nn.Module,
    step: TrainStep,
    data: Dataset | Loader,
    settings: Training,
    *,
    validate: Validate | None,
    checkpoint: Path | None,
    told: Callable[[Epoch], None],
    optimizer: MakeOptimizer | None = None,
    scheduler: MakeScheduler | None = None,
    identified_by: str = "",
) -> tuple[Epoch, ...]:
    """Train `module` in place, and leave it in evaluation mode with its best weights.

    A data set is shuffled anew in each epoch, by the seed; no mini-batch has samples of two shapes. A `Loader` is
    iterated as it is. `step` gets targets as `data` gives them, floats in the module's own precision; without targets
    an empty tensor [n, 0]. The default optimiser is AdamW, the default schedule a cosine down to 0; a scheduler is
    stepped once after each epoch.

    `validate` is asked before the first epoch and after each: the weights of the best answer are kept (of equals those
    with the least loss; the initial ones where no epoch is as good), and `settings.patience` epochs without a better
    one are the end. Without it the last weights are kept. `told` hears of each epoch after its checkpoint is written;
    a training that finds its own checkpoint goes on from there, and one of another training is refused
    (`identified_by` tells trainings apart that differ in their step alone).

    Returns all epochs, those before a resumption too. Raises CompressError where the loss is not finite, where the
    step fails or gives no loss, where nothing can be trained, and where the checkpoint is not this training's."""
    with own_randomness(), _trainable(module) as parameters:
        seeded_by(settings.seed, 0)
        made = _optimizer(parameters, optimizer, settings)
        run = _Run(module, made, _scheduler(made, scheduler, settings), generators_of(data))
        texts = (settings.model_dump_json(), identified_by, _name(step), repr(made), _name(type(run.scheduler)))
        digest = "" if checkpoint is None else identity(module, data, *texts)
        saved = None if checkpoint is None else load_checkpoint(checkpoint, digest)
        if saved is not None:
            run.restore(saved)
        elif validate is not None:
            run.best = _Best((validate(module), -math.inf), _copied(module))
        while not run.over(settings):
            epoch = _epoch(run, step, data, settings, validate)
            if checkpoint is not None:
                save_checkpoint(checkpoint, run.state(digest))
            told(epoch)
        if run.best is not None:
            module.load_state_dict(run.best.weights)
    module.eval()
    return tuple(run.epochs)


@dataclass(frozen=True, slots=True)
class _Best:
    rank: tuple[float, float]
    """The metric, and the negative loss."""
    weights: State


@dataclass(slots=True)
class _Run:
    """A training under way."""

    module: nn.Module
    optimizer: Optimizer
    scheduler: LRScheduler
    generators: tuple[torch.Generator, ...]
    epochs: list[Epoch] = field(default_factory=list)
    best: _Best | None = None
    stale: int = 0
    """Epochs since the metric was last better."""

    def over(self, settings: Training) -> bool:
        return len(self.epochs) >= settings.epochs or (
            settings.patience is not None and self.best is not None and self.stale >= settings.patience
        )

    def judge(self, epoch: Epoch) -> None:
        if epoch.validation is None or self.best is None:
            return
        rank = (epoch.validation, -epoch.loss)
        self.stale = 0 if rank[0] > self.best.rank[0] else self.stale + 1
        if rank > self.best.rank:
            self.best = _Best(rank, _copied(self.module))

    def state(self, digest: str) -> State:
        best = None if self.best is None else {"rank": list(self.best.rank), "weights": self.best.weights}
        return {
            "digest": digest,
            "epochs": [epoch.model_dump() for epoch in self.epochs],
            "module": self.module.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "scheduler": self.scheduler.state_dict(),
            "best": best,
            "stale": self.stale,
            "generators": [generator.get_state() for generator in self.generators],
        }

    def restore(self, state: State) -> None:
        self.epochs = [Epoch(**epoch) for epoch in state["epochs"]]
        self.module.load_state_dict(state["module"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.scheduler.load_state_dict(state["scheduler"])
        if state["best"] is not None:
            metric, loss = state["best"]["rank"]
            self.best = _Best((metric, loss), state["best"]["weights"])
        self.stale = state["stale"]
        for generator, kept in zip(self.generators, state["generators"], strict=True):
            generator.set_state(kept)


def _copied(module: nn.Module) -> State:
    return copy.deepcopy(module.state_dict())


def _epoch(run: _Run, step: TrainStep, data: Dataset | Loader, settings: Training, validate: Validate | None) -> Epoch:
    number, start = len(run.epochs) + 1, time.perf_counter()
    # Each epoch has a seed of its own, so that what is random in it does not depend on where a training was resumed.
    order = seeded_by(settings.seed, number)
    run.module.train()
    total, seen = 0.0, 0
    for batch in mini_batches(data, settings.batch, order):
        loss = _update(run, step, batch)
        if not math.isfinite(loss):
            lower = min(group["lr"] for group in run.optimizer.param_groups) / 10
            raise CompressError(
                "the training",
                f"the loss is {loss} in epoch {number}, after {seen} samples of it",
                f"lower the learning rate, to {lower:g} for example, or look for values out of range in the data",
            )
        total, seen = total + loss * len(batch), seen + len(batch)
    if not seen:
        raise CompressError("the training data", "has no samples", "give at least one; a generator serves one epoch")
    run.module.eval()
    value = None if validate is None else validate(run.module)
    epoch = Epoch(number=number, loss=total / seen, validation=value, seconds=time.perf_counter() - start)
    _advance(run.scheduler, epoch)
    run.epochs.append(epoch)
    run.judge(epoch)
    return epoch


def _update(run: _Run, step: TrainStep, batch: Chunk) -> float:
    module = run.module
    device, floats = device_of(module), next((p.dtype for p in module.parameters() if p.is_floating_point()), None)
    inputs = {name: torch.tensor(array, device=device) for name, array in batch.inputs.items()}
    targets = torch.empty(len(batch), 0) if batch.targets is None else torch.tensor(batch.targets)
    # Targets of regression are float64, and torch does not go back from a float64 loss to float32 weights.
    targets = targets.to(device, floats if targets.is_floating_point() else targets.dtype)
    run.optimizer.zero_grad(set_to_none=True)
    loss: Tensor = step(module, inputs, targets)
    value = float(loss.detach())
    if math.isfinite(value):
        _backward(loss)
        run.optimizer.step()
    return value


def _backward(loss: Tensor) -> None:
    try:
        loss.backward()  # type: ignore[no-untyped-call]
    except RuntimeError as exc:
        first = str(exc).strip().split("\n")[0]
        remedy = "return a loss that was not differentiated yet: the training itself calls backward()"
        raise CompressError("the loss of the training step", f"cannot be differentiated ({first})", remedy) from exc


@contextlib.contextmanager
def _trainable(module: nn.Module) -> Iterator[list[nn.Parameter]]:
    """The parameters that require a gradient; all where none does: such a model was only made ready to run."""
    floats = [p for p in module.parameters() if p.is_floating_point()]
    if not floats:
        raise CompressError("the model", "has no parameters that can be trained", "leave the training out")
    frozen = not any(p.requires_grad for p in floats)
    try:
        for parameter in floats if frozen else ():
            parameter.requires_grad_(True)
        yield [p for p in floats if p.requires_grad]
    finally:
        for parameter in floats:
            parameter.grad = None
            if frozen:
                parameter.requires_grad_(False)


def _optimizer(parameters: list[nn.Parameter], make: MakeOptimizer | None, settings: Training) -> Optimizer:
    if make is None:
        return torch.optim.AdamW(parameters, lr=settings.lr)
    found = make(parameters)
    if not isinstance(found, torch.optim.Optimizer):
        remedy = "give a function such as lambda parameters: torch.optim.SGD(parameters, lr=0.01)"
        raise CompressError("optimizer", f"gives a {type(found).__name__}, not a torch Optimizer", remedy)
    return found


def _scheduler(optimizer: Optimizer, make: MakeScheduler | None, settings: Training) -> LRScheduler:
    if make is None:
        return torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, T_max=max(1, settings.epochs))
    found = make(optimizer)
    if not isinstance(found, torch.optim.lr_scheduler.LRScheduler):
        remedy = "give a function such as lambda optimizer: torch.optim.lr_scheduler.StepLR(optimizer, 5)"
        raise CompressError("scheduler", f"gives a {type(found).__name__}, not a torch LRScheduler", remedy)
    return found


def _advance(scheduler: LRScheduler, epoch: Epoch) -> None:
    if isinstance(scheduler, torch.optim.lr_scheduler.ReduceLROnPlateau):
        higher = scheduler.mode == "max" and epoch.validation is not None
        scheduler.step(epoch.validation if higher and epoch.validation is not None else epoch.loss)
    else:
        scheduler.step()


def _name(value: object) -> str:
    named = value if hasattr(value, "__qualname__") else type(value)
    return f"{named.__module__}.{named.__qualname__}"


@contextlib.contextmanager
def own_randomness() -> Iterator[None]:
    """The caller's random states are as before when it ends; gradients are on."""
    python, numbers = random.getstate(), np.random.get_state()
    with torch.random.fork_rng(devices=range(torch.cuda.device_count()), enabled=True), torch.enable_grad():
        try:
            yield
        finally:
            random.setstate(python)
            np.random.set_state(numbers)


def seeded_by(seed: int, epoch: int) -> np.random.Generator:
    """Seed all that a step, a layer or a loader may draw from, and give what orders the samples."""
    mixed = np.random.SeedSequence([seed, epoch])
    small = int(mixed.generate_state(1)[0])
    random.seed(small)
    np.random.seed(small)
    torch.manual_seed(small)
    return np.random.default_rng(mixed)
