"""The module itself, for the oracle. It stays in the build's own work folder and is never packed."""

from __future__ import annotations

import pickle
import sys
from pathlib import Path

import torch

from ..errors import ExportError
from ..runtime.guarded import first_line
from .job import Done, Job
from .positional import positional
from .program import to_program
from .script import scripted


def export_eager(job: Job) -> Done:
    """module.pkl of a live module, module.pt of TorchScript, module.pt2 of an ExportedProgram."""
    for name in ("module.pkl", "module.pt", "module.pt2"):
        (job.directory / name).unlink(missing_ok=True)
    if job.model.source == "torchscript":
        torch.jit.save(scripted(job), str(job.directory / "module.pt"))
        return Done("TorchScript as it is")
    if job.model.source == "exported":
        torch.export.save(to_program(job), job.directory / "module.pt2")
        return Done("torch.export")
    _pickle(job, job.directory / "module.pkl")
    return Done("pickle")


def _pickle(job: Job, path: Path) -> None:
    """Classes of importable modules are pickled by name: sys.path goes first, so that a fresh process finds them."""
    import cloudpickle  # type: ignore[import-untyped]

    try:
        with path.open("wb") as file:
            pickle.dump([str(Path(entry).resolve()) for entry in sys.path], file)
            cloudpickle.dump(positional(job), file)
    except Exception as error:  # what a module holds decides what pickling it raises
        path.unlink(missing_ok=True)
        raise ExportError(
            "torch",
            f"the module cannot be pickled for a process of its own: {first_line(error)}",
            "take open files, locks and generators out of the module's attributes",
        ) from error
