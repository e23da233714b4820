"""How busy the host is with other things while nothing is measured."""

from __future__ import annotations

from ..evidence import Finding

BUSY = 0.2
"""Share of all processors; above it measured speeds scatter, and what is faster may not be proven so."""


def busy_share(seconds: float = 0.5) -> float:
    """The share of the processors' time that others take, seen while this process waits."""
    import psutil

    return float(psutil.cpu_percent(interval=seconds)) / 100


def load_findings(share: float) -> tuple[Finding, ...]:
    if share <= BUSY:
        return ()
    return (
        Finding(
            rule="busy-host",
            severity="warning",
            where="this host",
            why=f"other processes take {share:.0%} of the processors, so that measured speeds scatter",
            remedy="build where nothing else runs, or read the bounds of the speeds rather than their means",
        ),
    )
