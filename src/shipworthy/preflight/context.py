"""What a rule sees: the model, its contract, feeds to try it with, and what several rules need to know."""

from __future__ import annotations

import contextlib
import io
import logging
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np

from ..contract import BATCH, Array, Arrays, Contract, Dim, Signature
from ..model import LoadedModel, run_eager
from ..model.dynamic import dynamic_shapes
from ..model.run import to_tensors
from .compare import differing

if TYPE_CHECKING:
    from torch import Tensor, nn
    from torch.export import ExportedProgram


@dataclass(frozen=True)
class ExportAttempt:
    """The program that torch.export made of the model, or why it could not."""

    program: ExportedProgram | None
    error: Exception | None


@dataclass(frozen=True)
class Context:
    """Rules may run the model, which is a copy of the check's own."""

    model: LoadedModel
    contract: Contract
    probes: tuple[Arrays, ...]
    """Feeds of several sizes; the first has batch 2."""

    @property
    def module(self) -> nn.Module:
        assert self.model.module is not None, "rules for modules are not asked of an .onnx file"
        return self.model.module

    @cached_property
    def signature(self) -> Signature:
        """Of the inputs alone, so that outputs keep the names that the model gives them."""
        return Signature(inputs=self.contract.signature.inputs)

    def run(self, feeds: Arrays) -> dict[str, Array]:
        return run_eager(self.model, self.signature, feeds)

    @cached_property
    def unrest(self) -> dict[str, float]:
        """By how much two runs of the first probe differ, for each output that does. Comparisons need it empty."""
        return differing(self.run(self.probes[0]), self.run(self.probes[0]))

    def tensors(self, feeds: Arrays) -> tuple[Tensor, ...]:
        return to_tensors(self.signature, feeds)

    def sizes(self, feeds: Arrays) -> dict[str, int]:
        """The sizes of the dynamic dimensions in these feeds."""
        return {
            size.name: int(feeds[name].shape[axis])
            for name, spec in self.signature.inputs.items()
            for axis, size in enumerate(spec.shape)
            if isinstance(size, Dim)
        }

    @cached_property
    def takes_batches(self) -> bool:
        batch = next(dim for dim in self.signature.dynamic() if dim.name == BATCH)
        return batch.max is None or batch.max > 1

    @cached_property
    def variants(self) -> tuple[Arrays, ...]:
        """Feeds of the first probe's shapes with other values, so that a branch is taken both ways.

        Whole numbers stay those of the probe, in another order. Values that the model refuses are left out."""
        first = self.probes[0]
        changes = (lambda x: -x, lambda x: x * 0, lambda x: x * 10, lambda x: x + 1, lambda x: x - 1)
        changed = [{name: _changed(array, change) for name, array in first.items()} for change in changes]
        same = [p for p in self.probes[1:] if all(p[name].shape == first[name].shape for name in first)]
        return tuple(feeds for feeds in (*same, *changed) if self._accepts(feeds))

    def _accepts(self, feeds: Arrays) -> bool:
        try:
            self.run(feeds)
        except Exception:  # noqa: BLE001 - the values are made up; a model may refuse them as it likes
            return False
        return True

    @cached_property
    def export(self) -> ExportAttempt:
        """torch.export with the contract's dynamic dimensions, tried once for all rules. An exported program stays."""
        import torch

        if self.model.source == "exported":
            return ExportAttempt(self.module.program, None)  # type: ignore[arg-type]

        with _quiet(), torch.no_grad():
            try:
                shapes = dynamic_shapes(self.module, self.signature)
                inputs = self.tensors(self.probes[0])
                return ExportAttempt(torch.export.export(self.module, inputs, dynamic_shapes=shapes), None)
            except Exception as exc:  # noqa: BLE001 - tracing runs the user's code, and the failure is what is looked for
                return ExportAttempt(None, exc)


def _changed(array: Array, change: object) -> Array:
    assert callable(change)
    if array.dtype.kind == "f":
        return np.asarray(change(array), dtype=array.dtype)
    return np.ascontiguousarray(np.roll(array, 1, axis=-1))


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """torch.export prints the graph it stumbled over, and logs it; what matters of it is in the exception."""
    before = logging.root.manager.disable
    logging.disable(logging.CRITICAL)
    try:
        with (
            contextlib.redirect_stdout(io.StringIO()),
            contextlib.redirect_stderr(io.StringIO()),
            warnings.catch_warnings(),
        ):
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(before)
