"""The recipes that change the module itself: done once, for all engines that then export it."""

from __future__ import annotations

import time
from pathlib import Path

from ..compress import Distill
from ..errors import CompressError, MeasureError, MissingExtra, ShipworthyError
from ..measure import ShapeModel, ShapeReply
from ..usercode import resolve
from .bench import Bench
from .fingerprint import imported_digest
from .identity import data_digest
from .recipes import Recipe
from .results import Refusal, Shaped


def shaped(bench: Bench, recipe: Recipe) -> Shaped | None:
    """What the recipe's shaping makes of the model, or why it could not be made; None where it has none."""
    if recipe.shaping is None:
        return None
    name, _, _ = recipe.name.partition("+")
    depends = [recipe.shaping.model_dump(mode="json"), data_digest(bench.job.splits.train), _code(bench, recipe)]

    def measure(key: str) -> Shaped:
        start = time.perf_counter()
        try:
            made = _made(bench, recipe, name, key)
        except MissingExtra:
            raise
        except ShipworthyError as error:
            if isinstance(error, MeasureError) and error.gate == "budget":
                raise
            gate = error.gate if isinstance(error, MeasureError) else "compress"
            made = Shaped(key=key, refusal=Refusal(gate=gate, reason=_words(error)))
        return made.model_copy(update={"seconds": time.perf_counter() - start})

    bench.progress.doing(f"{name}: shaping the model")
    # What the host ended is not stored, and not tried again by every engine of this build either.
    if name not in bench.shaped:
        bench.shaped[name] = bench.store.once("shape", name, Shaped, measure, depends=depends, intact=_is_there)
    return bench.shaped[name]


def _made(bench: Bench, recipe: Recipe, name: str, key: str) -> Shaped:
    assert recipe.shaping is not None, "only a recipe with a shaping comes here"
    command = ShapeModel(
        source=bench.job.source,
        method=recipe.shaping,
        train=bench.dataset("train"),
        calibration=bench.dataset("calibration"),
        validation=bench.dataset("validation"),
        directory=bench.store.artifact(key),
    )
    told = bench.progress.doing
    with bench.worker(name, "shape", pinned=False, told=lambda words: told(f"{name}: {words}")) as worker:
        reply = worker.ask(command, ShapeReply)
    return Shaped(key=key, source=reply.source, compression=reply.compression, findings=reply.findings)


def _is_there(result: Shaped) -> bool:
    return result.source is None or (result.source.pickle is not None and result.source.pickle.is_file())


def _code(bench: Bench, recipe: Recipe) -> list[str | None]:
    """Of the user's own step and student, which decide what comes out."""
    search = bench.contract.search
    names = (search.train_step, search.distill if isinstance(recipe.shaping, Distill) else None)
    return [None if name is None else _digest(name, bench.contract.root) for name in names]


def _digest(reference: str, root: Path) -> str:
    resolve(reference, root, CompressError)
    return imported_digest(reference, root).digest


def _words(error: ShipworthyError) -> str:
    return f"{error.culprit}: {error.reason}" + (f"; {error.remedy}" if error.remedy else "")
