"""What a sweep tries, and in which order: recipe × engine × precision, cheap and simple first."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from difflib import get_close_matches

from ..contract import Contract
from ..contract.spec import Precision
from ..errors import ContractError
from ..evidence import Candidate, CandidateResult
from ..runtime import ENGINES, engine_version, this_host


@dataclass(frozen=True, slots=True)
class Recipe:
    """How a model is changed before its export, and the precisions that come of it."""

    name: str
    precisions: frozenset[Precision]


RECIPES: tuple[Recipe, ...] = (Recipe("plain", frozenset({"fp32", "bf16"})),)
"""A way to compress is one more row."""

ENGINE_ORDER = ("onnxruntime", "openvino", "torchscript", "aoti")
"""The simpler first: graphs without code, then interpreted code, then machine code for one kind of processor.

    onnxruntime  one file in an open format, which most runtimes read
    openvino     two files, no code, best on Intel and Arm processors
    torchscript  brings code, and needs torch where it is served
    aoti         brings machine code for one instruction set, and needs torch
"""

PRECISION_ORDER: tuple[Precision, ...] = ("fp32", "bf16", "int8")
"""fp32 first: it needs no special instructions and loses nothing."""


@dataclass(frozen=True, slots=True)
class Plan:
    """The candidates in the order in which they are tried, and those that cannot be, with the reason."""

    candidates: tuple[Candidate, ...]
    skipped: tuple[CandidateResult, ...]


def plan(contract: Contract, engines: Sequence[str] | None = None) -> Plan:
    """All candidates of a contract. `engines` narrows what the contract asks for.

    An engine that is not installed is skipped, and so are a precision that no recipe gives and a recipe that there is
    not. Raises ContractError for a name that is no engine, and for a target that cannot be measured on this host."""
    _check_target(contract)
    asked = _engines(engines or contract.search.engines)
    candidates: list[Candidate] = []
    skipped: list[CandidateResult] = [
        skip(Candidate(recipe=name, engine=engine, precision="fp32"), f"no recipe of this build gives {name}")
        for name in _asked_recipes(contract)
        for engine in asked[:1]
    ]
    for candidate, possible in _grid(asked, contract.search.precisions):
        if not possible:
            skipped.append(skip(candidate, f"no recipe of this build gives {candidate.precision}"))
        elif engine_version(candidate.engine) is None:
            extra = ENGINES[candidate.engine].extra
            skipped.append(
                skip(
                    candidate, f"{candidate.engine} is not installed; pip install 'shipworthy[{extra}]'", gate="engine"
                )
            )
        else:
            candidates.append(candidate)
    return Plan(tuple(candidates), tuple(skipped))


def _check_target(contract: Contract) -> None:
    """What is measured here must be what it will run on: a figure for another processor would prove nothing."""
    target, here = contract.target, this_host().arch
    if target.device != "cpu":
        raise ContractError("target.device", f"{target.device!r} cannot be measured yet", 'write "cpu"')
    if target.arch is not None and target.arch != here:
        raise ContractError("target.arch", f"{target.arch!r} is not this host, which is {here}", "build on such a host")


def _asked_recipes(contract: Contract) -> list[str]:
    """Ways to compress that the contract names and that have no row in RECIPES."""
    search, known = contract.search, {recipe.name for recipe in RECIPES}
    names = [f"prune{round(100 * share)}" for share in search.prune if share > 0]
    names += ["distill"] if search.distill is not None else []
    return [name for name in names if name not in known]


def _grid(engines: Iterable[str], precisions: Sequence[Precision]) -> Iterator[tuple[Candidate, bool]]:
    """Engine by engine, so that a candidate comes right after the one that it is compared with."""
    wanted = sorted(set(precisions), key=PRECISION_ORDER.index)
    for engine in engines:
        for precision in wanted:
            recipes = [recipe for recipe in RECIPES if precision in recipe.precisions]
            for recipe in recipes or RECIPES[:1]:
                yield Candidate(recipe=recipe.name, engine=engine, precision=precision), bool(recipes)


def _engines(asked: Sequence[str] | None) -> list[str]:
    packable = [name for name, engine in ENGINES.items() if engine.packable]
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
    recipes = [recipe.name for recipe in RECIPES]
    return (
        recipes.index(candidate.recipe) if candidate.recipe in recipes else len(recipes),
        ENGINES[candidate.engine].executes_code,
        PRECISION_ORDER.index(candidate.precision),
        _engine_rank(candidate.engine),
    )


def parent(candidate: Candidate) -> Candidate | None:
    """The simpler candidate that it was derived from; None where that is eager itself.

    A recipe is derived from none in the same precision, a lower precision from fp32."""
    if candidate.recipe != "plain":
        plain = next(recipe for recipe in RECIPES if recipe.name == "plain")
        precision = candidate.precision if candidate.precision in plain.precisions else "fp32"
        return Candidate(engine=candidate.engine, precision=precision)
    if candidate.precision != "fp32":
        return Candidate(engine=candidate.engine, precision="fp32")
    return None
