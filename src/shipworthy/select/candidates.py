"""What a sweep tries, and in which order: recipe × engine × precision, cheap and simple first."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from difflib import get_close_matches

from ..compress import AccuracyAware, Distill, Dynamic, Qat, Static
from ..contract import Contract
from ..contract.crosscheck import CUDA_ENGINES
from ..contract.spec import Precision
from ..errors import ContractError
from ..evidence import Candidate, CandidateResult
from ..runtime import ENGINES, engine_version, this_host
from ..runtime.cuda import cuda_refusal
from .recipes import LEAN, PLAIN, RESTED, Recipe, halves, recipes

ENGINE_ORDER = ("onnxruntime", "openvino", "torchscript", "aoti")
"""The simpler first: graphs without code, then interpreted code, then machine code for one kind of processor.

    onnxruntime  one file in an open format, which most runtimes read
    openvino     two files, no code, best on Intel and Arm processors
    torchscript  brings code, and needs torch where it is served
    aoti         brings machine code for one instruction set, and needs torch
"""

PRECISION_ORDER: tuple[Precision, ...] = ("fp32", "bf16", "fp16", "int8", "fp8")
"""fp32 first: it needs no special instructions and loses nothing."""


@dataclass(frozen=True, slots=True)
class Plan:
    """The candidates, each after those that it is derived from, and those that cannot be, with the reason."""

    recipes: tuple[Recipe, ...]
    candidates: tuple[Candidate, ...]
    skipped: tuple[CandidateResult, ...]

    def recipe(self, name: str) -> Recipe:
        return next(recipe for recipe in self.recipes if recipe.name == name)


@dataclass(frozen=True, slots=True)
class Given:
    """Which data there is beside what the search looks at."""

    train: bool = True
    calibration: bool = True


def plan(contract: Contract, engines: Sequence[str] | None = None, given: Given | None = None) -> Plan:
    """All candidates of a contract. `engines` narrows what the contract asks for.

    What is not installed, a recipe that lacks its data, and what an engine has no way for, is skipped with the reason.
    Raises ContractError for a name that is no engine, and for a target that cannot be measured on this host."""
    _check_target(contract)
    asked = _engines(engines or contract.search.engines, contract.target.device)
    given = given or Given()
    found = _with_fallback(recipes(contract, this_host()), contract, given)
    candidates: list[Candidate] = []
    skipped: dict[str, CandidateResult] = {}
    for recipe in found:
        every = list(_grid(recipe, asked, _needed(contract.search.precisions)))
        if not every:
            none = f"none of the engines asked for has a way to it; it is for {', '.join(sorted(recipe.engines or ()))}"
            first = Candidate(recipe=recipe.name, engine=asked[0], precision=min(recipe.precisions))
            skipped[recipe.name] = skip(first, none, gate="engine")
        for candidate in every:
            why = _lacks(recipe, candidate, given)
            if why is None:
                candidates.append(candidate)
            else:
                # One row for each reason: an engine that is not installed, or a recipe that has no data.
                skipped.setdefault(why[0] if why[1] == "engine" else recipe.name, skip(candidate, *why))
    return Plan(found, tuple(candidates), tuple(skipped.values()))


def _needed(precisions: Sequence[Precision]) -> tuple[Precision, ...]:
    """With fp32 where anything is quantized: it is what a quantization starts from and is compared with."""
    narrow = {"int8", "fp8"}.intersection(precisions)
    return ("fp32", *precisions) if narrow and "fp32" not in precisions else tuple(precisions)


def _with_fallback(found: tuple[Recipe, ...], contract: Contract, given: Given) -> tuple[Recipe, ...]:
    """Where int8 is asked for, no way to it is named, and there is nothing to calibrate with: weights only."""
    search = contract.search
    if "int8" not in search.precisions or search.quantize or given.calibration or contract.target.device != "cpu":
        return found
    calibrated = {recipe.name for recipe in found if calibrates(recipe)}
    dynamic = Recipe("dynamic", frozenset({"int8"}), quantization=Dynamic())
    return (found[0], dynamic, *(recipe for recipe in found[1:] if recipe.name not in calibrated))


def calibrates(recipe: Recipe) -> bool:
    return isinstance(recipe.quantization, Static | AccuracyAware) or isinstance(recipe.shaping, Qat)


def _grid(recipe: Recipe, engines: Sequence[str], precisions: Sequence[Precision]) -> Iterator[Candidate]:
    """A recipe's precisions on its engines. bf16 is bought by fp32, which is cheap to try and what it is judged by."""
    for engine in engines:
        for precision in sorted(recipe.precisions.intersection(precisions), key=PRECISION_ORDER.index):
            if recipe.engines is None or engine in recipe.engines:
                yield Candidate(recipe=recipe.name, engine=engine, precision=precision)


