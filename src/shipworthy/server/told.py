"""Bodies with labels: what they say of predictions, refused where they fit no label at all."""

from __future__ import annotations

from typing import Annotated, TypeAlias

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from ..errors import InputError, Problem
from .bodies import read_json
from .problems import INVALID_INPUT, MALFORMED, TOO_LARGE, ProblemError
from .routing import Told

MANY = "feedback"
QUICK = 16 * 2**10
"""A longer body is read beside the event loop."""
OPENED = 4
"""For each label that a request may have, so many brackets that open a list or an object; a text may have some too."""
FAULTS = 100
"""So many faults of a request are named."""
_Whole: TypeAlias = Annotated[int, Field(ge=-(2**63), lt=2**63)]
_Finite: TypeAlias = Annotated[float, Field(allow_inf_nan=False)]


class Item(BaseModel):
    """The truth of one prediction: a label, or how wrong it was."""

    model_config = ConfigDict(extra="forbid", strict=True)

    prediction_id: str
    label: _Whole | _Finite | str | Annotated[list[_Whole | str], Field(max_length=1000)] | None = None
    loss: _Finite | None = None
    """From 0 (right) to 1, for tasks whose answers no label judges."""


def read_told(body: bytes, most: int) -> tuple[list[Told], bool]:
    """What a body says, and whether it may say it of several."""
    if len(body) > QUICK and body.count(b"[") + body.count(b"{") > OPENED * most:
        # Each takes many times the memory of its text, and time in which nothing else can run.
        raise ProblemError(
            TOO_LARGE, f"a request may have {most} labels, and this has more lists and objects than they"
        )
    try:
        value = read_json(body)
    except ValueError as error:
        raise ProblemError(MALFORMED, f"the body is no JSON: {error}") from error
    if not isinstance(value, dict):
        raise InputError([Problem(0, "body", f'expected an object: prediction_id and label, or {{"{MANY}": [...]}}')])
    many = MANY in value
    given = value[MANY] if many else [value]
    if many and (len(value) > 1 or not isinstance(given, list) or not given):
        raise InputError([Problem(0, MANY, "expected a list with at least one object, and nothing beside it")])
    if len(given) > most:
        raise ProblemError(TOO_LARGE, f"a request may have {most} labels, got {len(given)}")
    told: list[Told] = []
    problems: list[Problem] = []
    for index, one in enumerate(given):
        # Of thousands, not each is to be named.
        if isinstance(one, dict) and len(one) > len(Item.model_fields):
            unknown = next(name for name in one if name not in Item.model_fields)
            problems.append(Problem(index, str(unknown)[:80], "Extra inputs are not permitted"))
            continue
        try:
            item = Item.model_validate(one)
        except ValidationError as error:
            first = error.errors(include_url=False, include_input=False)[0]
            problems.append(Problem(index, str(first["loc"][0])[:80] if first["loc"] else "body", first["msg"]))
            continue
        if (item.label is None) == (item.loss is None):
            problems.append(Problem(index, "label", "expected a label or a loss, one of them"))
        told.append((item.prediction_id, item.label, item.loss))
    if len(problems) > FAULTS:
        detail = f"{len(problems)} faults, the first {FAULTS} in errors"
        raise ProblemError(INVALID_INPUT, detail, errors=problems[:FAULTS])
    if problems:
        raise InputError(problems)
    return told, many
