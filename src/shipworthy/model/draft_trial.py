"""Runs of a model that may fail: what it takes is found by trying."""

from __future__ import annotations

from typing import cast, get_args

import numpy as np

from ..contract import Array, Signature, TensorSpec
from ..contract.tensors import DType
from ..errors import DataError, ModelError, ShipworthyError
from .draft_sizes import Feeds, with_batch
from .loaded import LoadedModel
from .run import run_eager


class Trial:
    """A model, and the name that errors give it."""

    def __init__(self, model: LoadedModel, culprit: str) -> None:
        self._model = model
        self._culprit = culprit

    def run(self, feeds: Feeds) -> dict[str, Array]:
        specs = {name: TensorSpec(dtype=dtype_of(name, array), shape=()) for name, array in feeds.items()}
        return run_eager(self._model, Signature(inputs=specs), feeds)

    def accepts(self, feeds: Feeds) -> bool:
        """Whether the model runs, with the batch as the first size of an output."""
        return self._failure(feeds) is None

    def _failure(self, feeds: Feeds) -> BaseException | None:
        try:
            outputs = self.run(feeds)
        except ShipworthyError:
            raise
        # A model that does not take a size says so with whatever its layers raise.
        except Exception as error:  # noqa: BLE001
            return error
        batch = len(next(iter(feeds.values())))
        follows = any(array.ndim > 0 and len(array) == batch for array in outputs.values())
        return None if follows else ValueError(f"no output has {batch} rows for {batch} samples")

    def settle(self, feeds: Feeds, notes: list[str]) -> Feeds:
        """The example in the dtype and with the batch axis that the model takes."""
        attempts: list[tuple[Feeds, str]] = [(feeds, "")]
        doubles = [name for name, array in feeds.items() if array.dtype == np.float64]
        if doubles:
            single = {name: array.astype(np.float32) if name in doubles else array for name, array in feeds.items()}
            attempts.insert(0, (single, f"the example's {', '.join(doubles)} is float64; the model takes float32"))
        if all(array.ndim > 0 for array in feeds.values()):
            attempts += [(_batch_of_one(tried), said) for tried, said in attempts]
        else:
            attempts = [(_batch_of_one(tried), said) for tried, said in attempts]
        for tried, said in attempts:
            if len({len(array) for array in tried.values()}) == 1 and all(
                self.accepts(with_batch(tried, batch)) for batch in (2, 3)
            ):
                notes += [said] if said else []
                if next(iter(tried.values())).ndim > next(iter(feeds.values())).ndim:
                    notes.append("the example is one sample; a batch axis was put in front")
                return tried
        raise self._refusal(attempts[0][0])

    def _refusal(self, feeds: Feeds) -> ModelError:
        shown = ", ".join(f"{name} {array.dtype} {list(array.shape)}" for name, array in feeds.items())
        failure = self._failure(feeds)
        if failure is not None:
            reason = f"fails on the example ({shown}): {type(failure).__name__}: {_first_line(failure)}"
            return ModelError(self._culprit, reason, "give an input that it takes, with the batch as the first axis")
        failure = self._failure(with_batch(feeds, 2)) or self._failure(with_batch(feeds, 3))
        reason = f"takes the example ({shown}), and no other batch: {_first_line(failure)}"
        return ModelError(self._culprit, reason, "use x.shape[0] in place of a number, or -1 in view and reshape")


def _first_line(error: BaseException | None) -> str:
    return (str(error).strip().splitlines() or [""])[0]


def _batch_of_one(feeds: Feeds) -> Feeds:
    return {name: array[None] for name, array in feeds.items()}


def dtype_of(name: str, array: Array) -> DType:
    """The array's dtype as a contract names it. Raises DataError where it has none."""
    if array.dtype.name not in get_args(DType):
        raise DataError(name, f"is of dtype {array.dtype}", f"give one of {', '.join(get_args(DType))}")
    return cast(DType, array.dtype.name)
