"""What a check found."""

from __future__ import annotations

import json
from dataclasses import dataclass

from ..evidence import Finding, Severity

_ORDER: tuple[Severity, ...] = ("error", "warning", "note")


@dataclass(frozen=True, slots=True)
class CheckReport:
    """The findings, the worst first; the rules that could not apply, with the reason; the time it took."""

    findings: tuple[Finding, ...]
    skipped: tuple[str, ...] = ()
    seconds: float = 0.0

    @property
    def worst(self) -> Severity | None:
        """The highest severity found; None where nothing was."""
        return self.findings[0].severity if self.findings else None

    def json(self) -> str:
        findings = [finding.model_dump() for finding in self.findings]
        out = {"worst": self.worst, "findings": findings, "skipped": self.skipped, "seconds": round(self.seconds, 3)}
        return json.dumps(out, indent=2)

    def __str__(self) -> str:
        lines = [f"{f.severity} {f.rule} at {f.where}: {f.why}\n  remedy: {f.remedy}" for f in self.findings]
        return "\n".join(lines) or "nothing to say against it"


def worst_first(findings: list[Finding]) -> tuple[Finding, ...]:
    return tuple(sorted(findings, key=lambda finding: _ORDER.index(finding.severity)))
