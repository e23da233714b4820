"""A quantized graph without the operations that gain nothing from it."""

from __future__ import annotations

from collections.abc import Mapping

from ..compress import Static
from ..compress.quantization.gain import gainless
from ..evidence import Candidate
from ..runtime.protocol import OperatingPoint
from .bench import Bench
from .recipes import Recipe
from .results import Operators
from .trial import Trial
from .tried import Outcome, Tried


def leaner(bench: Bench, candidate: Candidate, recipe: Recipe, done: Mapping[str, Outcome]) -> Recipe | str:
    """The recipe with what stays in float, by the times of single operations in int8 and in fp32, or why there is
    nothing to gain. The race against the fully quantized graph decides whether it is any better."""
    method = recipe.quantization
    assert isinstance(method, Static), "the recipe is made so"
    fp32 = done.get(Candidate(engine=candidate.engine, precision="fp32").id)
    int8 = done.get(Candidate(recipe="static", engine=candidate.engine, precision="int8").id)
    if not isinstance(fp32, Tried) or not isinstance(int8, Tried) or int8.pace.best is None:
        return "the times of single operations need this engine's graphs in fp32 and int8"
    if fp32.exported.reply is None:
        return "the times of single operations need this engine's graph in fp32"
    point = int8.pace.best.model_copy(update={"streams": 1})
    names = tuple(op.name for step in int8.compression for op in step.operations if op.precision == "int8")
    found = [_costs(bench, tried, point, names) for tried in (fp32, int8)]
    if (failed := next((costs.refusal for costs in found if costs.refusal is not None), None)) is not None:
        return f"its operations could not be timed: {failed.reason}"
    before, after = (costs.costs for costs in found)
    kept = gainless(before, after, names)
    timed = sum(name in before and name in after for name in names)
    if not kept:
        return f"each of the {timed} operations in int8 that were timed (of {len(names)}) gains by it"
    if len(kept) == len(names):
        return f"none of the {len(names)} operations gains by int8, so nothing would be left in it"
    return Recipe(
        recipe.name,
        recipe.precisions,
        quantization=method.model_copy(update={"keep_float": tuple(sorted(kept))}),
        engines=recipe.engines,
    )


def _costs(bench: Bench, tried: Tried, point: OperatingPoint, names: tuple[str, ...]) -> Operators:
    with Trial(bench, tried.candidate, tried.way) as trial:
        return trial.operators(tried.exported, point, names)
