"""What a monitor needs of a package."""

from __future__ import annotations

from pathlib import Path
from typing import TypeAlias

from ..contract import Contract
from ..errors import MonitorError
from ..package import Package, read_package
from ..signals import Reference, read_reference

Watched: TypeAlias = str | Path | Package | tuple[Contract, Reference | None]
"""A package, or what is needed of one."""


def opened(watched: Watched, variant: str | None) -> tuple[Contract, Reference | None, str, str]:
    """The contract, the reference, the variant and a name for the version."""
    if isinstance(watched, tuple):
        return *watched, variant or "", ""
    if isinstance(watched, Package):
        chosen = variant or watched.manifest.variants[0].id
        if chosen not in (known := [each.id for each in watched.manifest.variants]):
            raise MonitorError(str(watched.path), f"has no variant {chosen!r}", f"the variants are {', '.join(known)}")
        path = watched.reference(chosen)
        reference = None if path is None else read_reference(path, f"{watched.path}/{path.name}")
        return watched.contract, reference, chosen, watched.digest[:12]
    with read_package(watched) as package:
        return opened(package, variant)