def _lacks(recipe: Recipe, candidate: Candidate, given: Given) -> tuple[str, str] | None:
    """What is missing, and the gate that it is; None where it can be tried."""
    if engine_version(candidate.engine) is None:
        extra = ENGINES[candidate.engine].extra
        return f"{candidate.engine} is not installed; pip install 'shipworthy[{extra}]'", "engine"
    if isinstance(recipe.shaping, Distill | Qat) and not given.train:
        return "needs training data: name it in data.train, or give train=... in Python", "data"
    if calibrates(recipe) and not given.calibration:
        return "needs calibration data: name it in data.calibration or data.validation", "data"
    return None


def _check_target(contract: Contract) -> None:
    """What is measured here must be what it will run on: a figure for another processor would prove nothing."""
    target, here = contract.target, this_host().arch
    if target.device == "cuda" and (lack := cuda_refusal()) is not None:
        raise ContractError("target.device", f'"cuda" cannot be measured here: {lack[0]}', lack[1])
    if target.arch is not None and target.arch != here:
        raise ContractError("target.arch", f"{target.arch!r} is not this host, which is {here}", "build on such a host")


def _engines(asked: Sequence[str] | None, device: str) -> list[str]:
    runs = CUDA_ENGINES if device == "cuda" else tuple(ENGINES)
    packable = [name for name, engine in ENGINES.items() if engine.packable and name in runs]
    for name in asked or ():
        if name not in packable and name not in ENGINES:
            near = get_close_matches(name, packable, n=1)
            hint = f"did you mean {near[0]!r}?" if near else f"take of {', '.join(packable)}"
            raise ContractError("search.engines", f"{name!r} is no engine", hint)
    return sorted((name for name in packable if asked is None or name in asked), key=_engine_rank)


def _engine_rank(engine: str) -> int:
    return ENGINE_ORDER.index(engine) if engine in ENGINE_ORDER else len(ENGINE_ORDER)


def skip(candidate: Candidate, reason: str, gate: str | None = None) -> CandidateResult:
    return CandidateResult(candidate=candidate, verdict="skipped", reason=reason, gate=gate)


def simplicity(candidate: Candidate) -> tuple[int, bool, int, int]:
    """Sorts the simpler before the less simple: the recipe, whether it brings code, the precision, the engine."""
    shaping, quantization = halves(candidate.recipe)
    return (
        len(_QUANTIZATIONS) * _rank(_SHAPINGS, shaping) + _rank(_QUANTIZATIONS, quantization),
        ENGINES[candidate.engine].executes_code,
        PRECISION_ORDER.index(candidate.precision),
        _engine_rank(candidate.engine),
    )


_SHAPINGS = ("plain", "sparse", "prune", "distill")
_QUANTIZATIONS = (
    "plain",
    "dynamic",
    "dynamic-fp8",
    "static",
    "static-bf16",
    "lean",
    "accuracy-aware",
    "accuracy-aware-bf16",
    "qat",
)


def _rank(order: Sequence[str], name: str) -> int:
    word = name.rstrip("0123456789.")
    return order.index(word) if word in order else order.index(name) if name in order else len(order)


def parents(candidate: Candidate) -> tuple[Candidate, ...]:
    """The simpler candidates that it was derived from; none where that is eager itself.

    A lower precision and a quantization come of fp32, a shaping of the unchanged model in its precision, a
    combination of its two parts, and a rest in bf16 of the same graph with its rest in fp32."""
    shaping, quantization = halves(candidate.recipe)
    engine = candidate.engine
    if quantization.endswith(RESTED):
        return (candidate.model_copy(update={"recipe": candidate.recipe.removesuffix(RESTED)}),)
    if shaping != PLAIN and quantization != PLAIN:
        module = Candidate(recipe=shaping, engine=engine, precision="fp32")
        return (module, candidate.model_copy(update={"recipe": quantization}))
    if shaping != PLAIN:
        return (Candidate(engine=engine, precision=candidate.precision),)
    if quantization == LEAN:
        return (Candidate(recipe="static", engine=engine, precision="int8"),)
    return () if candidate.precision == "fp32" else (Candidate(engine=engine, precision="fp32"),)
