"""What the verbs of this room return."""

from __future__ import annotations

from dataclasses import dataclass

from ..evidence import Compression, Finding
from ..model import LoadedModel
from ..runtime import Artifact


@dataclass(frozen=True, slots=True)
class Quantized:
    """A graph in int8 on disk, for one engine."""

    artifact: Artifact
    report: Compression
    findings: tuple[Finding, ...] = ()
    arch: str | None = None
    """As in an export: of compiled code."""
    isa: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Reshaped:
    """A module that was pruned, distilled, or trained with fake quantization; every engine can take it."""

    model: LoadedModel
    report: Compression
    findings: tuple[Finding, ...] = ()
