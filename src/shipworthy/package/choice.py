"""Which variant of a package a host may and can run."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from ..errors import NoUsableVariant
from ..runtime import ENGINES, Host, unmet
from .manifest import Variant
from .read import Package

_CODE = "carries executable code; it is opened only when that is allowed (--allow-code, allow_code=True)"


@dataclass(frozen=True, slots=True)
class Choice:
    """The first variant that may run here, and the id and reason of each that was passed over before it."""

    variant: Variant
    passed_over: tuple[tuple[str, str], ...]


def obstacle(variant: Variant, host: Host, *, allow_code: bool = False) -> str | None:
    """Why a variant may not or cannot run on this host, or None."""
    if variant.requires.executes_code and not allow_code:
        return _CODE
    if variant.requires.engine not in ENGINES:
        return f"this version does not know the engine {variant.requires.engine!r}; update shipworthy"
    return unmet(variant.requires, host)


def choose_variant(package: Package, host: Host, *, allow_code: bool = False) -> Choice:
    """Take the first variant, in the package's order, that this host meets.

    Raises NoUsableVariant with every reason."""
    passed: list[tuple[str, str]] = []
    for variant in package.manifest.variants:
        reason = obstacle(variant, host, allow_code=allow_code)
        if reason is None:
            return Choice(variant, tuple(passed))
        passed.append((variant.id, reason))
    raise none_usable(package, passed)


def none_usable(package: Package, passed: Sequence[tuple[str, str]]) -> NoUsableVariant:
    """The error that names every variant with its reason."""
    return NoUsableVariant(
        str(package.path),
        "no variant can be used here: " + "; ".join(f"{name}: {reason}" for name, reason in passed),
        "install an engine that one of them needs, or build the package for this host",
    )
