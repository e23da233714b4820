"""One call for every recipe that changes the module: the type of the method selects what carries it out."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from ..contract import Contract
from ..data import Dataset
from ..errors import CompressError
from ..evidence import Epoch
from ..model import LoadedModel
from .made import Reshaped
from .methods import Distill, Qat, Reshaping


def reshape(
    model: LoadedModel,
    contract: Contract,
    method: Reshaping,
    *,
    train: Dataset | None,
    calibration: Dataset | None,
    validation: Dataset | None,
    checkpoint: Path,
    told: Callable[[Epoch], None],
) -> Reshaped:
    """The module that `method` makes of `model`. `told` hears of each epoch.

    Raises what the verbs raise: CompressError, ContractError, DataError, ModelError, MissingExtra."""
    if isinstance(method, Qat):
        from .quantization.qat import qat

        return qat(
            model,
            contract,
            method,
            calibration=calibration,
            train=train,
            validation=validation,
            checkpoint=checkpoint,
            progress=told,
        )
    if isinstance(method, Distill):
        from .distillation import distill

        student = contract.search.distill
        if student is None:
            raise CompressError("search.distill", "names no student", 'write distill = "module:callable"')
        return distill(
            model,
            student,
            contract,
            method,
            train=train,
            validation=validation,
            checkpoint=checkpoint,
            progress=told,
        )
    from .pruning import prune

    return prune(model, contract, method, train=train, validation=validation, checkpoint=checkpoint, progress=told)
