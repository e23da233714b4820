"""Recipes: how a model is changed before and after its export, and the precisions that come of it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from ..compress import AccuracyAware, Distill, Dynamic, Qat, Rest, Static, Structured, Training, Unstructured
from ..compress.methods import GraphQuantization, Reshaping
from ..contract import Contract
from ..contract.spec import Precision, TrainingSpec
from ..runtime import Host

PLAIN = "plain"
LEAN = "lean"
"""Static, with the operations that gain nothing from int8 back in float; which ones, is measured."""
RESTED = "-bf16"
"""Ends the name of a recipe that is another one with its rest in bf16."""
FLOATS: frozenset[Precision] = frozenset({"fp32", "bf16", "fp16"})
_INT8: frozenset[Precision] = frozenset({"int8"})
_GRAPHS = frozenset({"onnxruntime", "openvino"})
"""Engines whose graph can be changed after its export, operation by operation."""
_MIXED = frozenset({"openvino"})
_BF16_PRODUCTS = frozenset({"avx512_bf16", "amx_bf16", "bf16", "svebf16"})


@dataclass(frozen=True, slots=True)
class Recipe:
    """One way, or two after each other: first a change of the module, then one of the engine's graph."""

    name: str
    """Both names joined by `+`."""
    precisions: frozenset[Precision]
    shaping: Reshaping | None = None
    """Done once, for all engines."""
    quantization: GraphQuantization | None = None
    engines: frozenset[str] | None = None
    """The engines that it is for; None: all."""

    def after(self, shaping: Recipe) -> Recipe:
        """This quantization of what `shaping` gives."""
        name = f"{shaping.name}+{self.name}"
        return Recipe(name, self.precisions, shaping.shaping, self.quantization, self.engines)


def halves(name: str) -> tuple[str, str]:
    """The shaping and the quantization of a recipe's name, each `plain` where there is none."""
    first, joined, second = name.partition("+")
    if joined:
        return first, second
    return (name, PLAIN) if name.startswith(("prune", "sparse", "distill")) else (PLAIN, name)


def recipes(contract: Contract, host: Host) -> tuple[Recipe, ...]:
    """Every recipe that the contract asks for, the simpler first."""
    if contract.target.device == "cuda":
        quantizations = tuple(_on_cuda(contract))
    else:
        quantizations = tuple(_quantizations(contract, host)) if "int8" in contract.search.precisions else ()
    shapings = tuple(_shapings(contract))
    # What is lean was measured on the operations of the unchanged model.
    mixable = [recipe for recipe in quantizations if recipe.shaping is None and recipe.name != LEAN]
    return (
        Recipe(PLAIN, FLOATS),
        *quantizations,
        *shapings,
        *(quantization.after(shaping) for shaping in shapings for quantization in mixable),
    )


def _quantizations(contract: Contract, host: Host) -> Iterator[Recipe]:
    search, limit = contract.search, contract.limits.max_metric_drop
    if limit is not None and contract.limits.confidence is not None:
        # What is only just within the limit on the validation data is never proven to be within it on other data.
        limit /= 2
    ways = search.quantize or ("static", "accuracy-aware")
    mixed = "bf16" in search.precisions and bool(host.isa & _BF16_PRODUCTS)
    if "dynamic" in ways:
        yield Recipe("dynamic", _INT8, quantization=Dynamic())
    if "static" in ways or "accuracy-aware" in ways:
        yield Recipe("static", _INT8, quantization=Static())
        if mixed:
            yield Recipe("static-bf16", _INT8, quantization=Rest(), engines=_MIXED)
        yield Recipe(LEAN, _INT8, quantization=Static(), engines=_GRAPHS)
    if "accuracy-aware" in ways and limit is not None:
        yield Recipe("accuracy-aware", _INT8, quantization=AccuracyAware(max_drop=limit), engines=_GRAPHS)
        if mixed:
            yield Recipe("accuracy-aware-bf16", _INT8, quantization=Rest(), engines=_MIXED)
    if "qat" in ways:
        training = _training(contract, Qat().training)
        yield Recipe("qat", _INT8, shaping=Qat(training=training), engines=_GRAPHS)


def _on_cuda(contract: Contract) -> Iterator[Recipe]:
    """A GPU finds the ranges of activations in each run."""
    for precision in ("int8", "fp8"):
        if precision in contract.search.precisions:
            name = "dynamic" if precision == "int8" else "dynamic-fp8"
            yield Recipe(name, frozenset({precision}), quantization=Dynamic(to=precision), engines=frozenset({"aoti"}))


def _shapings(contract: Contract) -> Iterator[Recipe]:
    search = contract.search
    for share in filter(None, search.sparsify):
        way = Unstructured(share=share, training=_training(contract, Training()))
        yield Recipe(f"sparse{_percent(share)}", FLOATS, shaping=way)
    for share in filter(None, search.prune):
        cut = Structured(share=share, training=_training(contract, Training()))
        yield Recipe(f"prune{_percent(share)}", FLOATS, shaping=cut)
    if search.distill is not None:
        yield Recipe("distill", FLOATS, shaping=Distill(training=_training(contract, Distill().training)))


def _percent(share: float) -> str:
    """30 of 0.3, 12.5 of 0.125."""
    return f"{100 * share:.6g}"


def _training(contract: Contract, own: Training) -> Training:
    spec: TrainingSpec = contract.search.training
    given = {**spec.model_dump(exclude_none=True), "seed": contract.search.seed}
    return own.model_copy(update=given)
