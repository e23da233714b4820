"""Names of versions: `digits`, `digits@champion`, `digits:3`."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from pathlib import Path

from ..errors import RegistryError

CHAMPION = "champion"
"""The alias that a bare name means."""

MODEL = re.compile(r"[a-z0-9][a-z0-9._-]{0,62}")
"""What a contract allows as a name, and so what a manifest has."""
ALIAS = re.compile(r"[A-Za-z][A-Za-z0-9._-]{0,62}")
"""Starts with a letter, so that none looks like a number."""
_NUMBER = re.compile(r"[1-9][0-9]{0,8}")

_FORMS = "write digits, digits@champion or digits:3"


@dataclass(frozen=True, slots=True)
class Reference:
    """A version by its number, or by an alias: exactly one of both is given."""

    model: str
    number: int | None = None
    alias: str | None = None

    def __post_init__(self) -> None:
        check_model(self.model)
        if (self.number is None) == (self.alias is None):
            raise RegistryError(self.model, "is asked for by a number or by an alias, by one of them", _FORMS)
        if self.number is not None and not 1 <= self.number < 10**9:
            raise RegistryError(f"{self.model}:{self.number}", "has a number that no version has", "they start at 1")
        if self.alias is not None:
            check_alias(self.alias)

    def __str__(self) -> str:
        return f"{self.model}:{self.number}" if self.alias is None else f"{self.model}@{self.alias}"


def parse(name: str | Reference) -> Reference:
    """What a name means; a bare `digits` is `digits@champion`. Raises RegistryError where it is none."""
    if isinstance(name, Reference):
        return name
    model, colon, number = name.partition(":")
    if colon:
        if not _NUMBER.fullmatch(number):
            raise RegistryError(repr(name), f"{number!r} is no number of a version", _FORMS)
        return Reference(model, number=int(number))
    model, at, alias = name.partition("@")
    return Reference(model, alias=alias if at else CHAMPION)


def check_model(model: str) -> str:
    """The name itself. Raises RegistryError where no model can be called that."""
    if not MODEL.fullmatch(model):
        rule = "a model has lower-case letters, digits and ._- in its name, at most 63, and starts with no sign"
        raise RegistryError(repr(model), f"is no name of a model: {rule}", _FORMS)
    return model


def check_alias(alias: str) -> str:
    """The alias itself. Raises RegistryError where none can be called that."""
    if not ALIAS.fullmatch(alias):
        rule = "it starts with a letter and has letters, digits and ._-, at most 63"
        raise RegistryError(repr(alias), f"is no alias: {rule}", "champion and challenger are usual")
    return alias


def is_path(text: str | Path) -> bool:
    """Whether a user means a path with this: one that exists, has a separator, or ends in .ship or .zip."""
    path = Path(text)
    separators = {"/", os.sep, os.altsep or os.sep}
    if path.suffix in (".ship", ".zip") or any(sign in str(text) for sign in separators):
        return True
    try:
        return path.exists()
    except OSError:  # the name is longer than that of any file
        return False


def locate(text: str | Path, registry_url: str | Path | None = None) -> Path:
    """The package that a user means: a path, or a name of the registry, which is pulled into the local cache.

    Raises RegistryError, or PackageError for a stored package that is damaged."""
    if is_path(text):
        return Path(text)
    name = parse(str(text))
    from .registry import Registry  # a path needs no database

    with Registry(registry_url, create=False) as registry:
        return registry.pull(name)
